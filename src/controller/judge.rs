//! The judge: from ticks to words about releases in flight. It never moves traffic.
//!
//! One task per evidence source and turn reads one tick for all its releases at once, counts it, and wakes
//! the gatekeeper for each release that it has something to say about.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::api::CanaryAnalysisSpec;
use crate::decision::{Attempt, Judged, Millis, Stage, State};
use crate::sources::{Answer, Subscription};
use crate::trial::Trial;

use super::context::Context;
use super::gather::Subject;
use super::memory::GateKey;

/// Saves the judge's state at least this often: a restart replays little, and people see numbers
/// that are not old.
const SAVE: Millis = Millis::from_secs(60);

/// So many times per interval releases are looked at. A hundred of them that begin together move in
/// this many groups, for this many times the queries; more of them would be paid for with more
/// queries than releases.
const TURNS: i64 = 4;

/// When a release is looked at: all of one turn are read with one query per metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// The source that is read.
    pub source: String,
    /// How long after multiples of its interval.
    pub offset: Millis,
}

impl Turn {
    /// The turn of a release at a source, as its plan says.
    #[must_use]
    pub fn of(spec: &CanaryAnalysisSpec, source: String) -> Self {
        let offset = Millis(spec.offset_milliseconds);
        Self { source, offset }
    }
}

/// All releases on trial.
#[derive(Debug)]
pub struct Judge {
    /// How many releases have been given a turn.
    dealt: AtomicI64,
    dockets: Mutex<HashMap<GateKey, Docket>>,
    wake: mpsc::UnboundedSender<GateKey>,
}

/// One release on trial, and what is to be done about it.
#[derive(Debug)]
struct Docket {
    trial: Trial,
    turn: Turn,
    /// When the newest tick was counted.
    heard: Option<Instant>,
    /// When its memory was saved last.
    saved: Millis,
    /// Ticks that arrived while its pass was writing.
    waiting: Option<Vec<Vec<Answer>>>,
}

impl Docket {
    fn new(trial: Trial, turn: Turn, saved: Millis) -> Self {
        Self {
            trial,
            turn,
            heard: None,
            saved,
            waiting: None,
        }
    }

    /// Goes on to the step that the attempt is at.
    fn go_on(&mut self, attempt: &Attempt) {
        if let Stage::Stepping(step) = attempt.stage {
            self.trial.begin_step(step, attempt.since);
        }
    }
}

/// While it lives, ticks of one release wait. A weight may take seconds to be written, and then it is
/// known which ticks are of its step; no pass could act on them sooner.
#[derive(Debug)]
#[must_use = "ticks wait as long as it lives"]
pub struct Paused<'a> {
    judge: &'a Judge,
    key: GateKey,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let waiting = self
            .judge
            .locked()
            .get_mut(&self.key)
            .and_then(|docket| docket.waiting.take());
        for answers in waiting.into_iter().flatten() {
            self.judge.observe(&self.key, answers);
        }
    }
}

