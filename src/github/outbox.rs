//! Delivers reports in the background, at GitHub's pace and through its absences.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::client::GitHub;
use super::deployments::{Delivered, Known};
use super::error::Error;
use super::queue::{Next, Put, Queue, key};
use super::report::{Report, ReportState};

/// How fast GitHub is written to, and how long a failure is waited out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pacing {
    /// Shortest time between two writes. GitHub asks for one second ("Best practices for using the REST API").
    pub between_writes: Duration,
    /// Wait after a first failure; it doubles with each further one, and jitter adds up to as much again.
    pub first_retry: Duration,
    /// Longest wait between two tries, without jitter.
    pub longest_retry: Duration,
    /// Shortest wait when GitHub limits the rate without saying for how long. It asks for at least a minute.
    pub unsaid_limit: Duration,
    /// Deployments that can wait at once; with more, the oldest that is not final is dropped.
    pub capacity: usize,
}

impl Default for Pacing {
    /// What GitHub asks for: 1 s between writes, retries from 1 s to 5 min, 60 s for unsaid limits; 1,024 waiting.
    fn default() -> Self {
        Self {
            between_writes: Duration::from_secs(1),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_mins(5),
            unsaid_limit: Duration::from_mins(1),
            capacity: 1024,
        }
    }
}

impl Pacing {
    fn backoff(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.first_retry)
            .with_max_delay(self.longest_retry)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// Keeps writes apart.
pub(super) struct Pace {
    between: Duration,
    next: Instant,
}

impl Pace {
    fn new(between: Duration) -> Self {
        Self {
            between,
            next: Instant::now(),
        }
    }

    /// Waits until the next write may be made.
    pub(super) async fn write(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.next = Instant::now() + self.between;
    }
}

/// What became of the latest report of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The gate as `namespace/name`.
    pub gate: String,
    /// The revision reported on.
    pub revision: String,
    /// The state reported.
    pub state: ReportState,
    /// How far it got.
    pub told: Told,
}

/// How far a report got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// GitHub has it, in this deployment; in none when a revision was superseded before GitHub knew of it.
    Done {
        /// The deployment's id.
        deployment: Option<u64>,
    },
    /// It waits for another try.
    Waiting {
        /// One static word.
        reason: &'static str,
        /// One sentence for people.
        message: String,
    },
    /// It will not be tried again; a later report on the same gate will.
    GivenUp {
        /// One static word.
        reason: &'static str,
        /// One sentence for people, saying what to change.
        message: String,
    },
}

/// What an outbox has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reports that led to a status on GitHub.
    pub posted: u64,
    /// Reports that GitHub already knew.
    pub unchanged: u64,
    /// Reports overtaken by a later one on the same deployment.
    pub coalesced: u64,
    /// Reports dropped because too many waited.
    pub dropped: u64,
    /// Reports that were malformed, or that GitHub refused.
    pub given_up: u64,
    /// Tries that failed and were put off.
    pub put_off: u64,
    /// Reports that wait now.
    pub waiting: u64,
}

/// Takes reports; cheap to clone, and never in the way.
#[derive(Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Notify,
    changed: watch::Sender<u64>,
}

struct State {
    queue: Queue,
    outcomes: BTreeMap<String, Outcome>,
    counters: Counters,
}

impl Shared {
    /// Nothing that holds the lock can panic halfway, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &mut State, report: &Report, told: Told) {
        match &told {
            Told::Done { .. } => {}
            Told::Waiting { reason, message } => {
                tracing::warn!(gate = report.gate, reason, message, "GitHub is told later");
            }
            Told::GivenUp { reason, message } => {
                tracing::warn!(gate = report.gate, reason, message, "GitHub cannot be told");
            }
        }
        let outcome = Outcome {
            gate: report.gate.clone(),
            revision: report.revision.clone(),
            state: report.state,
            told,
        };
        state.outcomes.insert(report.gate_uid.clone(), outcome);
        self.changed.send_modify(|count| *count += 1);
    }

    fn give_up(&self, state: &mut State, report: &Report, reason: &'static str, message: String) {
        state.counters.given_up += 1;
        self.note(state, report, Told::GivenUp { reason, message });
    }

    /// Counts what putting a report into the queue did, and says so of one that was dropped.
    fn account(&self, state: &mut State, put: Put) {
        match put {
            Put::Added => {}
            Put::Replaced => state.counters.coalesced += 1,
            Put::Dropped(dropped) => {
                state.counters.dropped += 1;
                let message = "too many reports wait for GitHub".to_owned();
                self.note(
                    state,
                    &dropped,
                    Told::GivenUp {
                        reason: "GitHubOutboxFull",
                        message,
                    },
                );
            }
        }
    }
}

