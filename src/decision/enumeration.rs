//! Every abstract state with every abstract fact: the invariants hold in one step from each of
//! them, whether it can be reached or not, so they hold along every path.
//!
//! The plan has two steps, 5 and 95: a middle step has no rule of its own. One moment stands for
//! each side of every limit in time. Routes come alone and in all pairs. The product of everything
//! would be 10^11 cases, so it is cut where rules do not meet: [`SWEEPS`] says what each part keeps
//! whole. Texts are one constant each; a part of its own swaps them.

use std::collections::BTreeMap;

use super::alphabet::{
    ASKED, CANARIES, EPOCH, HOLDS, NOW, POLICIES, STAGES, SWITCHES, TIMES, WORKLOADS, ago, judgements, plan, routes,
};
use super::simulation::revision;
use super::violations::{Case, repeated, violations};
use super::{
    Attempt, CanaryFact, Decision, Effect, Facts, HoldSince, Judged, Reason, Record, Request, Revision, RouteFact,
    SafeTarget, Stage, State, WorkloadFact,
};

/// All of a list.
const ANY: usize = usize::MAX;

/// One part of the enumeration: how many of each list it takes, from the front; [`ANY`] is all.
struct Sweep {
    stages: fn(Option<Stage>) -> bool,
    /// Gates with one route.
    alone: usize,
    /// Gates with two routes: all pairs of this many.
    pairs: usize,
    times: &'static [usize],
    holds: usize,
    switches: usize,
    workloads: usize,
    canaries: usize,
    judged: usize,
    asked: usize,
    policies: usize,
}

fn weighed(stage: Option<Stage>) -> bool {
    matches!(stage, Some(Stage::Stepping(_)))
}

fn prepares(stage: Option<Stage>) -> bool {
    stage == Some(Stage::Preparing)
}

const SWEEPS: [Sweep; 5] = [
    // What two routes may say, with whatever is asked or switched, while a weight is written.
    Sweep {
        stages: weighed,
        alone: ANY,
        pairs: 15,
        times: &[1, 3],
        holds: 2,
        switches: 3,
        workloads: 3,
        canaries: 2,
        judged: 3,
        asked: 4,
        policies: 1,
    },
    // Before the first weight.
    Sweep {
        stages: prepares,
        alone: ANY,
        pairs: 4,
        times: &[0, 1],
        holds: ANY,
        switches: ANY,
        workloads: ANY,
        canaries: ANY,
        judged: 1,
        asked: ANY,
        policies: 1,
    },
    // What the judge may say, at every time and under every policy.
    Sweep {
        stages: weighed,
        alone: 6,
        pairs: 2,
        times: &[0, 1, 2, 3, 4],
        holds: ANY,
        switches: 2,
        workloads: 1,
        canaries: 3,
        judged: ANY,
        asked: 1,
        policies: ANY,
    },
    // Everything about workload, canary and requests.
    Sweep {
        stages: weighed,
        alone: 8,
        pairs: 2,
        times: &[1, 3],
        holds: ANY,
        switches: ANY,
        workloads: ANY,
        canaries: ANY,
        judged: 3,
        asked: ANY,
        policies: 1,
    },
    // At rest, past the commit point and after an abort: neither judge nor hold has a say there.
    Sweep {
        stages: |stage| !weighed(stage) && !prepares(stage),
        alone: ANY,
        pairs: 8,
        times: &[0, 1],
        holds: 1,
        switches: ANY,
        workloads: ANY,
        canaries: 4,
        judged: 1,
        asked: ANY,
        policies: 1,
    },
];

/// Whether an attempt can be in this stage with such routes. A compare-and-swap in the order of the
/// routes, with a fence that stays and a commit point that stays, lets no attempt have both; but a
/// commit point that is being taken back, which never happens once the release was stored.
fn possible(stage: Option<Stage>, routes: &[RouteFact]) -> bool {
    let ours = || {
        routes
            .iter()
            .filter_map(|route| route.mark.as_ref())
            .filter(|mark| mark.epoch == EPOCH)
    };
    let aborted = |reason| !matches!(reason, Reason::Superseded | Reason::Reverted);
    let fenced = ours().any(|mark| mark.fenced && !mark.takes_back())
        || matches!(stage, Some(Stage::Aborting(reason) | Stage::Rejected(reason)) if aborted(reason));
    let committed = ours().any(|mark| mark.safe == SafeTarget::Canary);
    let over = matches!(stage, Some(Stage::HandingOver | Stage::Restoring));
    stage.is_none() || !(fenced && (committed || over)) && !(over && ours().any(|mark| mark.fenced))
}

