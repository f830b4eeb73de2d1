//! `tollgate controller`: the operator itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::api::labels;
use crate::audit::Sink;
#[cfg(feature = "crash-points")]
use crate::controller::crash;
use crate::controller::hooks::HooksAt;
use crate::controller::start::{self, GitHub, Settings};
use crate::controller::webhook::HoldBy;
use crate::telemetry::{self, Format, Telemetry};

/// Runs the operator. It works for the cluster it runs in, or for the one in KUBECONFIG.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look for gates in this namespace only; in all of them by default
    #[arg(long, env = "TOLLGATE_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    watch_namespace: Option<String>,
    /// The operator's own namespace: its lease and its Secrets are there
    #[arg(long, env = "TOLLGATE_NAMESPACE", value_name = "NAMESPACE", default_value = labels::NAMESPACE)]
    namespace: String,
    /// Answer health and metrics here
    #[arg(
        long,
        env = "TOLLGATE_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    listen: SocketAddr,
    /// What holds a changed template until it is proven; by default a policy inside the API server
    /// where it has them (Kubernetes 1.36 and later), and this process as a webhook elsewhere
    #[arg(long, env = "TOLLGATE_HOLD", value_name = "BY", value_enum, default_value_t)]
    hold: Hold,
    /// Serve the hold's webhook here, with TLS, when it is needed
    #[arg(
        long,
        env = "TOLLGATE_HOLD_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    hold_listen: SocketAddr,
    /// Answer other tools that ask for decisions here, with TLS, and judge for those that move the
    /// traffic themselves; by default neither
    #[arg(long, env = "TOLLGATE_HOOKS_LISTEN", value_name = "ADDRESS")]
    hooks_listen: Option<SocketAddr>,
    /// The name or address that those tools use; by default that of the Service
    #[arg(long, env = "TOLLGATE_HOOKS_HOST", value_name = "HOST", requires = "hooks_listen")]
    hooks_host: Option<String>,
    /// Name of the lease that the leader holds
    #[arg(long, env = "TOLLGATE_LEASE", value_name = "NAME", default_value = "tollgate")]
    lease: String,
    /// How long others leave a silent leader alone, in seconds
    #[arg(long, env = "TOLLGATE_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300))]
    lease_seconds: u64,
    /// This replica's name
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "tollgate")]
    pod: String,
    /// Append the audit log to this file; to standard output by default
    #[arg(long, env = "TOLLGATE_AUDIT_FILE", value_name = "FILE")]
    audit_file: Option<PathBuf>,
    /// Report releases to GitHub with the credentials in this Secret of the operator's namespace:
    /// key token, or keys appId and privateKey
    #[arg(long, env = "TOLLGATE_GITHUB_SECRET", value_name = "SECRET")]
    github_secret: Option<String>,
    /// How log lines look; by default text on a terminal and JSON elsewhere
    #[arg(long, env = "TOLLGATE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Address of GitHub's API
    #[arg(
        long,
        env = "TOLLGATE_GITHUB_URL",
        value_name = "URL",
        default_value = "https://api.github.com"
    )]
    github_url: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// What holds a changed template until it is proven.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Hold {
    /// What fits the cluster
    #[default]
    Auto,
    /// The policy inside the API server
    Policy,
    /// This process, as a webhook
    Webhook,
    /// A pause at rest, where neither policy nor webhook may be installed: adopted Deployments stay
    /// paused between releases, and whoever resumes one lets its template through, which is adopted
    /// and said
    Paused,
    /// Something else that you look after; without it a change rolls out unproven
    None,
}

impl From<Hold> for HoldBy {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::Auto => Self::Auto,
            Hold::Policy => Self::Policy,
            Hold::Webhook => Self::Webhook,
            Hold::Paused => Self::Pause,
            Hold::None => Self::Nothing,
        }
    }
}

impl Args {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// What is missing at the start, for people.
    pub async fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let telemetry = Telemetry::start(&telemetry::Settings::from_env(self.log_format.map(Format::from)))?;
        #[cfg(feature = "crash-points")]
        crash::arm()?;
        let stop = CancellationToken::new();
        tokio::spawn(stopped(stop.clone()));
        let host = self
            .hooks_host
            .unwrap_or_else(|| format!("{}.{}.svc", labels::HOOKS, self.namespace));
        let settings = Settings {
            hooks: self.hooks_listen.map(|listen| HooksAt { listen, host }),
            namespace: self.namespace,
            watch: self.watch_namespace,
            listen: self.listen,
            hold: self.hold.into(),
            hold_listen: self.hold_listen,
            lease: self.lease,
            lease_duration: Duration::from_secs(self.lease_seconds),
            pod: self.pod,
            audit: self.audit_file.map_or(Sink::Stdout, Sink::File),
            github: self.github_secret.map(|secret| GitHub {
                url: self.github_url,
                secret,
            }),
        };
        let ended = start::start(settings, stop).await;
        telemetry.shutdown().await;
        Ok(ended?)
    }
}

/// Waits for the first signal to stop. A second one ends the process at once, as usual.
async fn stopped(stop: CancellationToken) {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    stop.cancel();
}
