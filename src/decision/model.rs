//! A model of the shell around [`decide`]: an API server with versions, two replicas that may read
//! old things, stop between two effects, or believe too long that they lead, and somebody else who
//! edits a route. A checker visits every order of events.
//!
//! The clock stands still at a moment when every wait is over. What is left out: the judge's own
//! mistakes, pods, and more than one attempt; tables and walks over the simulated world show those.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::cluster::{Act, Cluster, Faults, NOW, Note, Replica, Route, Says, Stored, Template, plan};
use super::{Effect, Mark, SafeTarget, Stage, decide};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    /// A replica reads, old memory or old everything if told so, and decides.
    Pass(usize, Reads),
    /// It does the next thing of its pass.
    Act(usize),
    Crash(usize),
    LoseLease,
    Notice(usize),
    Edit(usize),
    Flip(Says),
    AskAbort,
    /// Another template is written, and held; also one that was there before.
    Push(Template),
    RollOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Fresh,
    OldMemory,
    OldWorld,
}

/// What is left out of the shell or of the machine, to see that the checker would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    NoFence,
    NoCompareAndSwap,
    AuditAfterWrite,
    NoWeightZeroOnceAborted,
    FenceOnlyWhereWritten,
    NoLeaseToTakeBack,
    NoLeaseToRelease,
}

struct Shell {
    mutant: Mutant,
    routes: usize,
    faults: Faults,
}

impl Shell {
    /// What a replica that has read this does, in order; nothing when it does nothing.
    fn acts(&self, cluster: &Cluster, replica: usize, (stored, routes): (&Stored, &[Route])) -> Vec<Act> {
        if stored.stage.is_none() && !stored.proven {
            return vec![]; // the next attempt is another story
        }
        let replica = &cluster.replicas[replica];
        let state = stored.state();
        let decision = decide(&plan(), &state, &cluster.facts(replica, (stored, routes)), NOW);
        let mut acts: Vec<Act> = decision
            .effects
            .iter()
            .flat_map(|effect| self.of(effect, stored, routes))
            .collect();
        if self.mutant == Mutant::NoWeightZeroOnceAborted && stored.is_aborted() {
            acts.retain(|act| !matches!(act, Act::Write { .. }));
        }
        let after = stored.after(&decision.state);
        if replica.believes && after != *stored {
            acts.push(Act::Store(after));
        }
        acts.reverse();
        acts
    }

    fn of(&self, effect: &Effect, stored: &Stored, routes: &[Route]) -> Vec<Act> {
        let all = routes.iter().enumerate();
        match effect {
            Effect::Write(mark) => all
                .filter(|(_, live)| !self.skips(mark, live))
                .flat_map(|(route, live)| {
                    let mut note = Note::of(mark);
                    note.fenced &= self.mutant != Mutant::NoFence;
                    note.audited = self.mutant != Mutant::AuditAfterWrite;
                    let audit = (!note.audited).then_some(Act::Audit { route });
                    let write = Act::Write {
                        route,
                        version: live.version,
                        note,
                    };
                    let done = live.note == Some(note) && live.weight == Some(note.weight) || !live.admits(&note);
                    (!done).then_some(write).into_iter().chain(audit)
                })
                .collect(),
            Effect::Restore => all
                .filter(|(_, live)| live.weight.is_some() || live.note.is_some_and(|note| !note.fenced))
                .map(|(route, live)| Act::Restore {
                    route,
                    version: live.version,
                })
                .collect(),
            Effect::Release => vec![Act::Release],
            Effect::Remove => vec![Act::Remove],
            Effect::Answer { .. } => vec![Act::Answer],
            Effect::Adopt | Effect::Freeze | Effect::GuardStable | Effect::ScaleCanary { .. } | Effect::Disown => {
                let _ = stored;
                vec![]
            }
        }
    }

    /// A fence on a route that nothing was written to yet.
    fn skips(&self, mark: &Mark, live: &Route) -> bool {
        self.mutant == Mutant::FenceOnlyWhereWritten && mark.fenced && live.weight.is_none() && live.note.is_none()
    }