fn upto(list: usize, wanted: usize) -> std::ops::Range<usize> {
    0..list.min(wanted)
}

/// Calls `check` with every case of a sweep in which the routes' number is `part` modulo `parts`.
fn each(sweep: &Sweep, (part, parts): (usize, usize), check: &mut impl FnMut(&Case)) {
    for stage in STAGES.into_iter().filter(|stage| (sweep.stages)(*stage)) {
        let step = if let Some(Stage::Stepping(step)) = stage {
            step
        } else {
            0
        };
        let (alphabet, said) = (routes(step), judgements(step));
        let mut sets: Vec<Vec<RouteFact>> = alphabet
            .iter()
            .take(sweep.alone)
            .map(|route| vec![route.clone()])
            .collect();
        for one in upto(alphabet.len(), sweep.pairs) {
            sets.extend(
                upto(alphabet.len(), sweep.pairs).map(|two| vec![alphabet[one].clone(), alphabet[two].clone()]),
            );
        }
        sets.retain(|routes| possible(stage, routes));
        for routes in sets.into_iter().skip(part).step_by(parts) {
            for policy in POLICIES.into_iter().take(sweep.policies) {
                let mut case = Case {
                    plan: plan(policy),
                    state: State::default(),
                    facts: facts(routes.clone()),
                    now: NOW,
                };
                each_state(sweep, stage, &mut case, &mut |case| {
                    each_fact(sweep, &said, case, check);
                });
            }
        }
    }
}

fn facts(routes: Vec<RouteFact>) -> Facts {
    Facts {
        leader: true,
        suspended: false,
        deleted: false,
        workload: None,
        routes,
        canary: CanaryFact::default(),
        preflight: None,
        judged: None,
        request: None,
    }
}

fn each_state(sweep: &Sweep, stage: Option<Stage>, case: &mut Case, next: &mut impl FnMut(&mut Case)) {
    let Some(stage) = stage else {
        for proven in [None, Some(revision("v1")), Some(revision("v2"))] {
            case.state = State {
                proven,
                epoch: EPOCH,
                attempt: None,
            };
            next(case);
        }
        return;
    };
    let times = sweep.times.iter().map(|at| TIMES[*at]);
    for (since, window) in times {
        for hold in HOLDS.into_iter().take(sweep.holds) {
            let attempt = Attempt {
                revision: revision("v2"),
                epoch: EPOCH,
                stage,
                since: ago(since),
                window: window.map(ago),
                scaling: None,
                hold: hold.map(|reason| HoldSince {
                    reason,
                    since: ago(since),
                }),
                decisions: 3,
            };
            case.state = State {
                proven: Some(revision("v1")),
                epoch: EPOCH,
                attempt: Some(attempt),
            };
            next(case);
        }
    }
}

fn each_fact(sweep: &Sweep, said: &[Option<Judged>], case: &mut Case, check: &mut impl FnMut(&Case)) {
    for (name, ready, late, preflight) in CANARIES.into_iter().take(sweep.canaries) {
        let revision = (!name.is_empty()).then(|| revision(name));
        let exists = revision.is_some();
        case.facts.canary = CanaryFact {
            revision,
            ready,
            desired: 3,
            needed: 1,
            needed_next: 3,
            exists,
        };
        case.facts.preflight = preflight;
        if let Some(attempt) = &mut case.state.attempt {
            attempt.scaling = late.then(|| ago(100));
        }
        for workload in WORKLOADS.into_iter().take(sweep.workloads) {
            case.facts.workload = workload.map(|(template, held, released, rolled_out)| WorkloadFact {
                template: Revision(template.to_owned()),
                held,
                released,
                rolled_out,
                adopted: held || released,
            });
            for judged in said.iter().take(sweep.judged) {
                case.facts.judged.clone_from(judged);
                for (switch, asked) in upto(SWITCHES.len(), sweep.switches)
                    .flat_map(|at| upto(ASKED.len(), sweep.asked).map(move |asked| (at, asked)))
                {
                    (case.facts.leader, case.facts.suspended, case.facts.deleted) = SWITCHES[switch];
                    case.facts.request = ASKED[asked].map(|(verb, revision)| Request {
                        name: "ask".into(),
                        verb,
                        revision: revision.map(str::to_owned),
                        by: "ada".into(),
                        at: ago(1),
                    });
                    check(case);
                }
            }
        }
    }
}

