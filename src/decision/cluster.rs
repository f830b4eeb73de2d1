//! The API server and the replicas of the model, as small as they can be.

use super::{
    Attempt, CanaryFact, Deadlines, Facts, HoldSince, Judged, Mark, Millis, NoEvidencePolicy, OnInconclusive, Outcome,
    Percent, Plan, Reason, Record, Request, Revision, RouteFact, SafeTarget, Split, Stage, State, Step, Then, Verb,
    Verdict, WorkloadFact,
};

pub(super) const NOW: Millis = Millis::from_secs(10);

/// What a mark says, without texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Note {
    pub(super) fenced: bool,
    pub(super) step: usize,
    pub(super) weight: u8,
    pub(super) safe: SafeTarget,
    pub(super) reason: Reason,
    pub(super) audited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) version: u8,
    /// Nothing when the canary is not named.
    pub(super) weight: Option<u8>,
    pub(super) note: Option<Note>,
}

/// The machine's memory as the API server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) version: u8,
    pub(super) stage: Option<Stage>,
    pub(super) window: bool,
    pub(super) hold: Option<Reason>,
    pub(super) proven: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Act {
    Write { route: usize, version: u8, note: Note },
    Audit { route: usize },
    Restore { route: usize, version: u8 },
    Release,
    Remove,
    Answer,
    Store(Stored),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Replica {
    pub(super) believes: bool,
    /// The memory and routes it read last.
    pub(super) seen: Option<(Stored, Vec<Route>)>,
    /// What is still to be done of this pass.
    pub(super) acts: Vec<Act>,
}

/// How often each fault may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    pub(super) crashes: u8,
    pub(super) lease_losses: u8,
    pub(super) stale_reads: u8,
    pub(super) foreign_edits: u8,
    pub(super) flips: u8,
    pub(super) aborts: u8,
    pub(super) pushes: u8,
}