    /// Does one thing; `false` when the API server refused it.
    fn perform(&self, cluster: &mut Cluster, replica: usize, act: Act) -> bool {
        let swaps = self.mutant != Mutant::NoCompareAndSwap;
        match act {
            Act::Write { route, version, note } => {
                let live = &mut cluster.routes[route];
                if swaps && live.version != version {
                    return false;
                }
                // another leader may have released the hold since this was decided
                let committed = live.note.is_some_and(|note| note.safe == SafeTarget::Canary);
                let asks = self.mutant != Mutant::NoLeaseToTakeBack;
                if asks && committed && note.mark().takes_back() && cluster.leader != replica {
                    return false;
                }
                let changing = !cluster.held && !cluster.rolled_out;
                cluster.late_retreat |= note.weight == 0 && live.weight == Some(100) && changing;
                let raises = note.weight > live.exposure() && note.safe == SafeTarget::Stable;
                cluster.late_raise |= raises && (cluster.aborted || live.is_fenced());
                cluster.unaudited_raise |= raises && !note.audited;
                *live = Route {
                    version: live.version + 1,
                    weight: Some(note.weight),
                    note: Some(note),
                };
                cluster.aborted |= cluster.routes.iter().all(Route::is_fenced);
            }
            Act::Audit { route } => {
                if let Some(note) = &mut cluster.routes[route].note {
                    note.audited = true;
                }
            }
            Act::Restore { route, version } => {
                let live = &mut cluster.routes[route];
                if swaps && live.version != version {
                    return false;
                }
                cluster.restored_early |=
                    live.note.is_some_and(|note| note.safe == SafeTarget::Canary) && !cluster.rolled_out;
                *live = Route {
                    version: live.version + 1,
                    weight: None,
                    note: live.note.filter(|note| note.fenced),
                };
            }
            Act::Release if cluster.template != Template::Trial => return false,
            Act::Release if self.mutant != Mutant::NoLeaseToRelease && cluster.leader != replica => return false,
            Act::Release => {
                let committed = |route: &Route| route.note.is_some_and(|note| note.safe == SafeTarget::Canary);
                cluster.released_early |= cluster.held && !cluster.routes.iter().all(committed);
                cluster.held = false;
            }
            Act::Remove => cluster.canary = false,
            Act::Answer => cluster.asked = false,
            Act::Store(stored) => {
                if swaps && cluster.stored.version != stored.version {
                    return false;
                }
                cluster.aborted |= stored.is_aborted();
                cluster.stored = Stored {
                    version: cluster.stored.version + 1,
                    ..stored
                };
            }
        }
        true
    }

    fn pass(&self, cluster: &mut Cluster, at: usize, reads: Reads) -> Option<()> {
        let seen = cluster.replicas[at].seen.clone();
        let (stored, routes) = match reads {
            Reads::Fresh => (cluster.stored, cluster.routes.clone()),
            Reads::OldMemory => (seen?.0, cluster.routes.clone()),
            Reads::OldWorld => seen?,
        };
        if reads == Reads::Fresh {
            cluster.replicas[at].seen = Some((stored, routes.clone()));
        } else {
            cluster.left.stale_reads -= 1;
        }
        let acts = self.acts(cluster, at, (&stored, &routes));
        if acts.is_empty() {
            return None;
        }
        cluster.replicas[at].acts = acts;
        Some(())
    }

    /// Whether the next undisturbed pass of the leader brings an exposed aborted release to zero.
    fn heals(&self, cluster: &Cluster) -> bool {
        let acts = self.acts(cluster, cluster.leader, (&cluster.stored, &cluster.routes));
        acts.iter().any(|act| match act {
            Act::Write { note, .. } => note.weight == 0,
            act => matches!(act, Act::Restore { .. }),
        })
    }
}

impl Model for Shell {
    type State = Cluster;
    type Action = Event;

    fn init_states(&self) -> Vec<Cluster> {
        let route = Route {
            version: 0,
            weight: None,
            note: None,
        };
        let leader = Replica {
            believes: true,
            ..Replica::default()
        };
        vec![Cluster {
            routes: vec![route; self.routes],
            stored: Stored {
                version: 0,
                stage: Some(Stage::Preparing),
                window: false,
                hold: None,
                proven: false,
            },
            held: true,
            rolled_out: false,
            canary: true,
            asked: false,
            template: Template::Trial,
            says: Says::Pass,
            leader: 0,
            replicas: [leader, Replica::default()],
            left: self.faults,
            aborted: false,
            late_raise: false,
            unaudited_raise: false,
            late_retreat: false,
            restored_early: false,
            released_early: false,
        }]
    }

