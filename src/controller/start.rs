//! Puts the controller together and takes it down again in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Sink};
use crate::github;
use crate::serve::{self, Health, Metrics, Part, Server};

use super::connection;
use super::context::Context;
use super::events::Events;
use super::hooks::{Aside, HooksAt};
use super::judge::Judge;
use super::lease::{self, Election};
use super::lists::Lists;
use super::memory::{GateKey, Memory};
use super::precedence::Precedence;
use super::run::{self, Scope};
use super::watch::RouteBook;
use super::webhook::{self, HoldBy, Webhook};
use super::{guard, survey};

/// How long passes in flight may take to end after the stop.
const GRACE: Duration = Duration::from_secs(20);

/// How the controller runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the operator runs: its lease and its Secrets are there.
    pub namespace: String,
    /// Where gates are looked for; everywhere when absent.
    pub watch: Option<String>,
    /// Where health and metrics are answered.
    pub listen: SocketAddr,
    /// What holds a changed template until it is proven.
    pub hold: HoldBy,
    /// Where the hold is served with TLS, when this process has to.
    pub hold_listen: SocketAddr,
    /// Where other tools ask for decisions, when they may.
    pub hooks: Option<HooksAt>,
    /// The name of the lease.
    pub lease: String,
    /// How long others leave a silent leader alone; it stops raising after two thirds of it.
    pub lease_duration: Duration,
    /// This replica's name.
    pub pod: String,
    /// Where the audit log is exported.
    pub audit: Sink,
    /// The Secret, in the operator's namespace, with credentials for GitHub.
    pub github: Option<GitHub>,
}

