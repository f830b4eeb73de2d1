//! One static word per outcome, shared by condition, event and metric label.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why the machine or the judge said what it said.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason there is: the closed label set of the metrics.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word itself.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The reason of a word; `None` for a word of another version.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.word() == word)
            }

            /// One sentence for people.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// No release is in flight.
    AtRest,
    /// The revision that was running when the gate was made is trusted without judgement.
    Adopted,
    /// A new revision has begun its trial.
    Started,
    /// The canary's pods are not ready yet.
    CanaryNotReady,
    /// The canary's pods did not become ready in time.
    CanaryDeadline,
    /// The canary lost all its ready pods while it had traffic.
    CanaryLost,
    /// Something that selects stable pods would miss the canary; the message names it.
    Preflight,
    /// A route has not been programmed by its gateway yet, or the canary has seen no request.
    RouteNotProgrammed,
    /// A route was not programmed in time.
    RouteDeadline,
    /// A route that the gate names does not exist or does not name the service.
    RouteMissing,
    /// The step's shortest stay has not passed.
    MinWindow,
    /// Too few requests so far.
    TooFew,
    /// Neither safety nor harm is shown yet.
    Undecided,
    /// Evidence is missing or not to be trusted.
    NoEvidence,
    /// The canary is worse than stable was in the past it is compared with, which holds and does not abort.
    WorseThanPast,
    /// A gauge of the canary has been far above stable's for minutes; for a guard no error rate is claimed.
    GuardExceeded,
    /// The canary does not get the share of the requests that its weight says.
    SampleRatio,
    /// Evidence was missing for longer than the policy allows.
    EvidenceDeadline,
    /// The longest stay passed without a clear verdict.
    Inconclusive,
    /// Every metric is safe within its margin.
    Safe,
    /// Complete evidence shows no harm, and the policy asks for no more.
    NoHarm,
    /// At least one metric is worse than its margin allows.
    Harm,
    /// A limit was exceeded.
    LimitExceeded,
    /// A rule of the policy says abort.
    RuleAborts,
    /// A rule of the policy says that the release must not go on yet.
    RuleHolds,
    /// A rule of the policy cannot be answered: it reads a number that is not known.
    RuleUnanswered,
    /// All steps passed; stable is being brought to the new revision.
    Committed,
    /// Stable has not reached the new revision in time; the canary keeps the traffic.
    HandoverDeadline,
    /// The release is complete.
    Completed,
    /// A person asked for it.
    Requested,
    /// The request names a revision that is not on trial.
    OtherRevision,
    /// The gate is suspended.
    Suspended,
    /// A newer revision replaced the one on trial.
    Superseded,
    /// The template is the proven one again.
    Reverted,
    /// The revision was refused; a retry or a new revision starts over.
    Rejected,
    /// Somebody else changed the split.
    ForeignEdit,
    /// The Deployment does not exist.
    WorkloadMissing,
    /// The Deployment is paused or still rolling out; it is adopted when that is over.
    NotRolledOut,
    /// A template change got through without being held and was adopted.
    Unheld,
    /// The gate is being deleted.
    Deleted,
    /// Another replica leads.
    NotLeader,
    /// The gate cannot be understood; the message says why.
    Invalid,
}

impl Reason {
    /// Whether waiting for this reason is what every healthy release does.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        match self {
            Self::AtRest
            | Self::Adopted
            | Self::NotRolledOut
            | Self::Started
            | Self::CanaryNotReady
            | Self::RouteNotProgrammed
            | Self::MinWindow
            | Self::TooFew
            | Self::Undecided
            | Self::Safe
            | Self::NoHarm
            | Self::Committed
            | Self::Completed
            | Self::Reverted
            | Self::Rejected
            | Self::Deleted
            | Self::NotLeader => true,
            Self::CanaryDeadline
            | Self::CanaryLost
            | Self::Preflight
            | Self::RouteDeadline
            | Self::RouteMissing
            | Self::NoEvidence
            | Self::WorseThanPast
            | Self::GuardExceeded
            | Self::SampleRatio
            | Self::EvidenceDeadline
            | Self::Inconclusive
            | Self::Harm
            | Self::LimitExceeded
            | Self::RuleAborts
            | Self::RuleHolds
            | Self::RuleUnanswered
            | Self::HandoverDeadline
            | Self::Requested
            | Self::OtherRevision
            | Self::Suspended
            | Self::Superseded
            | Self::ForeignEdit
            | Self::WorkloadMissing
            | Self::Unheld
            | Self::Invalid => false,
        }
    }
}