    fn actions(&self, cluster: &Cluster, events: &mut Vec<Event>) {
        let left = cluster.left;
        for (at, replica) in cluster.replicas.iter().enumerate() {
            if replica.acts.is_empty() {
                events.push(Event::Pass(at, Reads::Fresh));
                if left.stale_reads > 0 && replica.seen.is_some() {
                    events.extend([Event::Pass(at, Reads::OldMemory), Event::Pass(at, Reads::OldWorld)]);
                }
            } else {
                events.push(Event::Act(at));
                if left.crashes > 0 {
                    events.push(Event::Crash(at));
                }
            }
            if replica.believes && cluster.leader != at {
                events.push(Event::Notice(at));
            }
        }
        if left.lease_losses > 0 {
            events.push(Event::LoseLease);
        }
        if left.foreign_edits > 0 {
            events.extend((0..self.routes).map(Event::Edit));
        }
        if left.flips > 0 {
            events.extend([Says::Pass, Says::Fail, Says::Blind].map(Event::Flip));
        }
        if left.aborts > 0 && !cluster.asked {
            events.push(Event::AskAbort);
        }
        if left.pushes > 0 && cluster.held {
            let others = [Template::Trial, Template::Newer, Template::Proven];
            events.extend(others.into_iter().filter(|to| *to != cluster.template).map(Event::Push));
        }
        if !cluster.held && !cluster.rolled_out {
            events.push(Event::RollOut);
        }
    }

    fn next_state(&self, last: &Cluster, event: Event) -> Option<Cluster> {
        let mut next = last.clone();
        match event {
            Event::Pass(at, reads) => self.pass(&mut next, at, reads)?,
            Event::Act(at) => {
                let act = next.replicas[at].acts.pop()?;
                if !self.perform(&mut next, at, act) {
                    next.replicas[at].acts.clear();
                }
            }
            Event::Crash(at) => {
                next.left.crashes -= 1;
                next.replicas[at] = Replica {
                    believes: last.leader == at,
                    ..Replica::default()
                };
            }
            Event::LoseLease => {
                next.left.lease_losses -= 1;
                next.leader = 1 - last.leader;
                next.replicas[next.leader].believes = true;
            }
            Event::Notice(at) => next.replicas[at].believes = false,
            Event::Edit(route) => {
                next.left.foreign_edits -= 1;
                let live = &mut next.routes[route];
                (live.version, live.weight) = (live.version + 1, Some(90));
            }
            Event::Flip(says) if says == last.says => return None,
            Event::Flip(says) => {
                next.left.flips -= 1;
                next.says = says;
            }
            Event::AskAbort => {
                next.left.aborts -= 1;
                next.asked = true;
            }
            Event::Push(template) => {
                next.left.pushes -= 1;
                next.template = template;
            }
            Event::RollOut => next.rolled_out = true,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LATE, |_, cluster: &Cluster| !cluster.late_raise),
            Property::always(UNAUDITED, |_, cluster: &Cluster| !cluster.unaudited_raise),
            Property::always(EXPOSED, |shell: &Self, cluster: &Cluster| {
                let idle = cluster.replicas.iter().all(|replica| replica.acts.is_empty());
                !(cluster.is_aborted() && cluster.exposed() && idle) || shell.heals(cluster)
            }),
            Property::always(RETREAT, |_, cluster: &Cluster| !cluster.late_retreat),
            Property::always("never restored before stable is ready", |_, cluster: &Cluster| {
                !cluster.restored_early
            }),
            Property::always(EARLY, |_, cluster: &Cluster| !cluster.released_early),
            Property::sometimes("promoted", |_, cluster: &Cluster| {
                cluster.stored.stage.is_none() && cluster.stored.proven
            }),
            Property::sometimes("aborted", |_, cluster: &Cluster| {
                let superseded = cluster.stored.stage.is_none() && !cluster.stored.proven;
                matches!(cluster.stored.stage, Some(Stage::Rejected(_))) || superseded
            }),
        ]
    }
}

