//! Decisions for other tools: served with TLS by every replica, whoever leads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use kube::Client;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{CanaryAnalysis, MetricReading, ReleaseGate, labels};
use crate::routers::Rollout;
use crate::serve::decisions::{self, Records};
use crate::serve::{Callers, ServeError, Server};

use super::context::Context;
use super::external;
use super::judge::Judge;
use super::memory::GateKey;
use super::objects::Gate;
use super::run::Scope;
use super::shown;

/// What brings the Secret.
const FILE: &str = "config/install/1-access.yaml";

/// What the answers are taken from: the caches of the watches, and the judge's memory.
struct Book {
    /// Gates.
    gates: Store<Gate>,
    /// Analyses whose traffic somebody else moves.
    analyses: Store<CanaryAnalysis>,
    /// Who moves it.
    rollouts: Store<Rollout>,
    /// What is being measured.
    judge: Arc<Judge>,
}

impl Records for Book {
    fn gate(&self, namespace: &str, name: &str) -> Option<Arc<ReleaseGate>> {
        let found = self.gates.get(&ObjectRef::new(name).within(namespace))?;
        found.0.as_ref().ok().cloned().map(Arc::new)
    }

    fn analysis(&self, namespace: &str, name: &str) -> Option<Arc<CanaryAnalysis>> {
        let found = self.analyses.get(&ObjectRef::new(name).within(namespace))?;
        found.spec.external.is_some().then_some(found)
    }

    fn weight_at(&self, analysis: &CanaryAnalysis, step: usize) -> Option<i64> {
        let external = analysis.spec.external.as_ref()?;
        let namespace = analysis.metadata.namespace.as_deref()?;
        let rollout = self
            .rollouts
            .get(&ObjectRef::new(&external.rollout).within(namespace))?;
        rollout.weight_at(step)
    }

    fn numbers(&self, namespace: &str, name: &str) -> Vec<MetricReading> {
        let key = GateKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let judged = self.judge.judged(&key);
        judged
            .iter()
            .flat_map(|judged| &judged.readings)
            .map(MetricReading::from)
            .collect()
    }
}

/// Where decisions are served.
#[derive(Debug, Clone)]
pub struct HooksAt {
    /// The address.
    pub listen: SocketAddr,
    /// The name that callers use; the certificate is for it.
    pub host: String,
}

/// What this process does for tools that move traffic themselves: it answers them, and follows them.
pub struct Aside {
    server: Server,
    host: String,
    caches: external::Caches,
}

impl Aside {
    /// Binds the address and prepares the watches.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(at: HooksAt, client: &Client, scope: &Scope) -> Result<Self, ServeError> {
        Ok(Self {
            server: Server::bind(at.listen)?,
            host: at.host,
            caches: external::caches(client, scope),
        })
    }

    /// Begins both: following ends with `stop`, answering when everything else has `ended`.
    pub fn begin(
        self,
        context: &Arc<Context>,
        (gates, filled): (Store<Gate>, impl Future<Output = ()> + Send + 'static),
        woken: mpsc::UnboundedReceiver<GateKey>,
        (stop, ended): (&CancellationToken, &CancellationToken),
    ) -> [JoinHandle<Result<(), ServeError>>; 2] {
        let book = Book {
            gates,
            analyses: self.caches.analyses.clone(),
            rollouts: self.caches.rollouts.clone(),
            judge: Arc::clone(&context.judge),
        };
        let seen = self.caches.ready();
        let filled = async move {
            tokio::join!(filled, seen);
        };
        let hooks = Hooks {
            client: context.client.clone(),
            namespace: context.namespace.clone(),
            host: self.host,
        };
        let following = external::run(Arc::clone(context), self.caches, woken, stop.clone());
        [
            tokio::spawn(hooks.run(self.server, (book, filled), ended.clone())),
            tokio::spawn(async move {
                following.await;
                Ok(())
            }),
        ]
    }
}

/// What keeps the hooks going.
struct Hooks {
    /// For the certificate, and to ask who asks.
    client: Client,
    /// Where the Secret with the certificate is.
    namespace: String,
    /// The name that callers use.
    host: String,
}

impl Hooks {
    /// Serves decisions until `stop`, once `filled` says that the caches have seen everything:
    /// before that nobody is told that something does not exist.
    ///
    /// # Errors
    /// When the listener fails.
    async fn run(
        self,
        server: Server,
        (book, filled): (Book, impl Future<Output = ()>),
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        if stop.run_until_cancelled(filled).await.is_none() {
            return Ok(());
        }
        let router = decisions::router(Arc::new(book), Callers::new(self.client.clone()));
        let place = (self.namespace.as_str(), labels::HOOKS, FILE);
        let look = || Box::pin(shown::certificate(&self.client, place, &self.host, SystemTime::now()));
        shown::serve("the hooks' listener", (server, router), (look, || {}), stop).await
    }
}
