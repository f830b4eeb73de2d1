//! What every pass shares: the client, the caches, and the one way to write.

use std::sync::Arc;
use std::time::Duration;

use kube::api::ApiResource;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};

use crate::api::{Analysis, EvidenceSource, GateAction, GitHubStatus, ReleaseGate, labels};
use crate::audit::Audit;
use crate::decision::{Millis, Revision};
use crate::github;
use crate::routers;
use crate::serve::{Fault, Kind, Metrics, Verb};

use super::crash;
use super::events::Events;
use super::frozen::{Asked, Frozen};
use super::gather::Subject;
use super::judge::Judge;
use super::lease::Leadership;
use super::lists::Lists;
use super::memory::Memory;
use super::precedence::Precedence;
use super::survey::Optional;
use super::watch::{RouteBook, Workload};

/// Longest wait for one answer of the API server.
const CALL: Duration = Duration::from_secs(5);

/// Everything a pass may use.
pub struct Context {
    /// For calls; it never retries by itself.
    pub client: Client,
    /// Where the operator runs, and where its Secrets are.
    pub namespace: String,
    /// Deployments that carry our label.
    pub workloads: Store<Workload>,
    /// Requests.
    pub actions: Store<GateAction>,
    /// Evidence sources.
    pub sources: Store<EvidenceSource>,
    /// Whether adopted Deployments are kept paused at rest, as their hold.
    pub pauses: bool,
    /// Routes that carry a split, and those of releases that are about to begin.
    pub routes: RouteBook,
    /// Weights go before what is only told.
    pub precedence: Precedence,
    /// Lists that many releases ask for at once.
    pub lists: Lists,
    /// What the gatekeeper keeps between passes.
    pub memory: Memory,
    /// The judge.
    pub judge: Arc<Judge>,
    /// Whether this process may raise.
    pub leadership: Leadership,
    /// Numbers about ourselves.
    pub metrics: Arc<Metrics>,
    /// Kubernetes events.
    pub events: Events,
    /// The export of the audit log.
    pub audit: Audit,
    /// Kinds that scale Deployments in this cluster.
    pub autoscalers: Vec<ApiResource>,
    /// Kinds that only some clusters have.
    pub optional: Optional,
    /// GitHub deployments, when credentials are given.
    pub github: Option<github::Reporter>,
}

impl Context {
    /// The time. Only here, so that everything below is told it.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(jiff::Timestamp::now().as_millisecond())
    }

    /// A Deployment with our label.
    #[must_use]
    pub fn workload(&self, namespace: &str, name: &str) -> Option<Arc<Workload>> {
        self.workloads.get(&ObjectRef::new(name).within(namespace))
    }

    /// The router for a namespace's routes.
    #[must_use]
    pub fn router(&self, namespace: &str) -> routers::GatewayApi {
        routers::GatewayApi::new(self.client.clone(), namespace)
    }

    /// The plan of a gate's attempt, when it is frozen and known.
    #[must_use]
    pub fn frozen(&self, subject: &Subject<'_>, epoch: i64) -> Option<Arc<Frozen>> {
        let uid = subject.gate.uid().unwrap_or_default();
        let frozen = self.memory.read(&subject.key, &uid, |known| known.frozen.clone())?;
        (frozen.spec.epoch == epoch && frozen.object.is_some()).then_some(frozen)
    }

    /// The source that a gate names, or the one that is marked as default.
    #[must_use]
    pub fn asked(&self, analysis: &Analysis) -> Asked {
        let named = |name: &String| self.sources.get(&ObjectRef::<EvidenceSource>::new(name));
        let source = match &analysis.source {
            Some(name) => named(name),
            None => self.sources.state_filter(|source| source.spec.default).first().cloned(),
        };
        let connection = source.as_ref().and_then(|source| source.spec.prometheus.as_ref());
        let name = source
            .as_ref()
            .map(|source| source.name_any())
            .or_else(|| analysis.source.clone());
        Asked {
            name: name.unwrap_or_else(|| "default".to_owned()),
            interval: connection.map_or(10, |connection| i64::from(connection.interval_seconds)),
            scrape: connection.map_or(15, |connection| i64::from(connection.scrape_seconds)),
        }
    }

    /// The commit that a revision was made from, as the annotation or label of the gate's Deployment
    /// says while it carries that revision.
    #[must_use]
    pub fn commit(&self, gate: &ReleaseGate, revision: &Revision) -> Option<String> {
        let workload = self.workload(&gate.namespace()?, &gate.spec.target.workload.name)?;
        let from = gate
            .spec
            .github
            .as_ref()
            .and_then(|github| github.commit_from.as_deref());
        (workload.spec.revision.as_ref() == Some(revision))
            .then(|| workload.commit(from.unwrap_or(labels::COMMIT)))
            .flatten()
    }

    /// Where the last report of a gate stands at GitHub.
    #[must_use]
    pub fn github_status(&self, subject: &Subject<'_>) -> Option<GitHubStatus> {
        subject.gate.spec.github.as_ref()?;
        let outcome = self.github.as_ref()?.outcome(subject.gate.metadata.uid.as_deref()?)?;
        let (deployment, error) = match outcome.told {
            github::Told::Done { deployment } => (deployment, None),
            github::Told::Waiting { message, .. } | github::Told::GivenUp { message, .. } => (None, Some(message)),
        };
        Some(GitHubStatus {
            deployment: deployment.and_then(|id| i64::try_from(id).ok()),
            state: Some(outcome.state.word().to_owned()),
            error,
        })
    }

    /// Whether a request was answered by us although the watch does not show it yet.
    #[must_use]
    pub fn answered(&self, action: &GateAction) -> bool {
        action.uid().is_some_and(|uid| self.memory.answered(&uid))
    }

    /// Performs one write: under a deadline, as a named crash point, and counted.
    ///
    /// # Errors
    /// What the API server said, or that it said nothing in time. Then the write may have happened.
    pub async fn write<T, E: Into<Error>>(
        &self,
        write: crash::Write,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let passing = (write == crash::Write::WriteRoute).then(|| self.precedence.enter());
        let result = crash::around(write, bounded(write.word(), call)).await;
        drop(passing);
        let (kind, verb) = counted(write);
        self.metrics.wrote(kind, verb, result.as_ref().err().map(Error::fault));
        result
    }
}