impl Judge {
    /// A judge without work. Gates that it has something to say about arrive at the receiver.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<GateKey>) {
        let (wake, woken) = mpsc::unbounded_channel();
        (
            Self {
                dealt: AtomicI64::new(0),
                dockets: Mutex::default(),
                wake,
            },
            woken,
        )
    }

    /// What was last said about a gate's release.
    #[must_use]
    pub fn judged(&self, key: &GateKey) -> Option<Judged> {
        self.locked().get(key)?.trial.judged.clone()
    }

    /// When the newest tick of a gate's release was counted.
    #[must_use]
    pub fn heard(&self, key: &GateKey) -> Option<Instant> {
        self.locked().get(key)?.heard
    }

    /// Ends the trial of a gate's release.
    pub fn dismiss(&self, key: &GateKey) {
        self.locked().remove(key);
    }

    /// Lets ticks of a gate's release wait while a pass writes.
    pub fn pause(&self, key: &GateKey) -> Paused<'_> {
        if let Some(docket) = self.locked().get_mut(key) {
            docket.waiting.get_or_insert_default();
        }
        Paused {
            judge: self,
            key: key.clone(),
        }
    }

    /// Goes on to a step whose weight has been written, if the release is on trial.
    pub fn step(&self, key: &GateKey, state: &State) {
        let Some(attempt) = &state.attempt else { return };
        let mut dockets = self.locked();
        let docket = dockets
            .get_mut(key)
            .filter(|docket| docket.trial.epoch == attempt.epoch);
        if let Some(docket) = docket {
            docket.go_on(attempt);
        }
    }

    /// Follows the machine: begins a trial, goes on to the step it is at, or ends it.
    pub fn follow(&self, context: &Context, subject: &Subject<'_>, state: &State) {
        let Some(attempt) = &state.attempt else {
            return self.dismiss(&subject.key);
        };
        if !matches!(attempt.stage, Stage::Preparing | Stage::Stepping(_)) {
            return self.dismiss(&subject.key);
        }
        let mut dockets = self.locked();
        if dockets
            .get(&subject.key)
            .is_none_or(|docket| docket.trial.epoch != attempt.epoch)
        {
            let Some(frozen) = context.frozen(subject, attempt.epoch) else {
                return;
            };
            let gate = (subject.key.namespace.as_str(), subject.key.name.as_str());
            match Trial::open(gate, &frozen.spec, frozen.judge_state.as_deref()) {
                Ok(trial) => {
                    let turn = Turn::of(&frozen.spec, context.asked(&frozen.spec.analysis).name);
                    dockets.insert(subject.key.clone(), Docket::new(trial, turn, context.now()))
                }
                Err(error) => {
                    tracing::error!(gate = %subject.key, %error, "the analysis cannot begin");
                    return;
                }
            };
        }
        if let Some(docket) = dockets.get_mut(&subject.key) {
            docket.go_on(attempt);
        }
    }

    /// Goes on with the trial of an attempt whose traffic somebody else moves, at this step and since
    /// then; `open` makes the trial, and says when it is looked at, when there is none of this attempt.
    ///
    /// # Errors
    /// What `open` says.
    pub fn attend<E>(
        &self,
        key: &GateKey,
        (epoch, step, since): (i64, usize, Millis),
        open: impl FnOnce() -> Result<(Trial, Turn), E>,
    ) -> Result<Option<Judged>, E> {
        let mut dockets = self.locked();
        if dockets.get(key).is_none_or(|docket| docket.trial.epoch != epoch) {
            let (trial, turn) = open()?;
            dockets.insert(key.clone(), Docket::new(trial, turn, since));
        }
        let Some(docket) = dockets.get_mut(key) else {
            return Ok(None);
        };
        docket.trial.begin_step(step, since);
        Ok(docket.trial.judged.clone())
    }

    /// The judge's memory of a release, for its CanaryAnalysis.
    #[must_use]
    pub fn snapshot(&self, key: &GateKey) -> Option<String> {
        self.locked().get(key)?.trial.snapshot()
    }

    /// Releases whose memory is due to be saved; they count as saved from now on.
    #[must_use]
    pub fn unsaved(&self, now: Millis) -> Vec<GateKey> {
        let mut dockets = self.locked();
        let due = dockets.iter_mut().filter(|(_, docket)| now - docket.saved >= SAVE);
        due.map(|(key, docket)| {
            docket.saved = now;
            key.clone()
        })
        .collect()
    }

    /// The memory of a release was saved.
    pub fn saved(&self, key: &GateKey, now: Millis) {
        if let Some(docket) = self.locked().get_mut(key) {
            docket.saved = now;
        }
    }

    /// The offset of the next release that begins, in an interval of this length.
    pub fn next_offset(&self, interval: Millis) -> Millis {
        let turn = self.dealt.fetch_add(1, Ordering::Relaxed).rem_euclid(TURNS);
        Millis(interval.0 * turn / TURNS)
    }

    /// The turns that releases have now.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        let mut turns: Vec<_> = self.locked().values().map(|docket| docket.turn.clone()).collect();
        turns.sort();
        turns.dedup();
        turns
    }

    /// What the releases of a turn want to know.
    #[must_use]
    pub fn subscriptions(&self, turn: &Turn) -> Vec<(GateKey, Subscription)> {
        let dockets = self.locked();
        let asking = dockets.iter().filter(|(_, docket)| docket.turn == *turn);
        asking
            .map(|(key, docket)| (key.clone(), docket.trial.subscription.clone()))
            .collect()
    }

    /// Counts what a source answered about one release, and wakes its gate.
    pub fn observe(&self, key: &GateKey, answers: Vec<Answer>) {
        if let Some(docket) = self.locked().get_mut(key) {
            if let Some(waiting) = &mut docket.waiting {
                return waiting.push(answers);
            }
            docket.trial.observe(answers);
            docket.heard = Some(Instant::now());
            // Nobody listens only when the controller has ended.
            let _ = self.wake.send(key.clone());
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<GateKey, Docket>> {
        self.dockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::{Arm, Evidence, Revision, Tick};

    const BEGIN: Millis = Millis::from_secs(1_000_000);

    fn trial() -> Trial {
        let spec: CanaryAnalysisSpec = serde_json::from_value(json!({
            "revision": "v2",
            "epoch": 1,
            "target": {
                "workload": "checkout", "canaryWorkload": "checkout-canary",
                "service": "checkout", "canaryService": "checkout-canary", "stablePods": 2,
            },
            "steps": [{"weight": 50}, {"weight": 100}],
            "analysis": {"metrics": [{"name": "errors", "ratio": {"preset": "http-errors"}}]},
        }))
        .expect("a spec");
        Trial::open(("shop", "checkout"), &spec.sealed(), None).expect("a trial")
    }

    /// Ten seconds of requests, up to this second of the release.
    fn tick(until: i64) -> Vec<Answer> {
        let requests = Arm {
            events: vec![0.0],
            total: 100.0,
        };
        vec![Answer {
            evidence: Evidence::Complete(Tick {
                at: BEGIN + Millis::from_secs(until),
                canary: requests.clone(),
                baseline: requests,
                baseline_pods: vec![],
            }),
            edges: None,
            age: None,
            past: Vec::new(),
        }]
    }

    fn at(step: usize, since: i64) -> State {
        State {
            epoch: 1,
            proven: None,
            attempt: Some(Attempt {
                revision: Revision("v2".into()),
                epoch: 1,
                stage: Stage::Stepping(step),
                since: BEGIN + Millis::from_secs(since),
                window: None,
                scaling: None,
                hold: None,
                decisions: 1,
            }),
        }
    }

    #[test]
    fn releases_that_begin_together_are_looked_at_in_turns() {
        let (judge, _woken) = Judge::new();
        let offsets: Vec<_> = (0..5).map(|_| judge.next_offset(Millis::from_secs(10)).0).collect();
        assert_eq!(offsets, [0, 2500, 5000, 7500, 0]);
        let turn = |offset| Turn {
            source: "default".to_owned(),
            offset: Millis(offset),
        };
        for (name, offset) in [("checkout", 0), ("cart", 2500), ("search", 0)] {
            let open = || Ok::<_, ()>((trial(), turn(offset)));
            let key = GateKey::alone("shop", name);
            judge.attend(&key, (1, 0, BEGIN), open).expect("opened");
        }
        assert_eq!(judge.turns(), [turn(0), turn(2500)]);
        let mut first: Vec<_> = judge.subscriptions(&turn(0)).into_iter().map(|(key, _)| key).collect();
        first.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(first, ["checkout", "search"].map(|name| GateKey::alone("shop", name)));
    }

    #[test]
    fn ticks_that_arrive_while_a_weight_is_written_count_for_the_step_that_they_belong_to() {
        let key = GateKey::alone("shop", "checkout");
        for (written, step, requests) in [(true, 1, 200.0), (false, 0, 300.0)] {
            let (judge, mut woken) = Judge::new();
            let turn = Turn {
                source: "default".to_owned(),
                offset: Millis(0),
            };
            let open = || Ok::<_, ()>((trial(), turn));
            judge.attend(&key, (1, 0, BEGIN), open).expect("opened");
            judge.observe(&key, tick(10));
            assert_eq!(woken.try_recv().ok(), Some(key.clone()));

            let paused = judge.pause(&key);
            judge.observe(&key, tick(20));
            judge.observe(&key, tick(30));
            assert!(woken.try_recv().is_err(), "they wait");
            if written {
                judge.step(&key, &at(1, 10));
            }
            drop(paused);

            let judged = judge.judged(&key).expect("judged");
            assert_eq!(woken.try_recv().ok(), Some(key.clone()));
            assert_eq!(
                (judged.step, judged.readings[0].canary[1]),
                (step, requests),
                "written: {written}"
            );
            judge.observe(&key, tick(40));
            assert_ne!(judge.judged(&key), Some(judged), "nothing waits any more");
        }
    }
}
