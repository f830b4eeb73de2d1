//! Every abstract value that a state or a fact can take, the telling ones first.

use super::simulation::{revision, share};
use super::{
    Deadlines, Judged, Mark, Millis, NoEvidencePolicy, OnInconclusive, Outcome, Percent, Plan, Reason, Record,
    RouteFact, SafeTarget, Split, Stage, Step, Then, Verb, Verdict,
};

pub(super) const NOW: Millis = Millis::from_secs(1_000_000);
pub(super) const EPOCH: i64 = 2;

pub(super) fn ago(secs: i64) -> Millis {
    NOW - Millis::from_secs(secs)
}

pub(super) fn plan((on_inconclusive, then): (OnInconclusive, Then)) -> Plan {
    let step = |weight| Step {
        weight: share(weight),
        min_window: Millis::from_secs(60),
        max_window: Millis::from_secs(300),
    };
    Plan {
        policy_hash: "policy".into(),
        patience: Millis::from_secs(30),
        steps: vec![step(5), step(100)],
        holdback: share(5),
        on_inconclusive,
        on_no_evidence: NoEvidencePolicy {
            hold: Millis::from_secs(120),
            then,
        },
        deadlines: Deadlines {
            ready: Millis::from_secs(60),
            route: Millis::from_secs(30),
            handover: Millis::from_secs(60),
            drain: Millis::from_secs(5),
        },
    }
}

pub(super) const STAGES: [Option<Stage>; 9] = [
    None,
    Some(Stage::Preparing),
    Some(Stage::Stepping(0)),
    Some(Stage::Stepping(1)),
    Some(Stage::HandingOver),
    Some(Stage::Restoring),
    Some(Stage::Aborting(Reason::Harm)),
    Some(Stage::Aborting(Reason::Superseded)),
    Some(Stage::Rejected(Reason::Harm)),
];

/// Since when the attempt is in its stage and its window open, in seconds before now.
pub(super) const TIMES: [(i64, Option<i64>); 5] = [
    (1, None),
    (400, None),
    (400, Some(1)),
    (400, Some(100)),
    (400, Some(350)),
];

/// Leader, suspended, deleted.
pub(super) const SWITCHES: [(bool, bool, bool); 5] = [
    (true, false, false),
    (true, true, false),
    (true, false, true),
    (true, true, true),
    (false, false, false),
];

/// Template, held, released for this attempt, rolled out.
pub(super) const WORKLOADS: [Option<(&str, bool, bool, bool)>; 9] = [
    Some(("v2", true, false, false)),
    None,
    Some(("v3", true, false, false)),
    Some(("v1", true, false, false)),
    Some(("v3", true, true, false)),
    Some(("v2", false, true, false)),
    Some(("v2", false, true, true)),
    Some(("v3", false, false, true)),
    Some(("v2", false, false, true)),
];

/// Revision, ready pods of 1 needed now and 3 needed next, whether the wait for them is over, preflight.
pub(super) const CANARIES: [(&str, i64, bool, Option<Reason>); 8] = [
    ("v2", 3, false, None),
    ("v2", 0, false, None),
    ("v2", 1, false, None),
    ("", 0, false, None),
    ("v2", 1, true, None),
    ("v2", 0, true, None),
    ("v3", 3, false, None),
    ("v2", 3, false, Some(Reason::Preflight)),
];

/// What is asked, and of which revision.
pub(super) const ASKED: [Option<(Verb, Option<&str>)>; 9] = [
    None,
    Some((Verb::Promote, None)),
    Some((Verb::Abort, None)),
    Some((Verb::Resume, None)),
    Some((Verb::Hold, None)),
    Some((Verb::Retry, None)),
    Some((Verb::Approve, None)),
    Some((Verb::Abort, Some("v3"))),
    Some((Verb::Promote, Some("v3"))),
];

pub(super) const HOLDS: [Option<Reason>; 3] = [None, Some(Reason::ForeignEdit), Some(Reason::Requested)];

pub(super) const POLICIES: [(OnInconclusive, Then); 4] = [
    (OnInconclusive::NoHarm, Then::Abort),
    (OnInconclusive::Hold, Then::Hold),
    (OnInconclusive::Abort, Then::Abort),
    (OnInconclusive::Hold, Then::Abort),
];

