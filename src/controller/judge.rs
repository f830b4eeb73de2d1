//! The judge: from ticks to words about releases in flight. It never moves traffic.
//!
//! One task per evidence source reads one tick for all its releases at once, counts it, and wakes
//! the gatekeeper for each release that it has something to say about.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::decision::{Judged, Millis, Stage, State};
use crate::sources::{Answer, Subscription};
use crate::trial::Trial;

use super::context::Context;
use super::gather::Subject;
use super::memory::GateKey;

/// Saves the judge's state at least this often: a restart replays little, and people see numbers
/// that are not old.
const SAVE: Millis = Millis::from_secs(60);

/// All releases on trial.
#[derive(Debug)]
pub struct Judge {
    dockets: Mutex<HashMap<GateKey, Docket>>,
    wake: mpsc::UnboundedSender<GateKey>,
}

/// One release on trial, and what is to be done about it.
#[derive(Debug)]
struct Docket {
    trial: Trial,
    /// The source it is judged by.
    source: String,
    /// When the newest tick was counted.
    heard: Option<Instant>,
    /// When its memory was saved last.
    saved: Millis,
}

impl Judge {
    /// A judge without work. Gates that it has something to say about arrive at the receiver.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<GateKey>) {
        let (wake, woken) = mpsc::unbounded_channel();
        (
            Self {
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

    /// Follows the machine: begins a trial, goes on to the step it is at, or ends it.
    pub fn follow(&self, context: &Context, subject: &Subject<'_>, state: &State) {
        let Some(attempt) = &state.attempt else {
            return self.dismiss(&subject.key);
        };
        let step = match attempt.stage {
            Stage::Preparing => None,
            Stage::Stepping(step) => Some(step),
            Stage::HandingOver | Stage::Restoring | Stage::Aborting(_) | Stage::Rejected(_) => {
                return self.dismiss(&subject.key);
            }
        };
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
                    let docket = Docket {
                        trial,
                        source: context.asked(&frozen.spec.analysis).name,
                        heard: None,
                        saved: context.now(),
                    };
                    dockets.insert(subject.key.clone(), docket)
                }
                Err(error) => {
                    tracing::error!(gate = %subject.key, %error, "the analysis cannot begin");
                    return;
                }
            };
        }
        if let (Some(docket), Some(step)) = (dockets.get_mut(&subject.key), step) {
            docket.trial.begin_step(step, attempt.since);
        }
    }

    /// Goes on with the trial of an attempt whose traffic somebody else moves, at this step and since
    /// then; `open` makes the trial, and names its source, when there is none of this attempt.
    ///
    /// # Errors
    /// What `open` says.
    pub fn attend<E>(
        &self,
        key: &GateKey,
        (epoch, step, since): (i64, usize, Millis),
        open: impl FnOnce() -> Result<(Trial, String), E>,
    ) -> Result<Option<Judged>, E> {
        let mut dockets = self.locked();
        if dockets.get(key).is_none_or(|docket| docket.trial.epoch != epoch) {
            let (trial, source) = open()?;
            let docket = Docket {
                trial,
                source,
                heard: None,
                saved: since,
            };
            dockets.insert(key.clone(), docket);
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

    /// Names of the sources that releases ask.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        let mut names: Vec<_> = self.locked().values().map(|docket| docket.source.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What the releases of a source want to know.
    #[must_use]
    pub fn subscriptions(&self, source: &str) -> Vec<(GateKey, Subscription)> {
        let dockets = self.locked();
        let asking = dockets.iter().filter(|(_, docket)| docket.source == source);
        asking
            .map(|(key, docket)| (key.clone(), docket.trial.subscription.clone()))
            .collect()
    }

    /// Counts what a source answered about one release, and wakes its gate.
    pub fn observe(&self, key: &GateKey, answers: Vec<Answer>) {
        if let Some(docket) = self.locked().get_mut(key) {
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
