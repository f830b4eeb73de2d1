//! The connection to a cluster, and what to do when something is wrong with it.

use std::future::Future;
use std::io;
use std::time::Duration;

use kube::config::{KubeConfigOptions, KubeconfigError};
use kube::core::Status;
use kube::{Client, Config};

use super::paint;

/// The longest a call may take.
pub const CALL: Duration = Duration::from_secs(10);
/// The longest it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// After so long it is said what is being waited for.
const QUIET: Duration = Duration::from_secs(2);

/// Which cluster, and where in it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Place {
    /// Namespace; by default that of the kubeconfig's context
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; by default the current one
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// The way to it.
    pub client: Client,
    /// The namespace that is meant when none is named.
    pub namespace: String,
    /// Its address, for messages.
    server: String,
}

/// What is asked of the API server, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The verb of RBAC: get, list, create, patch.
    pub verb: &'static str,
    /// The resource, in plural.
    pub resource: &'a str,
    /// The namespace; empty for all of them.
    pub namespace: &'a str,
}

/// Why a command could not do what it was asked, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no kubeconfig.
    #[error(
        "no cluster to talk to: there is no kubeconfig ({0})\n  set KUBECONFIG to the file you use with kubectl, or put it at ~/.kube/config"
    )]
    NoConfig(String),
    /// The kubeconfig does not know the context.
    #[error("the kubeconfig has no context named {0}\n  `kubectl config get-contexts` lists them")]
    NoContext(String),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used: {0}\n  `kubectl config view` shows what it says")]
    Config(String),
    /// The API server cannot be reached.
    #[error(
        "cannot reach the cluster at {server}: {why}\n  is it up, and is this the cluster you mean? `kubectl config current-context` shows which one"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What the connection said.
        why: String,
    },
    /// The API server does not answer.
    #[error(
        "the cluster at {server} did not answer within {seconds} s ({asked})\n  try again; `kubectl get --raw /readyz` shows how it is"
    )]
    Slow {
        /// Its address.
        server: String,
        /// What was asked.
        asked: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Tollgate is not installed.
    #[error(
        "this cluster does not know Tollgate's objects\n  install it: tollgate manifests | kubectl apply --server-side -f -"
    )]
    NotInstalled,
    /// There is no such gate.
    #[error("there is no gate {name} in namespace {namespace}\n  {}", known_gates(.known, .namespace))]
    NoSuchGate {
        /// The name that was asked for.
        name: String,
        /// Where.
        namespace: String,
        /// The gates that are there.
        known: Vec<String>,
    },
    /// RBAC refuses.
    #[error("you may not {verb} {resource}{}\n  {}", within(.namespace), missing_role(.verb, .resource, .namespace))]
    Forbidden {
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: String,
        /// Where; empty for everywhere.
        namespace: String,
    },
    /// The cluster does not know who asks.
    #[error(
        "the cluster at {0} does not accept your credentials\n  log in again; `kubectl auth whoami` shows who you are"
    )]
    Unauthorized(String),
    /// The API server refused what was written.
    #[error("the cluster refused: {0}")]
    Refused(String),
    /// Arguments that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// The reader of our output has gone away: nothing is wrong.
    #[error("the output was closed")]
    ClosedPipe,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Other(error.to_string()),
        }
    }
}

fn known_gates(known: &[String], namespace: &str) -> String {
    match known {
        [] => format!("there are none in {namespace}; `tollgate status -A` shows those of every namespace"),
        _ => format!("gates there: {}", known.join(", ")),
    }
}

fn within(namespace: &str) -> String {
    if namespace.is_empty() {
        " in all namespaces".to_owned()
    } else {
        format!(" in namespace {namespace}")
    }
}