/// What is wrong, each with the first case that shows it.
type Complaints = BTreeMap<Vec<&'static str>, String>;

/// Runs `check` over sweeps on two threads; gives the number of cases as well.
fn sweep_all(sweeps: &[Sweep], check: fn(&Case) -> Vec<&'static str>) -> (usize, Complaints) {
    const PARTS: usize = 2;
    let part = |part| {
        let (mut cases, mut complaints) = (0, Complaints::new());
        for sweep in sweeps {
            each(sweep, (part, PARTS), &mut |case| {
                cases += 1;
                let wrong = check(case);
                if !wrong.is_empty() {
                    let example = || format!("{case:#?}\n{:#?}", case.decide());
                    complaints.entry(wrong).or_insert_with(example);
                }
            });
        }
        (cases, complaints)
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..PARTS).map(|at| scope.spawn(move || part(at))).collect();
        let (mut cases, mut complaints) = (0, Complaints::new());
        for part in parts {
            let (counted, found) = part.join().expect("a part ends");
            cases += counted;
            complaints.extend(found);
        }
        (cases, complaints)
    })
}

#[test]
fn from_every_state_and_with_every_fact_one_pass_keeps_every_invariant() {
    let (cases, complaints) = sweep_all(&SWEEPS, |case| {
        let decision = case.decide();
        let mut wrong = violations(case, &decision);
        wrong.extend(repeated(case, &decision));
        wrong
    });
    assert!(complaints.is_empty(), "{cases} cases: {complaints:#?}");
    assert!(cases > 2_500_000, "only {cases} cases");
}

/// The case with every text swapped that comes from people, metrics or hashes.
fn reworded(case: &Case) -> Case {
    const OTHER: &str = "promote now; verdict: Pass";
    let mut case = case.clone();
    case.plan.policy_hash = OTHER.into();
    if let Some(judged) = &mut case.facts.judged {
        (judged.rule, judged.evidence_hash) = (OTHER.into(), OTHER.into());
    }
    if let Some(request) = &mut case.facts.request {
        (request.name, request.by) = (OTHER.into(), OTHER.into());
    }
    for record in case
        .facts
        .routes
        .iter_mut()
        .filter_map(|route| Some(&mut route.mark.as_mut()?.record))
    {
        reword(record, OTHER);
    }
    case
}

fn reword(record: &mut Record, text: &str) {
    for field in [
        &mut record.id,
        &mut record.rule,
        &mut record.evidence_hash,
        &mut record.policy_hash,
    ] {
        text.clone_into(field);
    }
    record.by = record.by.take().map(|_| text.to_owned());
}

/// A decision without the texts that it hands on.
fn wordless(mut decision: Decision) -> Decision {
    for effect in &mut decision.effects {
        match effect {
            Effect::Write(mark) => reword(&mut mark.record, ""),
            Effect::Answer { name, .. } => name.clear(),
            _ => {}
        }
    }
    decision
}

#[test]
fn no_text_changes_a_decision() {
    let (cases, complaints) = sweep_all(&SWEEPS[..2], |case| {
        let changed = wordless(reworded(case).decide()) != wordless(case.decide());
        if changed { vec!["I10: a text decided"] } else { vec![] }
    });
    assert!(complaints.is_empty(), "{cases} cases: {complaints:#?}");
}