/// Why a pass could not be finished. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("the API server: {0}")]
    Kube(#[from] kube::Error),
    /// A route could not be written.
    #[error("{0}")]
    Router(#[from] routers::Error),
    /// No answer in time.
    #[error("no answer to {0:?} within {secs} s", secs = CALL.as_secs())]
    Timeout(&'static str),
    /// The object changed between reading and writing; it is read again.
    #[error("{0} was changed by somebody else at the same time")]
    Conflict(String),
    /// Something is not as it must be; the message names it.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// The same from a closed list, for metrics.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Kube(error) => Fault::of(error),
            Self::Router(routers::Error::Conflict(_)) | Self::Conflict(_) => Fault::Conflict,
            Self::Router(routers::Error::Fenced { .. } | routers::Error::Refused { .. }) => Fault::Denied,
            Self::Router(routers::Error::Gone(_)) => Fault::NotFound,
            Self::Router(routers::Error::Timeout(..)) | Self::Timeout(_) => Fault::Timeout,
            Self::Router(routers::Error::Unreachable { .. }) => Fault::Unreachable,
            Self::Router(_) | Self::Refused(_) => Fault::Malformed,
        }
    }

    /// Whether reading again at once is likely to help.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Conflict(_) | Self::Router(routers::Error::Conflict(_)) => true,
            Self::Kube(kube::Error::Api(status)) => status.code == 409,
            _ => false,
        }
    }
}

/// What a write is counted as.
const fn counted(write: crash::Write) -> (Kind, Verb) {
    use crash::Write;
    match write {
        Write::Adopt | Write::Release | Write::Disown => (Kind::Deployment, Verb::Patch),
        Write::ScaleCanary => (Kind::Deployment, Verb::Create),
        Write::Remove => (Kind::Deployment, Verb::Delete),
        Write::Freeze => (Kind::CanaryAnalysis, Verb::Create),
        Write::AnalysisStatus => (Kind::CanaryAnalysis, Verb::Patch),
        Write::GuardStable => (Kind::HorizontalPodAutoscaler, Verb::Patch),
        Write::WriteRoute | Write::Restore | Write::HandBack => (Kind::HttpRoute, Verb::Patch),
        Write::Status | Write::Finalizer => (Kind::ReleaseGate, Verb::Patch),
        Write::Answer => (Kind::GateAction, Verb::Patch),
        Write::Lease => (Kind::Lease, Verb::Update),
    }
}

/// Waits for an answer of the API server, but not for ever.
///
/// # Errors
/// What the call says, or [`Error::Timeout`].
pub async fn bounded<T, E: Into<Error>>(
    what: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL, call).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Error::Timeout(what)),
    }
}
