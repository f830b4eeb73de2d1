//! What Tollgate decides, and on what: words, units, evidence, plan, and the machine.
//!
//! No client, no clock, no input or output: everything a decision depends on is an argument.
//! [`decide`] is the only place where a release moves, and [`Evidence`] the only form in which
//! measurements reach it. These types are also what is stored in status, annotations and the
//! audit log, so a change of their serialised form is a change of a wire format.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

#[cfg(test)]
mod alphabet;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod enumeration;
mod evidence;
mod facts;
#[cfg(test)]
mod interruptions;
mod machine;
#[cfg(test)]
mod model;
mod plan;
mod reason;
mod record;
mod requests;
#[cfg(test)]
mod simulation;
mod stages;
mod state;
mod told;
mod units;
#[cfg(test)]
mod violations;
#[cfg(test)]
mod walks;

pub use evidence::{Arm, Evidence, Gap, GapKind, Judged, MethodName, Need, Reading, Tick, Unit, Verdict};
pub use facts::{CanaryFact, Facts, Mark, Request, RouteFact, SafeTarget, Split, Verb, WorkloadFact};
pub use machine::decide;
pub use plan::{Deadlines, NoEvidencePolicy, OnInconclusive, Plan, Promote, Step, Then};
pub use reason::Reason;
pub use record::{Outcome, Record};
pub use state::{Attempt, Decision, Effect, HoldSince, Stage, State};
pub use told::blindness;
pub use units::{Millis, Percent, PercentError, Revision};
