//! `tollgate promote | hold | resume | retry`: asks something of a gate and waits for the answer.
//!
//! Asking is creating a `GateAction`: RBAC and policy judge it, and it stays as a record.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::cluster::{Cluster, Output, Place, Question, Trouble};
use super::emergency;
use super::exit;
use super::paint::{Tone, paint, print, print_json, tell};
use super::units::duration;
use crate::api::{ActionStatus, Answer, GateAction, GateActionSpec, ReleaseGate, labels};
use crate::decision::{Reason, Revision, Verb};

/// After so long without an answer it is said what is waited for.
const QUIET: Duration = Duration::from_secs(2);
/// A call that creates takes this long at most; an abort has no time to lose.
const CREATE: Duration = Duration::from_secs(5);

/// What every verb takes.
#[derive(Debug, clap::Args)]
#[group(id = "ask")]
pub struct Args {
    /// The gate
    pub gate: String,
    /// Why, for the record
    #[arg(short, long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only if this revision is on trial: all of it, or its first six characters or more
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// How long to wait for the answer; 0s asks and leaves
    #[arg(long, value_name = "TIME", default_value = "10s", default_missing_value = "10m", num_args = 0..=1, require_equals = true, value_parser = duration)]
    pub wait: Duration,
    #[command(flatten)]
    pub place: Place,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What was asked and answered: what `-o json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Namespace.
    pub namespace: String,
    /// The gate.
    pub gate: String,
    /// What was asked.
    pub verb: Verb,
    /// The `GateAction`; absent when it could not be created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Granted or Refused; absent when not answered in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What was done to routes by hand; only after `abort --by-hand`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<emergency::Outcome>,
}

impl Told {
    /// Nothing answered yet.
    #[must_use]
    pub fn asked(cluster: &Cluster, gate: &str, verb: Verb) -> Self {
        Self {
            namespace: cluster.namespace.clone(),
            gate: gate.to_owned(),
            verb,
            action: None,
            answer: None,
            reason: None,
            message: None,
            by_hand: Vec::new(),
        }
    }

    /// Takes over the answer.
    pub fn answered(&mut self, status: ActionStatus) {
        self.answer = status.answer;
        self.reason = status.reason;
        self.message = status.message;
    }

    /// 0 granted, 1 refused, 3 not answered.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self.answer {
            Some(Answer::Granted) => exit::DONE,
            Some(Answer::Refused) => exit::NOT_DONE,
            None => exit::NO_ANSWER,
        }
    }
}

impl Args {
    /// Asks, waits, prints the answer; gives the exit code.
    ///
    /// # Errors
    /// When nothing could be asked.
    pub async fn run(self, verb: Verb) -> Result<u8, Trouble> {
        let cluster = Cluster::connect(&self.place).await?;
        let gate = find(&cluster, &self.gate).await?;
        let mut told = Told::asked(&cluster, &self.gate, verb);
        if let Some(other) = self.revision.as_deref().and_then(|wanted| not_on_trial(&gate, wanted)) {
            told.answer = Some(Answer::Refused);
            told.reason = Some(Reason::OtherRevision.word().to_owned());
            told.message = Some(other);
            self.report(&told)?;
            return Ok(told.code());
        }
        let name = create(&cluster, &self, verb).await?;
        told.action = Some(name.clone());
        if let Some(status) = answer(&cluster, &name, self.wait, &self.gate).await? {
            told.answered(status);
        }
        self.report(&told)?;
        Ok(told.code())
    }

    /// Prints what was asked and answered.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn report(&self, told: &Told) -> Result<(), Trouble> {
        if self.output == Output::Json {
            return print_json(told);
        }
        print(&sentence(told, self.wait))
    }
}

/// Why a revision is not the one on trial; nothing when it is.
#[must_use]
pub fn not_on_trial(gate: &ReleaseGate, wanted: &str) -> Option<String> {
    let attempt = gate.status.as_ref().and_then(|status| status.attempt.as_ref());
    match attempt {
        Some(attempt) if Revision(attempt.revision.clone()).is_named(wanted) => None,
        Some(attempt) => Some(format!("Revision {wanted} is not on trial, {} is.", attempt.revision)),
        None => Some(format!("Revision {wanted} is not on trial; no release is in flight.")),
    }
}

/// What was asked and answered, for people.
#[must_use]
pub fn sentence(told: &Told, waited: Duration) -> String {
    let Told {
        namespace, gate, verb, ..
    } = told;
    let asked = format!("{verb:?} {namespace}/{gate}");
    let message = told.message.as_deref().unwrap_or_default();
    let reason = told.reason.as_deref().unwrap_or_default();
    match (told.answer, &told.action) {
        (Some(Answer::Granted), _) => format!("{asked}: {}\n", paint(Tone::Good, "granted")),
        (Some(Answer::Refused), _) => {
            format!("{asked}: {} ({reason}) {message}\n", paint(Tone::Bad, "refused"))
        }
        (None, Some(action)) if waited.is_zero() => format!("{asked}: asked ({action})\n"),
        (None, Some(action)) => format!(
            "{asked}: {} within {} s; it stays asked: kubectl get gateaction {action} -n {namespace}\n",
            paint(Tone::Wait, "not answered"),
            waited.as_secs()
        ),
        (None, None) => format!("{asked}: {}\n", paint(Tone::Bad, "could not be asked")),
    }
}

/// The gate, or which gates there are.
///
/// # Errors
/// When it cannot be read.
pub async fn find(cluster: &Cluster, name: &str) -> Result<ReleaseGate, Trouble> {
    let api: Api<ReleaseGate> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let question = |verb| Question {
        verb,
        resource: "releasegates",
        namespace: &cluster.namespace,
    };
    if let Some(gate) = cluster.ask(question("get"), optional(&api, name)).await? {
        return Ok(gate);
    }
    let params = kube::api::ListParams::default();
    let all = cluster.ask(question("list"), api.list_metadata(&params)).await?;
    let mut known: Vec<String> = all.items.iter().map(ResourceExt::name_any).collect();
    known.sort();
    Err(Trouble::NoSuchGate {
        name: name.to_owned(),
        namespace: cluster.namespace.clone(),
        known,
    })
}

/// Like `get_opt`, but a kind that the cluster does not know stays an error.
async fn optional(api: &Api<ReleaseGate>, name: &str) -> Result<Option<ReleaseGate>, kube::Error> {
    match api.get(name).await {
        Ok(gate) => Ok(Some(gate)),
        Err(kube::Error::Api(status))
            if status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The object that asks.
#[must_use]
pub fn request(args: &Args, namespace: &str, verb: Verb) -> GateAction {
    let word = format!("{verb:?}").to_lowercase();
    let spec = GateActionSpec {
        gate: args.gate.clone(),
        verb,
        revision: args.revision.clone(),
        reason: args.reason.clone(),
        signer: None,
    };
    GateAction {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-{word}-", args.gate)),
            namespace: Some(namespace.to_owned()),
            labels: Some([(labels::GATE.to_owned(), args.gate.clone())].into()),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// Asks, and gives the name of the `GateAction`.
///
/// # Errors
/// When the cluster does not take it.
pub async fn create(cluster: &Cluster, args: &Args, verb: Verb) -> Result<String, Trouble> {
    let api: Api<GateAction> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let question = Question {
        verb: "create",
        resource: "gateactions",
        namespace: &cluster.namespace,
    };
    let params = PostParams {
        field_manager: Some("tollgate-cli".to_owned()),
        ..PostParams::default()
    };
    let mut action = request(args, &cluster.namespace, verb);
    let created = cluster.patiently(cluster.bounded(CREATE, question, api.create(&params, &action)));
    match created.await {
        // API servers before 1.36 do not fill the signer in, they only check it
        Err(Trouble::Refused(why)) if why.contains("spec.signer must be") => {
            action.spec.signer = Some(whoami(cluster).await?);
            let created = cluster.bounded(CREATE, question, api.create(&params, &action)).await?;
            Ok(created.name_any())
        }
        created => created.map(|action| action.name_any()),
    }
}

async fn whoami(cluster: &Cluster) -> Result<String, Trouble> {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let question = Question {
        verb: "create",
        resource: "selfsubjectreviews",
        namespace: "",
    };
    let (params, review) = (PostParams::default(), SelfSubjectReview::default());
    let review = cluster.ask(question, api.create(&params, &review)).await?;
    let user = review.status.and_then(|status| status.user_info);
    user.and_then(|user| user.username)
        .ok_or_else(|| Trouble::Other("the cluster does not say who you are".to_owned()))
}

/// Waits for the answer; nothing when there is none in time.
///
/// # Errors
/// When the `GateAction` cannot be watched.
pub async fn answer(
    cluster: &Cluster,
    name: &str,
    limit: Duration,
    gate: &str,
) -> Result<Option<ActionStatus>, Trouble> {
    if limit.is_zero() {
        return Ok(None);
    }
    let api: Api<GateAction> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let answered = async {
        let mut stream = std::pin::pin!(watcher::watch_object(api, name));
        while let Some(action) = stream.try_next().await? {
            let status = action.and_then(|action| action.status);
            if let Some(status) = status.filter(|status| status.answer.is_some()) {
                return Ok(Some(status));
            }
        }
        Ok::<_, watcher::Error>(None)
    };
    let told = async {
        tokio::time::sleep(QUIET).await;
        tell(&waiting(cluster, gate, limit).await);
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answered = tokio::time::timeout(limit, answered) => match answered {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(Trouble::Other(format!("the answer cannot be read: {error}"))),
            Err(_) => Ok(None),
        },
        never = told => match never {},
    }
}

/// What keeps the operator from answering, as far as the gate says.
async fn waiting(cluster: &Cluster, gate: &str, limit: Duration) -> String {
    let api: Api<ReleaseGate> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let status = api.get(gate).await.ok().and_then(|gate| gate.status);
    let now = status.and_then(|status| Some(format!(" (the gate says {}: {})", status.reason?, status.message?)));
    format!(
        "waiting for the operator's answer, {} s at most{}",
        limit.as_secs(),
        now.unwrap_or_default()
    )
}
