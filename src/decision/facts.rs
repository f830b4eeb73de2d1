//! Everything the machine may look at, gathered anew for every pass.

use serde::{Deserialize, Serialize};

use super::{Judged, Millis, Percent, Reason, Record, Revision};

/// The world as one pass sees it. What could not be read is an error of the pass, not a fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Whether this process may raise weights: it leads, and its lease has not run out.
    pub leader: bool,
    /// The gate's switch: holds everything except the way to the safe target.
    pub suspended: bool,
    /// The gate is being deleted.
    pub deleted: bool,
    /// The Deployment; `None` when it does not exist.
    pub workload: Option<WorkloadFact>,
    /// Every route that the gate names, in the gate's order; never empty.
    pub routes: Vec<RouteFact>,
    /// The canary's pods.
    pub canary: CanaryFact,
    /// What would make the trial prove nothing, found before the first step.
    pub preflight: Option<Reason>,
    /// What the judge last said, if it has spoken.
    pub judged: Option<Judged>,
    /// The oldest request that has not been answered yet.
    pub request: Option<Request>,
}

impl Facts {
    /// The world at a step where nothing can be missing but evidence: somebody else moves the
    /// traffic, or it was moved long ago. The route says what the mark says, its pods are ready,
    /// and nobody asks for anything.
    #[must_use]
    pub fn at_step(mark: Mark, judged: Option<Judged>) -> Self {
        let revision = mark.record.revision.clone();
        Self {
            leader: true,
            suspended: false,
            deleted: false,
            workload: Some(WorkloadFact {
                template: revision.clone(),
                held: true,
                released: false,
                rolled_out: false,
                adopted: true,
            }),
            routes: vec![RouteFact {
                split: Split::At(mark.weight),
                mark: Some(mark),
                programmed: true,
            }],
            canary: CanaryFact {
                revision: Some(revision),
                ready: 1,
                desired: 1,
                needed: 1,
                needed_next: 1,
                exists: true,
            },
            preflight: None,
            judged,
            request: None,
        }
    }
}

/// The user's Deployment.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFact {
    /// Our hash of its pod template.
    pub template: Revision,
    /// Whether the hold is on: an unproven template, or a restart of the proven one, is paused.
    pub held: bool,
    /// Whether the hold was taken off for the release in flight: stable may have begun to change.
    pub released: bool,
    /// Whether every pod runs the template that is written and is ready.
    pub rolled_out: bool,
    /// Whether everything that holds the next change is on it, or cannot be put on it yet.
    pub adopted: bool,
}

/// The canary's pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CanaryFact {
    /// The revision its Deployment carries, if there is one.
    pub revision: Option<Revision>,
    /// Ready pods that run that revision.
    pub ready: i64,
    /// Pods asked for.
    pub desired: i64,
    /// Pods needed before the weight of the current step may be written.
    pub needed: i64,
    /// Pods needed before the weight of the next step may be written.
    pub needed_next: i64,
    /// Whether anything of the canary still exists, its Service included.
    pub exists: bool,
}

/// One route as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteFact {
    /// What its rules say.
    pub split: Split,
    /// Our annotation, if it is there and can be read.
    pub mark: Option<Mark>,
    /// Whether its gateways report that they have taken up this version of it.
    pub programmed: bool,
}

/// What the rules of a route say about the pair of stable and canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The canary is not named: the route is as the user wrote it.
    AtRest,
    /// Every rule that names the pair gives the canary this share.
    At(Percent),
    /// Rules disagree; the largest share of the canary in any of them.
    Uneven(Percent),
    /// The route does not exist, or no rule names the service.
    Missing,
}

impl Split {
    /// Whether any rule names the canary, be it with weight 0.
    #[must_use]
    pub const fn names_canary(self) -> bool {
        matches!(self, Self::At(_) | Self::Uneven(_))
    }

    /// The largest share that reaches the canary.
    #[must_use]
    pub const fn exposure(self) -> Percent {
        match self {
            Self::AtRest | Self::Missing => Percent::ZERO,
            Self::At(share) | Self::Uneven(share) => share,
        }
    }
}

/// Where all traffic belongs when anything is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SafeTarget {
    /// Before the commit point.
    Stable,
    /// After it: the old revision may be gone.
    Canary,
}

impl SafeTarget {
    /// The canary's share when all traffic is at the safe target.
    #[must_use]
    pub const fn weight(self) -> Percent {
        match self {
            Self::Stable => Percent::ZERO,
            Self::Canary => Percent::ALL,
        }
    }
}

/// What we keep in a route's annotation, written together with the weights it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The attempt that wrote it. A lower epoch never overwrites a higher one.
    pub epoch: i64,
    /// Set by an abort: this attempt never raises again.
    pub fenced: bool,
    /// The step the weight belongs to, from 0.
    pub step: usize,
    /// The weight that was written.
    pub weight: Percent,
    /// Where all traffic belongs when anything is wrong.
    pub safe: SafeTarget,
    /// The decision behind the write: the durable audit record.
    pub record: Record,
}

impl Mark {
    /// Whether this fence takes a commit point of its own attempt back: another template is held, and
    /// stable has not begun to change. Any other fence is refused after the commit point.
    #[must_use]
    pub const fn takes_back(&self) -> bool {
        self.fenced && matches!(self.record.reason, Reason::Superseded | Reason::Reverted)
    }
}

/// What somebody asked of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The GateAction's name, to answer it.
    pub name: String,
    /// What was asked.
    pub verb: Verb,
    /// The revision it is about, all of it or its beginning; any when left out.
    pub revision: Option<String>,
    /// Who asked, as the API server knows them.
    pub by: String,
    /// When it was asked.
    pub at: Millis,
}

/// What can be asked of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Verb {
    /// Consent to the release's next step, where the policy asks for it.
    Approve,
    /// Go to the next step now, past a hold: break glass, recorded as such.
    Promote,
    /// Keep the weight until resumed.
    Hold,
    /// Go on after a hold; after a foreign edit, from the first step.
    Resume,
    /// All traffic back to the safe target; the revision is refused.
    Abort,
    /// Try a refused revision again.
    Retry,
}
