//! `tollgate uninstall`: every gate goes while the operator can still put everything back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use serde::Serialize;
use serde_json::Value;

use super::cluster::{Cluster, Output, Place, Question, Trouble};
use super::exit;
use super::paint::{Tone, paint, print, print_json, tell};
use super::snapshot::text;
use super::units::{duration, now, span};
use crate::api::{ReleaseGate, labels};

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said how things are, when nothing changes.
const PROGRESS: Duration = Duration::from_secs(10);

/// Removes every gate, so that the operator can be taken away.
///
/// Each gate puts its route back as it was written and takes our labels off its Deployment. A template
/// that was not proven stays paused; the Deployment says so in the annotation tollgate.dev/left-paused.
/// Needs a running operator. Exit code 0: all gone; 2: could not be asked; 3: not in time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tollgate uninstall\n  tollgate uninstall --yes --timeout 10m -o json")]
pub struct Args {
    /// Do it; without this it is only said which gates would go
    #[arg(long)]
    yes: bool,
    /// How long to wait for the gates to be gone
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Only gates of this namespace; by default those of all
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig; by default the current one
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// How to print the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What is known of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub gate: String,
    /// Its Deployment.
    pub workload: String,
    /// Why the Deployment is left paused; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_paused: Option<String>,
    /// What it said last of itself; absent when it is gone, or never said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    #[serde(skip)]
    is_leaving: bool,
}

/// How it ended: what `-o json` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Gates that are gone.
    pub removed: Vec<Known>,
    /// Gates that are still there.
    pub remaining: Vec<Known>,
    /// What could not be read.
    pub notes: Vec<String>,
}

impl Known {
    fn of(object: &Value) -> Self {
        let [reason, message] = ["/status/reason", "/status/message"].map(|pointer| text(object, pointer));
        Self {
            namespace: text(object, "/metadata/namespace").to_owned(),
            gate: text(object, "/metadata/name").to_owned(),
            workload: text(object, "/spec/target/workload/name").to_owned(),
            left_paused: None,
            says: (!reason.is_empty()).then(|| format!("{reason}: {message}")),
            is_leaving: object.pointer("/metadata/deletionTimestamp").is_some(),
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.gate)
    }
}

/// Every gate that was seen, and those that were there at the last look.
#[derive(Debug, Default)]
struct Course {
    seen: BTreeMap<String, Known>,
    left: Vec<Known>,
}

impl Course {
    /// Takes a look in; whether anything has changed since the one before.
    fn look(&mut self, left: Vec<Known>) -> bool {
        let names = |gates: &[Known]| gates.iter().map(Known::name).collect::<Vec<_>>();
        let is_news = names(&left) != names(&self.left);
        for gate in &left {
            self.seen.insert(gate.name(), gate.clone());
        }
        self.left = left;
        is_news
    }

    fn report(self) -> Report {
        let remaining: Vec<String> = self.left.iter().map(Known::name).collect();
        let gone = |name: &String| !remaining.contains(name);
        let removed = self.seen.into_iter().filter(|(name, _)| gone(name));
        Report {
            removed: removed.map(|(_, gate)| Known { says: None, ..gate }).collect(),
            remaining: self.left,
            notes: vec![],
        }
    }
}

impl Report {
    /// 0 when all are gone, 3 when not in time.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.remaining.is_empty() {
            exit::DONE
        } else {
            exit::NO_ANSWER
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for gate in &self.removed {
            let _ = write!(text, "{} {}", paint(Tone::Good, "removed"), gate.name());
            if let Some(why) = &gate.left_paused {
                let left = format!("Deployment {} is left paused", gate.workload);
                let _ = write!(text, "; {}: {why}", paint(Tone::Wait, &left));
            }
            text.push('\n');
        }
        for gate in &self.remaining {
            let says = gate.says.as_deref().unwrap_or("it has said nothing");
            let _ = writeln!(text, "{} {}: {says}", paint(Tone::Bad, "NOT removed"), gate.name());
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        if self.removed.is_empty() && self.remaining.is_empty() {
            text.push_str("there are no gates\n");
        }
        if !self.remaining.is_empty() {
            text.push_str(
                "is the operator running, and does it lead? It removes a gate when its routes are put back; leave it \
                 installed until then, and repeat this\n",
            );
        }
        text
    }
}