impl Reporter {
    /// Takes a report and returns at once.
    ///
    /// What is malformed, refused or dropped shows in [`outcomes`](Self::outcomes), and nowhere else: a release never
    /// waits for GitHub. Submitting the same report again costs nothing.
    pub fn submit(&self, report: Report) {
        let mut state = self.shared.lock();
        if let Err(invalid) = report.check() {
            self.shared
                .give_up(&mut state, &report, "GitHubReportInvalid", invalid.to_string());
            return;
        }
        let put = state.queue.put(report);
        self.shared.account(&mut state, put);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// What became of the latest report of each gate, by the gate's UID.
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<String, Outcome> {
        self.shared.lock().outcomes.clone()
    }

    /// What became of the latest report of one gate.
    #[must_use]
    pub fn outcome(&self, gate_uid: &str) -> Option<Outcome> {
        self.shared.lock().outcomes.get(gate_uid).cloned()
    }

    /// Forgets a gate that was deleted. Its waiting reports are still delivered.
    pub fn forget(&self, gate_uid: &str) {
        self.shared.lock().outcomes.remove(gate_uid);
    }

    /// Changes whenever an outcome does; the number itself means nothing.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// What the outbox has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let state = self.shared.lock();
        let waiting = u64::try_from(state.queue.len()).unwrap_or(u64::MAX);
        Counters {
            waiting,
            ..state.counters
        }
    }
}

/// The background half: one task that delivers what the [`Reporter`]s took.
pub struct Outbox {
    shared: Arc<Shared>,
    github: GitHub,
    pacing: Pacing,
    pace: Pace,
    known: HashMap<[String; 5], Known>,
    backoffs: HashMap<String, ExponentialBackoff>,
}

impl Outbox {
    /// Makes an outbox for a GitHub, and the handle that feeds it.
    #[must_use]
    pub fn new(github: GitHub, pacing: Pacing) -> (Reporter, Self) {
        let state = State {
            queue: Queue::new(pacing.capacity),
            outcomes: BTreeMap::new(),
            counters: Counters::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            changed: watch::Sender::new(0),
        });
        let reporter = Reporter {
            shared: Arc::clone(&shared),
        };
        let pace = Pace::new(pacing.between_writes);
        (
            reporter,
            Self {
                shared,
                github,
                pacing,
                pace,
                known: HashMap::new(),
                backoffs: HashMap::new(),
            },
        )
    }

    /// Delivers reports for ever. May be dropped at any time: whatever was under way is found by the next one.
    pub async fn run(mut self) {
        loop {
            let next = self.shared.lock().queue.next(Instant::now());
            match next {
                Next::Report(report) => self.attempt(*report).await,
                Next::At(when) => {
                    let woken = self.shared.wake.notified();
                    let _ = tokio::time::timeout_at(when, woken).await;
                }
                Next::Nothing => self.shared.wake.notified().await,
            }
        }
    }

    async fn attempt(&mut self, report: Report) {
        let id = key(&report).map(str::to_owned);
        let mut known = self.known.remove(&id).unwrap_or_default();
        let result = self.github.deliver(&report, &mut known, &mut self.pace).await;
        match result {
            Ok(delivered) => {
                self.remember(id, known);
                self.backoffs.remove(report.owner());
                self.delivered(&report, delivered);
            }
            Err(error) if error.is_transient() => {
                self.remember(id, known);
                self.put_off(report, &error);
            }
            // Forgotten: a person may have deleted the deployment or fixed the repository.
            Err(error) => {
                let mut state = self.shared.lock();
                self.shared
                    .give_up(&mut state, &report, error.word(), error.to_string());
            }
        }
    }

    fn delivered(&self, report: &Report, delivered: Delivered) {
        let mut state = self.shared.lock();
        let counter = if delivered.posted {
            &mut state.counters.posted
        } else {
            &mut state.counters.unchanged
        };
        *counter += 1;
        self.shared.note(
            &mut state,
            report,
            Told::Done {
                deployment: delivered.deployment,
            },
        );
    }

    fn put_off(&mut self, report: Report, error: &Error) {
        let wait = self.wait_after(&report, error);
        let mut state = self.shared.lock();
        state.counters.put_off += 1;
        state.queue.close(report.owner(), Instant::now() + wait);
        self.shared.note(
            &mut state,
            &report,
            Told::Waiting {
                reason: error.word(),
                message: error.to_string(),
            },
        );
        let put = state.queue.put_back(report);
        self.shared.account(&mut state, put);
    }

    /// How long to leave an owner's repositories alone: what GitHub asked for, and in any case a growing while.
    fn wait_after(&mut self, report: &Report, error: &Error) -> Duration {
        let pacing = &self.pacing;
        let backoff = self
            .backoffs
            .entry(report.owner().to_owned())
            .or_insert_with(|| pacing.backoff());
        let growing = backoff.next().unwrap_or(pacing.longest_retry);
        match error {
            Error::Limited { wait: Some(asked), .. } => growing.max(*asked),
            Error::Limited { wait: None, .. } => growing.max(pacing.unsaid_limit),
            _ => growing,
        }
    }

    /// Keeps what is known of a deployment. It saves calls and nothing else, so that too much is simply forgotten.
    fn remember(&mut self, id: [String; 5], known: Known) {
        if self.known.len() >= self.pacing.capacity {
            self.known.clear();
        }
        self.known.insert(id, known);
    }
}