/// The role that lacks, by what was asked for.
fn missing_role(verb: &str, resource: &str, namespace: &str) -> String {
    let (role, about) = match (verb, resource) {
        (_, "gateactions") => ("tollgate-act", "asking something of a gate"),
        ("get" | "list" | "watch", "releasegates" | "canaryanalyses") => ("tollgate-view", "looking at gates"),
        ("get" | "list" | "watch", _) => ("view", "looking"),
        _ => return format!("ask for a role that may {verb} {resource}"),
    };
    if namespace.is_empty() {
        return format!("name one namespace with -n, or ask for the ClusterRole {role} in all of them ({about})");
    }
    format!(
        "{about} needs the ClusterRole {role}: kubectl create rolebinding {role} -n {namespace} --clusterrole={role} --user=YOU"
    )
}

impl Cluster {
    /// Connects as kubectl would: KUBECONFIG, `~/.kube/config`, or the pod's own service account.
    ///
    /// # Errors
    /// Says what is missing.
    pub async fn connect(place: &Place) -> Result<Self, Trouble> {
        let mut config = config(place).await?;
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        let namespace = place
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| Trouble::Config(chain(&error)))?;
        Ok(Self {
            client,
            namespace,
            server,
        })
    }

    /// Waits for an answer in bounded time; after two seconds it says so.
    ///
    /// # Errors
    /// What went wrong, with what to do about it.
    pub async fn ask<T>(
        &self,
        question: Question<'_>,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Trouble> {
        self.patiently(self.bounded(CALL, question, call)).await
    }

    /// Says after two seconds that the cluster is being waited for.
    pub async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        let slow = async {
            tokio::time::sleep(QUIET).await;
            paint::tell(&format!("waiting for the cluster at {} …", self.server));
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            done = work => done,
            never = slow => match never {},
        }
    }

    /// Waits for an answer, `limit` at most, and says nothing meanwhile.
    ///
    /// # Errors
    /// What went wrong, with what to do about it.
    pub async fn bounded<T>(
        &self,
        limit: Duration,
        question: Question<'_>,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| self.trouble(question, &error)),
            Err(_) => Err(Trouble::Slow {
                server: self.server.clone(),
                asked: format!("{} {}", question.verb, question.resource),
                seconds: limit.as_secs(),
            }),
        }
    }

    /// What an error of the client means.
    pub fn trouble(&self, question: Question<'_>, error: &kube::Error) -> Trouble {
        match error {
            kube::Error::Api(status) => answered(question, status, &self.server),
            kube::Error::Auth(error) => Trouble::Config(chain(error)),
            _ => Trouble::Unreachable {
                server: self.server.clone(),
                why: chain(error),
            },
        }
    }
}

/// What the API server meant.
fn answered(question: Question<'_>, status: &Status, server: &str) -> Trouble {
    let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    match status.code {
        401 => Trouble::Unauthorized(server.to_owned()),
        // admission refuses with 403 too, and says why
        403 if status.message.contains("cannot ") && status.message.contains(" resource ") => Trouble::Forbidden {
            verb: question.verb,
            resource: question.resource.to_owned(),
            namespace: question.namespace.to_owned(),
        },
        404 if !named => Trouble::NotInstalled,
        _ => Trouble::Refused(status.message.clone()),
    }
}

async fn config(place: &Place) -> Result<Config, Trouble> {
    let options = KubeConfigOptions {
        context: place.context.clone(),
        ..KubeConfigOptions::default()
    };
    let error = match Config::from_kubeconfig(&options).await {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if place.context.is_none()
        && let Ok(config) = Config::incluster()
    {
        return Ok(config);
    }
    Err(match error {
        KubeconfigError::LoadContext(name) => Trouble::NoContext(name),
        KubeconfigError::ReadConfig(error, path) if error.kind() == io::ErrorKind::NotFound => {
            Trouble::NoConfig(format!("{} does not exist", path.display()))
        }
        KubeconfigError::FindPath | KubeconfigError::CurrentContextNotSet => Trouble::NoConfig(error.to_string()),
        error => Trouble::Config(chain(&error)),
    })
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}