/// What the judge can say of a step, the telling ones first.
pub(super) fn judgements(step: usize) -> Vec<Option<Judged>> {
    let judged = |verdict: Verdict, at| Judged {
        epoch: EPOCH,
        step,
        at,
        verdict,
        receiving: true,
        blind_since: None,
        no_harm: false,
        rule: "rule".into(),
        evidence_hash: "hash".into(),
        readings: vec![],
    };
    let (pass, fail) = (Verdict::Pass(Reason::Safe), Verdict::Fail(Reason::Harm));
    let open = Verdict::Inconclusive(Reason::Undecided);
    let fresh = judged(pass.clone(), ago(5));
    let mut all = vec![
        Some(fresh.clone()),
        Some(judged(fail.clone(), ago(5))),
        Some(judged(open.clone(), ago(5))),
        None,
        Some(Judged {
            blind_since: Some(ago(200)),
            ..judged(open.clone(), ago(200))
        }),
        Some(Judged {
            epoch: EPOCH - 1,
            ..fresh.clone()
        }),
        Some(Judged {
            step: step + 5,
            ..fresh
        }),
    ];
    for verdict in [pass, fail, open] {
        for (at, blind) in [5, 40]
            .into_iter()
            .flat_map(|at| [None, Some(20), Some(200)].map(|blind| (at, blind)))
        {
            for (receiving, no_harm) in [(false, false), (true, false), (false, true), (true, true)] {
                all.push(Some(Judged {
                    receiving,
                    no_harm,
                    blind_since: blind.map(ago),
                    ..judged(verdict.clone(), ago(at))
                }));
            }
        }
    }
    all
}

/// A mark of an attempt, as an earlier pass would have written it.
pub(super) fn mark(epoch: i64, step: usize, (weight, reason): (i64, Reason)) -> Mark {
    let weight = share(weight);
    Mark {
        epoch,
        fenced: false,
        step,
        weight,
        safe: SafeTarget::Stable,
        record: Record {
            id: format!("{epoch}-{step}"),
            at: ago(400),
            outcome: Outcome::Promote,
            reason,
            revision: revision("v2"),
            step,
            from: Percent::ZERO,
            to: weight,
            rule: "rule".into(),
            evidence_hash: String::new(),
            policy_hash: "policy".into(),
            by: None,
        },
    }
}

/// Everything a route may say: as written first, then what a cut-off write, another replica or
/// somebody else can leave.
pub(super) fn routes(step: usize) -> Vec<RouteFact> {
    let weight = |step| [5, 95].get(step).copied().unwrap_or(95);
    let written = |step: usize| mark(EPOCH, step, (weight(step), Reason::Safe));
    let here = written(step);
    let fence = Mark {
        fenced: true,
        ..mark(EPOCH, step, (0, Reason::Harm))
    };
    let taken_back = Mark {
        fenced: true,
        ..mark(EPOCH, 0, (0, Reason::Superseded))
    };
    let committed = Mark {
        safe: SafeTarget::Canary,
        ..mark(EPOCH, 1, (100, Reason::Safe))
    };
    let at = |value| Split::At(share(value));
    let all = vec![
        (at(weight(step)), Some(here.clone())),
        (Split::AtRest, None),
        (Split::AtRest, Some(fence.clone())),
        (at(weight(step + 1)), Some(written((step + 1).min(1)))),
        (at(5), Some(written(0))),
        (at(0), Some(fence.clone())),
        (at(100), Some(committed.clone())),
        (at(0), Some(taken_back)),
        (at(96), Some(here.clone())),
        (at(0), Some(here.clone())),
        (at(0), Some(mark(EPOCH, step, (0, Reason::ForeignEdit)))),
        (Split::Uneven(share(weight(step))), Some(here.clone())),
        (Split::Missing, None),
        (at(96), None),
        (at(96), Some(fence)),
        (Split::AtRest, Some(here.clone())),
        (at(0), Some(committed)),
        (at(5), Some(mark(EPOCH - 1, 0, (5, Reason::Safe)))),
        (at(50), Some(mark(EPOCH + 1, 1, (50, Reason::Safe)))),
        (
            at(weight(step)),
            Some(Mark {
                record: Record {
                    reason: Reason::Requested,
                    at: NOW,
                    ..here.record.clone()
                },
                ..here
            }),
        ),
    ];
    let mut facts: Vec<RouteFact> = all
        .into_iter()
        .map(|(split, mark)| RouteFact {
            split,
            mark,
            programmed: true,
        })
        .collect();
    let unprogrammed = RouteFact {
        programmed: false,
        ..facts[0].clone()
    };
    facts.push(unprogrammed);
    facts
}
