//! What the gatekeeper keeps of each gate between passes, so that it need not ask again.
//!
//! Nothing here is authority: all of it is read again from the cluster when the process is new.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::api::GateStatus;
use crate::decision::{Millis, Reason, Record, RouteFact, State};
use crate::routers::Pair;

use super::frozen::{Asked, Frozen};
use super::watch::RouteKey;
use super::workload::Built;

/// Namespace and name of a gate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateKey {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Names of analyses that stand alone begin so in a [`GateKey`]; no gate's name can.
const ALONE: &str = "analysis/";

impl GateKey {
    /// The key of an analysis that stands alone: it is on the judge's list beside gates.
    #[must_use]
    pub fn alone(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: format!("{ALONE}{name}"),
        }
    }

    /// The name of the analysis, when it stands alone.
    #[must_use]
    pub fn is_alone(&self) -> Option<&str> {
        self.name.strip_prefix(ALONE)
    }
}

impl std::fmt::Display for GateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What was last known of one gate.
#[derive(Debug, Default)]
pub struct Known {
    /// The uid this speaks of: another gate of the same name starts anew.
    pub uid: String,
    /// The status that was written last and the resourceVersion of that write: the watch may
    /// still show an older one.
    pub written: Option<(String, State)>,
    /// The same as it was shown to people.
    pub shown: Option<GateStatus>,
    /// When it was shown.
    pub told_at: Millis,
    /// The plan of the attempt in flight.
    pub frozen: Option<Arc<Frozen>>,
    /// The canary of the attempt in flight, built from what the user wrote.
    pub built: Option<(i64, Arc<Built>)>,
    /// What pre-flight found for this attempt, and when it was looked for.
    pub preflight: Option<Preflight>,
    /// The attempt for which no autoscaler was found: then none has to be let go either.
    pub unscaled: Option<i64>,
    /// The canary's pods that were asked for last: for which attempt, how many, and when. The watch
    /// may not show it yet.
    pub asked: Option<(i64, i64, Millis)>,
    /// What the newest known versions of its routes say about its pair.
    pub said: HashMap<RouteKey, (Arc<Value>, Pair, RouteFact)>,
    /// When the canary was removed: the watch may still show it.
    pub removed: Option<Millis>,
    /// Decisions of the attempt in flight that changed something, oldest first, at most 20.
    pub records: Vec<Record>,
    /// Whether the CanaryAnalysis has the newest of them.
    pub recorded: bool,
    /// Whether the last pass wanted weight 0.
    pub urgent: bool,
    /// Passes that failed in a row.
    pub failures: u32,
}

/// What stands in the way of a trial.
#[derive(Debug, Clone)]
pub struct Preflight {
    /// The attempt it was looked for.
    pub epoch: i64,
    /// When.
    pub at: Millis,
    /// What blocks the release, if anything does.
    pub blocks: Option<Reason>,
    /// The same with names, and what is only worth knowing.
    pub findings: Vec<String>,
    /// Policies attached to the user's Service, as the canary's Service needs them.
    pub copies: Vec<Value>,
}

/// All gates.
#[derive(Debug, Default)]
pub struct Memory {
    gates: Mutex<HashMap<GateKey, Known>>,
    /// Gates that cannot be understood: generation and what was said about it.
    refused: Mutex<HashMap<GateKey, (i64, String)>>,
    /// Plans of gates at rest, by the gate's uid.
    drafts: Mutex<HashMap<String, Draft>>,
    /// Uids of requests that were answered, newest last: the watch may not show it yet.
    answered: Mutex<VecDeque<String>>,
}

/// A plan and what it was drafted from: the gate's generation and its source.
#[derive(Debug)]
struct Draft {
    generation: Option<i64>,
    asked: Asked,
    plan: Arc<Frozen>,
}

/// Drafts that are kept: enough for gates that are busy, little for thousands that are not.
const DRAFTS: usize = 256;

/// Answers that are remembered until the watch shows them.
const ANSWERED: usize = 1000;

impl Memory {
    /// Something that follows from what is known of a gate: nothing is, when the uid is another one.
    pub fn read<T>(&self, key: &GateKey, uid: &str, of: impl FnOnce(&Known) -> T) -> T {
        let memory = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        match memory.get(key).filter(|known| known.uid == uid) {
            Some(known) => of(known),
            None => of(&Known::default()),
        }
    }

    /// Changes what is known of a gate.
    pub fn update(&self, key: &GateKey, uid: &str, change: impl FnOnce(&mut Known)) {
        let mut memory = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory.entry(key.clone()).or_default();
        if known.uid != uid {
            *known = Known {
                uid: uid.to_owned(),
                ..Known::default()
            };
        }
        change(known);
    }