const LATE: &str = "no raise after an abort is recorded";
const UNAUDITED: &str = "no raise without its record";
const RETREAT: &str = "never back to a stable that has begun to change";
const EARLY: &str = "never released before the commit point";
const EXPOSED: &str = "an aborted release goes back to weight 0";

const SOME: Faults = Faults {
    crashes: 1,
    lease_losses: 1,
    stale_reads: 1,
    foreign_edits: 0,
    flips: 1,
    aborts: 1,
    pushes: 0,
};

/// Two templates are pushed while the lease moves, and nothing else goes wrong.
const PUSHED: Faults = Faults {
    aborts: 0,
    flips: 0,
    stale_reads: 0,
    crashes: 0,
    pushes: 2,
    ..SOME
};

/// The states visited, and each property that fails with the events that lead there.
fn check(mutant: Mutant, routes: usize, faults: Faults) -> (usize, Vec<(&'static str, Vec<Event>)>) {
    let checker = Shell { mutant, routes, faults }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let fails = |name: &'static str| checker.model().property(name).expectation.discovery_is_failure();
    let found = checker.discoveries().into_iter();
    let wrong: Vec<_> = found
        .filter(|(name, _)| fails(name))
        .map(|(name, path)| (name, path.into_actions()))
        .collect();
    if wrong.is_empty() {
        checker.assert_properties();
    }
    (checker.unique_state_count(), wrong)
}

#[test]
fn in_no_order_of_events_does_the_shell_raise_after_an_abort_or_leave_traffic_behind() {
    let mut visited = Vec::new();
    for (routes, faults) in [
        // a person aborts, with a leader that sleeps, a stopped process and an old read
        (1, Faults { flips: 0, ..SOME }),
        // the evidence turns, and a process is stopped in the middle
        (
            1,
            Faults {
                aborts: 0,
                lease_losses: 0,
                flips: 2,
                foreign_edits: 1,
                ..SOME
            },
        ),
        // somebody gives an aborted release traffic again while the lease moves
        (
            1,
            Faults {
                stale_reads: 0,
                crashes: 0,
                flips: 0,
                foreign_edits: 1,
                ..SOME
            },
        ),
        // another template is pushed, before the commit point and after it
        (
            1,
            Faults {
                aborts: 0,
                flips: 0,
                pushes: 1,
                ..SOME
            },
        ),
        (
            2,
            Faults {
                aborts: 0,
                flips: 0,
                stale_reads: 0,
                lease_losses: 0,
                pushes: 1,
                ..SOME
            },
        ),
        // after the commit point another template is pushed, and then again the one on trial, while the
        // lease moves: one replica goes back to stable, the other releases the hold
        (1, PUSHED),
        // two routes are two writes
        (
            2,
            Faults {
                stale_reads: 0,
                crashes: 0,
                ..SOME
            },
        ),
    ] {
        let (states, wrong) = check(Mutant::None, routes, faults);
        assert!(wrong.is_empty(), "{routes} routes, {faults:?}: {wrong:?}");
        visited.push(states);
    }
    let all: usize = visited.iter().sum();
    assert!(all > 500_000, "only {visited:?} states");
}

#[test]
fn without_any_one_of_its_guards_the_shell_is_caught() {
    let edited = Faults {
        foreign_edits: 1,
        stale_reads: 0,
        crashes: 0,
        ..SOME
    };
    for (mutant, faults, caught) in [
        (Mutant::NoFence, SOME, LATE),
        (Mutant::NoCompareAndSwap, SOME, LATE),
        (Mutant::AuditAfterWrite, SOME, UNAUDITED),
        (Mutant::NoWeightZeroOnceAborted, edited, EXPOSED),
        (Mutant::FenceOnlyWhereWritten, SOME, LATE),
        (Mutant::NoLeaseToTakeBack, PUSHED, RETREAT),
        (Mutant::NoLeaseToRelease, PUSHED, RETREAT),
        (Mutant::NoLeaseToRelease, PUSHED, EARLY),
    ] {
        let (_, wrong) = check(mutant, 1, faults);
        assert!(wrong.iter().any(|(name, _)| *name == caught), "{mutant:?}: {wrong:?}");
    }
}