impl Args {
    /// Removes the gates; gives the exit code.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn run(self) -> Result<u8, Trouble> {
        let place = Place {
            namespace: self.namespace.clone(),
            context: self.context.clone(),
        };
        let cluster = Cluster::connect(&place).await?;
        let mut course = Course::default();
        if !self.yes {
            course.look(self.gates(&cluster).await?);
            return Err(Trouble::Usage(intent(&course.left)));
        }
        let removed = tokio::time::timeout(self.timeout, self.remove(&cluster, &mut course)).await;
        removed.unwrap_or(Ok(()))?;
        let mut report = course.report();
        for gate in &mut report.removed {
            match left_paused(&cluster, gate).await {
                Ok(why) => gate.left_paused = why,
                Err(error) => report
                    .notes
                    .push(format!("Deployment {}/{}: {error}", gate.namespace, gate.workload)),
            }
        }
        match self.output {
            Output::Json => print_json(&report)?,
            Output::Text => print(&report.text())?,
        }
        Ok(report.code())
    }

    fn api(&self, cluster: &Cluster, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<ReleaseGate>(&());
        match namespace.or(self.namespace.as_deref()) {
            Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
            None => Api::all_with(cluster.client.clone(), &resource),
        }
    }

    /// A cluster that does not know gates has none.
    async fn gates(&self, cluster: &Cluster) -> Result<Vec<Known>, Trouble> {
        let question = Question {
            verb: "list",
            resource: "releasegates",
            namespace: self.namespace.as_deref().unwrap_or_default(),
        };
        let api = self.api(cluster, None);
        let found = match cluster.ask(question, api.list(&ListParams::default())).await {
            Ok(found) => found.items,
            Err(Trouble::NotInstalled) => vec![],
            Err(error) => return Err(error),
        };
        let values = found.iter().filter_map(|object| serde_json::to_value(object).ok());
        Ok(values.map(|object| Known::of(&object)).collect())
    }

    /// Asks all gates to go until none is left. One that somebody makes anew meanwhile is asked too.
    async fn remove(&self, cluster: &Cluster, course: &mut Course) -> Result<(), Trouble> {
        let mut looks = tokio::time::interval(LOOK);
        let (begun, mut said) = (now(), tokio::time::Instant::now());
        loop {
            looks.tick().await;
            match self.gates(cluster).await {
                Ok(left) => {
                    let is_news = course.look(left);
                    if course.left.is_empty() {
                        return Ok(());
                    }
                    if is_news || said.elapsed() >= PROGRESS {
                        said = tokio::time::Instant::now();
                        tell(&progress(&course.left, &span(now() - begun)));
                    }
                }
                Err(error) => passing(error)?,
            }
            for gate in course.left.iter().filter(|gate| !gate.is_leaving) {
                if let Err(error) = self.ask(cluster, gate).await {
                    passing(error)?;
                }
            }
        }
    }

    async fn ask(&self, cluster: &Cluster, gate: &Known) -> Result<(), Trouble> {
        let question = Question {
            verb: "delete",
            resource: "releasegates",
            namespace: &gate.namespace,
        };
        let api = self.api(cluster, Some(&gate.namespace));
        let gone = async {
            match api.delete(&gate.gate, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                answer => answer.map(drop),
            }
        };
        cluster.ask(question, gone).await
    }
}

/// What passes by itself is said and waited for; everything else ends the command.
fn passing(error: Trouble) -> Result<(), Trouble> {
    match error {
        Trouble::Unreachable { .. } | Trouble::Slow { .. } => {
            tell(&format!("{error}; trying again"));
            Ok(())
        }
        error => Err(error),
    }
}

/// Why a Deployment is left paused, in its own words.
async fn left_paused(cluster: &Cluster, gate: &Known) -> Result<Option<String>, Trouble> {
    let question = Question {
        verb: "get",
        resource: "deployments",
        namespace: &gate.namespace,
    };
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &gate.namespace);
    let found = cluster.ask(question, api.get_opt(&gate.workload)).await?;
    Ok(found.as_ref().and_then(note))
}

fn note(workload: &Deployment) -> Option<String> {
    let paused = workload.spec.as_ref().and_then(|spec| spec.paused).unwrap_or_default();
    let why = workload.metadata.annotations.as_ref()?.get(labels::LEFT_PAUSED)?;
    paused.then(|| why.clone())
}