/// Where GitHub is and who we are there.
#[derive(Debug, Clone)]
pub struct GitHub {
    /// Address of the API.
    pub url: String,
    /// Name of the Secret: key `token`, or keys `appId` and `privateKey`.
    pub secret: String,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No cluster.
    #[error("no cluster to work for: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The cluster's configuration cannot be used, or it does not answer.
    #[error("the API server: {0}")]
    Kube(#[from] kube::Error),
    /// The lease's times do not fit together.
    #[error("{0}")]
    Lease(#[from] lease::SettingsError),
    /// The address cannot be served.
    #[error("{0}")]
    Serve(#[from] serve::ServeError),
    /// The audit log cannot be opened.
    #[error("{0}")]
    Audit(#[from] crate::audit::AuditError),
    /// GitHub's credentials cannot be used.
    #[error("GitHub: {0}")]
    GitHub(String),
}

/// Runs until `stop`, then lets passes end and gives the lease back.
///
/// # Errors
/// When something that is needed is not there at the start.
pub async fn start(settings: Settings, stop: CancellationToken) -> Result<(), StartError> {
    let config = Config::infer().await?;
    let client = connection::client(config.clone())?;
    let metrics = Metrics::new();
    let health = Health::default();
    let server = Server::bind(settings.listen)?;
    let ended = CancellationToken::new();
    let serving = tokio::spawn(server.run(serve::router(metrics.clone(), health.clone()), ended.clone()));

    let serves = settings.hold.serves(&client).await?;
    let holding = webhook::bind(serves, settings.hold_listen, &health)?.map(|server| {
        let webhook = Webhook {
            client: client.clone(),
            namespace: settings.namespace.clone(),
        };
        tokio::spawn(webhook.run(server, health.clone(), ended.clone()))
    });

    let terms = terms(&settings);
    let (election, leadership) = Election::new(terms.client(config)?, terms)?;
    let resigned = CancellationToken::new();
    let electing = tokio::spawn(election.run(resigned.clone()));

    let (events, publisher) = Events::new(client.clone(), Some(settings.pod.clone()));
    let publishing = tokio::spawn(publisher.run());
    let (github, outbox) = match &settings.github {
        Some(github) => reporter(&client, &settings.namespace, github).await?,
        None => (None, None),
    };
    let counting = github
        .clone()
        .map(|github| tokio::spawn(count_reports(metrics.clone(), github)));
    let scope = Scope {
        namespace: settings.watch.clone(),
    };
    let caches = run::caches(&client, &scope);
    let aside = settings
        .hooks
        .map(|hooks| Aside::bind(hooks, &client, &scope))
        .transpose()?;
    let (judge, woken) = Judge::new();
    let dropped = metrics.clone();
    let audit = Audit::open(&settings.audit, None, move || dropped.audit_dropped())?;
    let context = Arc::new(Context {
        autoscalers: guard::kinds(&client).await,
        optional: survey::Optional::discover(&client).await,
        client,
        namespace: settings.namespace,
        workloads: caches.workloads.clone(),
        actions: caches.actions.clone(),
        sources: caches.sources.clone(),
        pauses: settings.hold == HoldBy::Pause,
        routes: RouteBook::default(),
        precedence: Precedence::default(),
        lists: Lists::default(),
        memory: Memory::default(),
        judge: Arc::new(judge),
        leadership,
        metrics: Arc::new(metrics),
        events,
        audit,
        github,
    });
    let telling = tokio::spawn(tell_health(Arc::clone(&context), health.clone(), caches.ready()));
    tracing::info!(
        watch = scope.namespace.as_deref().unwrap_or("all namespaces"),
        "started"
    );
    let unready = health.clone();
    let stopping = stop.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        unready.stop();
    });
    let (woken, alone_woken) = sorted(woken);
    let answering = aside.map(|aside| {
        let gates = (caches.gates.clone(), caches.ready());
        aside.begin(&context, gates, alone_woken, (&stop, &ended))
    });
    run::run(Arc::clone(&context), caches, scope, woken, stop.clone()).await;

    tracing::info!("stopping");
    resigned.cancel();
    let _ = tokio::time::timeout(GRACE, electing).await;
    if !context.audit.flush(Duration::from_secs(2)) {
        tracing::warn!("the export of the audit log is not complete");
    }
    for task in [telling, publishing] {
        task.abort();
    }
    for task in [outbox, counting].into_iter().flatten() {
        task.abort();
    }
    ended.cancel();
    let _ = tokio::time::timeout(GRACE, serving).await;
    for task in holding.into_iter().chain(answering.into_iter().flatten()) {
        let _ = tokio::time::timeout(GRACE, task).await;
    }
    Ok(())
}

/// When the lease is renewed, and when others may take it.
fn terms(settings: &Settings) -> lease::Settings {
    let mut terms = lease::Settings::new(&settings.namespace, &settings.lease, &settings.pod);
    terms.lease = settings.lease_duration;
    terms.renew = settings.lease_duration * 2 / 3;
    terms.retry = settings.lease_duration / 8;
    terms
}

type Woken = mpsc::UnboundedReceiver<GateKey>;

/// Whom the judge wakes: gates, and analyses that stand alone.
fn sorted(mut woken: Woken) -> (Woken, Woken) {
    let ((gates, gates_woken), (alone, alone_woken)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    tokio::spawn(async move {
        while let Some(key) = woken.recv().await {
            let to = if key.is_alone().is_some() { &alone } else { &gates };
            // Nobody listens to one of them only when there are none of its kind, or at the end.
            let _ = to.send(key);
        }
    });
    (gates_woken, alone_woken)
}

/// Says when the caches are full and the lease is known, and whether we lead.
async fn tell_health(context: Arc<Context>, health: Health, caches: impl Future<Output = ()>) {
    caches.await;
    health.set(Part::Caches, true);
    loop {
        health.set(Part::Lease, context.leadership.known());
        context
            .metrics
            .leads(context.leadership.may_raise(tokio::time::Instant::now()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Counts what becomes of reports to GitHub, for ever.
async fn count_reports(metrics: Metrics, github: github::Reporter) {
    let mut changed = github.changed();
    let mut before = github::Counters::default();
    loop {
        let now = github.counters();
        for (result, times) in became(&before, &now).into_iter().filter(|(_, times)| *times > 0) {
            metrics.reported(result, times);
        }
        before = now;
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// How many reports had each outcome between two readings.
fn became(before: &github::Counters, now: &github::Counters) -> [(serve::Report, u64); 4] {
    use serve::Report;
    let since = |count: fn(&github::Counters) -> u64| count(now).saturating_sub(count(before));
    [
        (Report::Posted, since(|all| all.posted + all.unchanged)),
        (Report::Retried, since(|all| all.put_off)),
        (Report::Refused, since(|all| all.given_up)),
        (Report::Dropped, since(|all| all.coalesced + all.dropped)),
    ]
}

type Reporting = (Option<github::Reporter>, Option<tokio::task::JoinHandle<()>>);

/// Signs in to GitHub with what the Secret holds.
async fn reporter(client: &Client, namespace: &str, github: &GitHub) -> Result<Reporting, StartError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api.get(&github.secret).await?;
    let text = |key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        String::from_utf8(value.0.clone())
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let credentials = match (text("token"), text("appId"), text("privateKey")) {
        (Some(token), None, None) => github::Credentials::Token(token.into()),
        (None, Some(id), Some(key)) => github::Credentials::App {
            id: id
                .parse()
                .map_err(|_| StartError::GitHub(format!("appId is {id:?}; it must be the App's number")))?,
            private_key: key.into(),
            installation: None,
        },
        _ => {
            let wanted = "key token, or keys appId and privateKey";
            return Err(StartError::GitHub(format!(
                "Secret {namespace}/{}: it must hold {wanted}",
                github.secret
            )));
        }
    };
    let mut settings = github::Settings::new(credentials);
    settings.url.clone_from(&github.url);
    let client = github::GitHub::new(&settings).map_err(|error| StartError::GitHub(error.to_string()))?;
    let (reporter, outbox) = github::Outbox::new(client, github::Pacing::default());
    Ok((Some(reporter), Some(tokio::spawn(outbox.run()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_counted_by_what_became_of_them_since_the_last_reading() {
        let before = github::Counters {
            posted: 2,
            given_up: 1,
            ..github::Counters::default()
        };
        let now = github::Counters {
            posted: 3,
            unchanged: 1,
            coalesced: 2,
            dropped: 1,
            given_up: 1,
            put_off: 4,
            waiting: 9,
        };
        let times = became(&before, &now).map(|(_, times)| times);
        assert_eq!(times, [2, 4, 0, 3]);
    }

    #[tokio::test]
    async fn a_report_that_cannot_be_made_shows_in_the_metrics() {
        let settings = github::Settings::new(github::Credentials::Token(String::from("token").into()));
        let client = github::GitHub::new(&settings).expect("a client");
        let (reporter, _outbox) = github::Outbox::new(client, github::Pacing::default());
        let metrics = Metrics::new();
        let counting = tokio::spawn(count_reports(metrics.clone(), reporter.clone()));
        reporter.submit(github::Report {
            gate_uid: "u-1".into(),
            gate: "shop/checkout".into(),
            repository: "acme/shop".into(),
            environment: "production".into(),
            sha: "no commit".into(),
            revision: "0123456789".into(),
            state: github::ReportState::Preparing,
            description: String::new(),
            log_url: None,
        });
        let refused = r#"tollgate_github_reports_total{result="refused"} 1"#;
        while !metrics.encode().expect("text").lines().any(|line| line == refused) {
            tokio::task::yield_now().await;
        }
        counting.abort();
    }
}