    /// The CanaryAnalysis of a gate's last attempt, the decisions to be kept in it, and whether it
    /// has the newest of them already.
    #[must_use]
    pub fn attempt(&self, key: &GateKey) -> Option<(String, Vec<Record>, bool)> {
        let memory = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory.get(key)?;
        let (name, _) = known.frozen.as_ref()?.object.as_ref()?;
        Some((name.clone(), known.records.clone(), known.recorded))
    }

    /// Takes note that the CanaryAnalysis has these decisions, unless newer ones came meanwhile.
    pub fn recorded(&self, key: &GateKey, records: &[Record]) {
        let mut memory = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = memory.get_mut(key) {
            known.recorded = known.records == records;
        }
    }

    /// The plan of a gate at rest: drafted anew only when the gate or its source has changed.
    ///
    /// # Errors
    /// What `draft` says.
    pub fn draft<E>(
        &self,
        (uid, generation): (&str, Option<i64>),
        asked: Asked,
        draft: impl FnOnce(Asked) -> Result<Frozen, E>,
    ) -> Result<Arc<Frozen>, E> {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = drafts.get(uid);
        if let Some(known) = known.filter(|known| known.generation == generation && known.asked == asked) {
            return Ok(Arc::clone(&known.plan));
        }
        let plan = Arc::new(draft(asked.clone())?);
        if drafts.len() >= DRAFTS {
            drafts.clear();
        }
        let draft = Draft {
            generation,
            asked,
            plan: Arc::clone(&plan),
        };
        drafts.insert(uid.to_owned(), draft);
        Ok(plan)
    }

    /// Forgets what only an attempt in flight needs.
    pub fn rest(&self, key: &GateKey) {
        let mut memory = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = memory.get_mut(key) {
            (known.built, known.preflight, known.unscaled, known.asked) = (None, None, None, None);
            (known.frozen, known.records, known.said) = (None, Vec::new(), HashMap::new());
        }
    }

    /// Takes note that a request was answered.
    pub fn answer(&self, uid: &str) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.push_back(uid.to_owned());
        let surplus = answered.len().saturating_sub(ANSWERED);
        answered.drain(..surplus);
    }

    /// Whether a request was answered.
    #[must_use]
    pub fn answered(&self, uid: &str) -> bool {
        self.answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|known| known == uid)
    }

    /// Whether this was said of a gate that cannot be understood.
    #[must_use]
    pub fn is_refused(&self, key: &GateKey, generation: i64, message: &str) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused
            .get(key)
            .is_some_and(|(known, said)| *known == generation && said == message)
    }

    /// Takes note of what was said of a gate that cannot be understood.
    pub fn refuse(&self, key: &GateKey, generation: i64, message: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(key.clone(), (generation, message.to_owned()));
    }

    /// Takes note that a gate is understood.
    pub fn accept(&self, key: &GateKey) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Forgets a gate that is gone.
    pub fn forget(&self, key: &GateKey) {
        self.accept(key);
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Most decisions that are kept with an attempt.
pub const RECORDS: usize = 20;

impl Known {
    /// Adds a decision, once, and lets the oldest go when there are too many.
    pub fn note(&mut self, record: &Record) {
        if self
            .records
            .iter()
            .any(|known| known.id == record.id && known.to == record.to)
        {
            return;
        }
        self.records.push(record.clone());
        self.recorded = false;
        let surplus = self.records.len().saturating_sub(RECORDS);
        self.records.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ReleaseGate;
    use crate::decision::Revision;

    #[test]
    fn a_plan_at_rest_is_drafted_once_per_generation_and_source() {
        let gate: ReleaseGate = serde_json::from_value(serde_json::json!({
            "apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate", "metadata": {"name": "checkout"},
            "spec": {"target": {"workload": {"name": "checkout"}, "service": "checkout"},
                "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}}}}))
        .expect("a gate");
        let memory = Memory::default();
        let asked = |interval| Asked {
            name: "prometheus".into(),
            interval,
            scrape: 15,
        };
        let mut drafted = 0;
        for (generation, interval, expected) in [(1, 10, 1), (1, 10, 1), (2, 10, 2), (2, 10, 2), (2, 20, 3), (2, 20, 3)]
        {
            let plan = memory.draft(("uid", Some(generation)), asked(interval), |asked| {
                drafted += 1;
                super::super::frozen::draft(&gate, asked, (&Revision(String::new()), 0, 0))
            });
            assert_eq!(plan.expect("a plan").spec.interval_seconds, interval);
            assert_eq!(drafted, expected, "generation {generation}, every {interval} s");
        }
        let wrong: Result<_, &str> = memory.draft(("uid", Some(3)), asked(10), |_| Err("wrong"));
        assert_eq!(wrong.err(), Some("wrong"), "what is wrong is told every time");
    }
}