/// What would be done, for people who have not said yes.
fn intent(gates: &[Known]) -> String {
    if gates.is_empty() {
        return "there are no gates; nothing stands in the way of an uninstall".to_owned();
    }
    let names: Vec<_> = gates.iter().map(Known::name).collect();
    format!(
        "this removes {} and puts their routes back as they were written; templates that are not proven stay paused\n  \
         repeat with --yes to do it",
        names.join(", ")
    )
}

/// How things are, in one line.
fn progress(left: &[Known], so_far: &str) -> String {
    let first = left.first().map_or_else(String::new, |gate| {
        let says = gate.says.as_deref().unwrap_or("has said nothing yet");
        format!("; {} {says}", gate.name())
    });
    format!("{} to go ({so_far} so far){first}", left.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gate(name: &str, difference: &Value) -> Value {
        let mut object = json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"target": {"workload": {"name": format!("{name}-app")}}},
        });
        json_patch::merge(&mut object, difference);
        object
    }

    fn known(name: &str) -> Known {
        Known::of(&gate(name, &json!({})))
    }

    #[test]
    fn gates_are_read_however_little_they_say() {
        let bare = Known::of(&json!({"metadata": {"namespace": "shop", "name": "a"}}));
        assert_eq!(
            (bare.name().as_str(), bare.workload.as_str(), bare.says),
            ("shop/a", "", None)
        );
        let leaving = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"reason": "Deleted", "message": "its route is put back"},
        });
        let leaving = Known::of(&gate("b", &leaving));
        assert!(leaving.is_leaving);
        assert_eq!(leaving.says.as_deref(), Some("Deleted: its route is put back"));
    }

    #[test]
    fn what_was_seen_and_is_there_no_more_is_removed() {
        let mut course = Course::default();
        assert!(course.look(vec![known("a"), known("b")]));
        assert!(!course.look(vec![known("a"), known("b")]), "nothing new");
        assert!(course.look(vec![known("b"), known("late")]));
        let report = course.report();
        let names = |gates: &[Known]| gates.iter().map(Known::name).collect::<Vec<_>>();
        assert_eq!(names(&report.removed), ["shop/a"]);
        assert_eq!(names(&report.remaining), ["shop/b", "shop/late"]);
        assert_eq!(report.code(), exit::NO_ANSWER);
    }

    #[test]
    fn the_report_names_what_is_left_and_what_to_do() {
        let paused = Known {
            left_paused: Some("gate a was deleted before this template was proven".into()),
            ..known("a")
        };
        let done = Report {
            removed: vec![paused, known("b")],
            ..Report::default()
        };
        let text = anstream::adapter::strip_str(&done.text()).to_string();
        assert_eq!(
            text,
            "removed shop/a; Deployment a-app is left paused: gate a was deleted before this template was proven\n\
             removed shop/b\n"
        );
        assert_eq!(done.code(), exit::DONE);
        let late = Report {
            remaining: vec![known("c")],
            ..Report::default()
        };
        let text = anstream::adapter::strip_str(&late.text()).to_string();
        assert!(
            text.starts_with("NOT removed shop/c: it has said nothing\nis the operator running"),
            "{text}"
        );
        assert_eq!(Report::default().text(), "there are no gates\n");
    }

    #[test]
    fn a_note_of_old_on_a_deployment_that_was_resumed_says_nothing() {
        for (paused, annotations, expected) in [
            (true, json!({labels::LEFT_PAUSED: "why"}), Some("why")),
            (false, json!({labels::LEFT_PAUSED: "why"}), None),
            (true, json!({}), None),
        ] {
            let object = json!({
                "metadata": {"annotations": annotations},
                "spec": {"paused": paused, "selector": {}, "template": {}},
            });
            let workload: Deployment = serde_json::from_value(object).expect("a Deployment");
            assert_eq!(note(&workload).as_deref(), expected);
        }
    }

    #[test]
    fn without_a_yes_it_is_said_what_would_go() {
        assert!(intent(&[known("a"), known("b")]).starts_with("this removes shop/a, shop/b and"));
        assert!(intent(&[]).starts_with("there are no gates"));
    }
}