/// What the Deployment carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Template {
    /// The revision on trial.
    Trial,
    /// A newer one.
    Newer,
    /// The trusted one again.
    Proven,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Says {
    Pass,
    Fail,
    Blind,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cluster {
    pub(super) routes: Vec<Route>,
    pub(super) stored: Stored,
    pub(super) held: bool,
    pub(super) rolled_out: bool,
    pub(super) canary: bool,
    pub(super) asked: bool,
    pub(super) template: Template,
    pub(super) says: Says,
    pub(super) leader: usize,
    pub(super) replicas: [Replica; 2],
    pub(super) left: Faults,
    /// An abort is recorded on every route or in the memory. Two routes are two writes: until the
    /// fence is on both, a raise that is under way may still reach the second one.
    pub(super) aborted: bool,
    pub(super) late_raise: bool,
    pub(super) unaudited_raise: bool,
    /// All traffic went to stable although it had begun to change.
    pub(super) late_retreat: bool,
    pub(super) restored_early: bool,
    pub(super) released_early: bool,
}

pub(super) fn plan() -> Plan {
    let step = |weight| Step {
        weight: Percent::try_from(weight).expect("0 to 100"),
        min_window: Millis(0),
        max_window: Millis::from_secs(1000),
    };
    Plan {
        policy_hash: String::new(),
        patience: Millis::from_secs(30),
        steps: vec![step(5), step(100)],
        holdback: Percent::ZERO,
        on_inconclusive: OnInconclusive::Hold,
        on_no_evidence: NoEvidencePolicy {
            hold: Millis::from_secs(1000),
            then: Then::Abort,
        },
        deadlines: Deadlines {
            ready: Millis::from_secs(1000),
            route: Millis::from_secs(1000),
            handover: Millis::from_secs(1000),
            drain: Millis(0),
        },
    }
}

pub(super) fn trial() -> Revision {
    Revision("v2".to_owned())
}

impl Note {
    pub(super) fn of(mark: &Mark) -> Self {
        Self {
            fenced: mark.fenced,
            step: mark.step,
            weight: mark.weight.get(),
            safe: mark.safe,
            reason: mark.record.reason,
            audited: true,
        }
    }

    pub(super) fn mark(self) -> Mark {
        let weight = Percent::try_from(i64::from(self.weight)).expect("0 to 100");
        Mark {
            epoch: 1,
            fenced: self.fenced,
            step: self.step,
            weight,
            safe: self.safe,
            record: Record {
                id: String::new(),
                at: Millis(0),
                outcome: Outcome::Hold,
                reason: self.reason,
                revision: trial(),
                step: self.step,
                from: weight,
                to: weight,
                rule: String::new(),
                evidence_hash: String::new(),
                policy_hash: String::new(),
                by: None,
            },
        }
    }
}

impl Route {
    pub(super) fn is_fenced(&self) -> bool {
        self.note.is_some_and(|note| note.fenced)
    }

    pub(super) fn exposure(&self) -> u8 {
        self.weight.unwrap_or(0)
    }

    pub(super) fn fact(self) -> RouteFact {
        let share = |weight: u8| Percent::try_from(i64::from(weight)).expect("0 to 100");
        RouteFact {
            split: self.weight.map_or(Split::AtRest, |weight| Split::At(share(weight))),
            mark: self.note.map(Note::mark),
            programmed: true,
        }
    }

    /// The router's own check of what is on the route it writes to.
    pub(super) fn admits(&self, next: &Note) -> bool {
        self.note.is_none_or(|live| {
            let back = next.mark().takes_back();
            let committed = live.safe == SafeTarget::Canary && next.safe == SafeTarget::Stable && !back;
            !(live.fenced || committed) || next.weight == live.safe.weight().get()
        })
    }
}

impl Stored {
    pub(super) fn state(self) -> State {
        let attempt = self.stage.map(|stage| Attempt {
            revision: trial(),
            epoch: 1,
            stage,
            since: Millis(0),
            window: self.window.then_some(Millis(0)),
            scaling: None,
            hold: self.hold.map(|reason| HoldSince {
                reason,
                since: Millis(0),
            }),
            decisions: 0,
        });
        State {
            proven: Some(if self.proven {
                trial()
            } else {
                Revision("v1".to_owned())
            }),
            epoch: 1,
            attempt,
        }
    }

    pub(super) fn after(self, state: &State) -> Self {
        let attempt = state.attempt.as_ref();
        Self {
            version: self.version,
            stage: attempt.map(|attempt| attempt.stage),
            window: attempt.is_some_and(|attempt| attempt.window.is_some()),
            hold: attempt.and_then(|attempt| attempt.hold).map(|hold| hold.reason),
            proven: state.proven == Some(trial()),
        }
    }

    pub(super) fn is_aborted(self) -> bool {
        matches!(self.stage, Some(Stage::Aborting(_) | Stage::Rejected(_)))
    }
}

impl Cluster {
    pub(super) fn is_aborted(&self) -> bool {
        self.aborted || self.routes.iter().any(Route::is_fenced)
    }

    pub(super) fn exposed(&self) -> bool {
        self.routes.iter().any(|route| route.exposure() > 0)
    }

    pub(super) fn facts(&self, replica: &Replica, (stored, routes): (&Stored, &[Route])) -> Facts {
        let judged = |verdict: Verdict, blind_since| Judged {
            epoch: 1,
            step: if let Some(Stage::Stepping(step)) = stored.stage {
                step
            } else {
                0
            },
            at: NOW,
            verdict,
            receiving: true,
            blind_since,
            no_harm: false,
            rule: String::new(),
            evidence_hash: String::new(),
            readings: vec![],
        };
        Facts {
            leader: replica.believes,
            suspended: false,
            deleted: false,
            workload: Some(WorkloadFact {
                template: match self.template {
                    Template::Trial => trial(),
                    Template::Newer => Revision("v3".to_owned()),
                    Template::Proven => Revision("v1".to_owned()),
                },
                held: self.held,
                released: !self.held,
                rolled_out: self.rolled_out,
                adopted: true,
            }),
            routes: routes.iter().map(|route| route.fact()).collect(),
            canary: CanaryFact {
                revision: self.canary.then(trial),
                ready: if self.canary { 3 } else { 0 },
                desired: 3,
                needed: 1,
                needed_next: 3,
                exists: self.canary,
            },
            preflight: None,
            judged: Some(match self.says {
                Says::Pass => judged(Verdict::Pass(Reason::Safe), None),
                Says::Fail => judged(Verdict::Fail(Reason::Harm), None),
                Says::Blind => judged(Verdict::Inconclusive(Reason::NoEvidence), Some(NOW)),
            }),
            request: self.asked.then(|| Request {
                name: String::new(),
                verb: Verb::Abort,
                revision: None,
                by: String::new(),
                at: Millis(0),
            }),
        }
    }
}
