//! A release told again: what a policy decides, tick by tick, on evidence that is there already.
//!
//! The clock is played, everything else is what the controller uses: the plane counts, the trial
//! judges, the machine decides. Which weight the canary had, and since when, is not decided here but
//! recorded: traffic that was never sent cannot be judged. So the machine is asked at every tick of a
//! recorded step what it would do, and its answers are told beside what was recorded.

use serde::Serialize;

use super::cluster::Trouble;
use crate::api::{CanaryAnalysisSpec, DecisionEntry, moment};
use crate::decision::{
    Attempt, Decision, Facts, Judged, Mark, Millis, Outcome, Percent, Plan, Reason, Record, Revision, SafeTarget,
    Stage, State, decide,
};
use crate::sources::Plane;
use crate::trial::Trial;

/// What is told again.
#[derive(Debug, Clone)]
pub struct Script {
    /// Namespace and name of the gate.
    pub gate: (String, String),
    /// The policy, as an attempt freezes it.
    pub spec: CanaryAnalysisSpec,
    /// When the canary's weight changed, in the order of time; never empty.
    pub moves: Vec<Move>,
    /// When counting begins, and when there is nothing more to count.
    pub span: (Millis, Millis),
}

/// A change of the canary's weight that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// When.
    pub at: Millis,
    /// The weight from then on; 0 after an abort, 100 after the commit point.
    pub to: Percent,
    /// The decision behind it, where that is known.
    pub recorded: Option<DecisionEntry>,
}

/// A release told again: what `-o json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Namespace and name of the gate.
    pub gate: String,
    /// SHA-256 of the policy that decided.
    pub policy_hash: String,
    /// Weights of the policy's steps as they are written to a route, in percent.
    pub steps: Vec<i64>,
    /// What happened, in the order of time.
    pub events: Vec<Event>,
    /// How it ends.
    pub end: End,
    /// Decisions that were recorded, and how many of them this policy takes too: at the same tick, for
    /// the same reason, on the same evidence. Absent where no decisions were recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// What was known at every tick of the steps.
    pub ticks: Vec<Judged>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, RFC 3339.
    pub at: String,
    /// The same in milliseconds since 1970.
    #[serde(skip)]
    pub time: Millis,
    /// What.
    pub kind: Kind,
    /// The step, from 1.
    pub step: usize,
    /// The canary's weight then, in percent.
    pub weight: i64,
    /// The weight that was decided, in percent; the same while it is held.
    pub to: i64,
    /// Promote, Hold or Abort.
    pub decision: Outcome,
    /// Why, in one word.
    pub reason: &'static str,
    /// The rule that fired, with its numbers, or what is still needed.
    pub rule: String,
    /// End of the newest tick that counted, RFC 3339; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tick: Option<String>,
    /// SHA-256 of the evidence; empty where the decision rests on none.
    pub evidence_hash: String,
    /// The decision that was recorded here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<DecisionEntry>,
    /// Whether the recorded decision is this one: same weight, reason, rule and evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agrees: Option<bool>,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// The recorded release got its first traffic.
    Began,
    /// The policy holds, from now on for this reason.
    Held,
    /// The policy goes on to the next step, or past the commit point.
    Promoted,
    /// The policy sends all traffic back.
    Aborted,
    /// The recorded release went on.
    Moved,
    /// The recorded release went on although this policy would hold.
    MovedAgainst,
}

/// How it ends.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Promote: the policy promotes the release to the end, or as far as the recording goes; Hold: it
    /// waits when the recording ends; Abort.
    pub decision: Outcome,
    /// Why, in one word.
    pub reason: &'static str,
    /// The step it ends at, from 1.
    pub step: usize,
    /// The last weight the policy decided, in percent.
    pub weight: i64,
    /// The rule that fired, with its numbers, or what is still needed.
    pub rule: String,
}

/// What was recorded against what this policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    /// Recorded decisions that rest on evidence.
    pub recorded: usize,
    /// Those that this policy takes too.
    pub agreed: usize,
}

/// Tells a release again.
///
/// # Errors
/// When the policy cannot be judged by.
pub async fn tell(script: &Script, plane: &mut Plane) -> Result<Told, Trouble> {
    let mut teller = Teller::new(script)?;
    let (mut now, end) = script.span;
    let mut moves = script.moves.iter().peekable();
    while !teller.over {
        let next = plane.next(now);
        let read = (plane.tick(next) <= end).then_some(next);
        let due = [
            (read, Due::Tick),
            (moves.peek().map(|next| next.at).filter(|at| *at <= end), Due::Move),
            (teller.wake.filter(|at| *at > now && *at <= end), Due::Wake),
        ];
        // Of what is due at the same time the tick comes first: a decision follows its evidence.
        let due = due.into_iter().filter_map(|(at, what)| Some((at?, what)));
        let Some((at, what)) = due.min_by_key(|(at, _)| *at) else {
            break;
        };
        now = at.max(now);
        match what {
            Due::Tick => teller.tick(plane, now, now).await,
            // A recorded decision at the very moment of a reading may rest on it.
            Due::Move if read.is_some_and(|read| read - at < SPREAD) => {
                now = next;
                teller.tick(plane, next, at).await;
            }
            Due::Move => {
                if let Some(next) = moves.next() {
                    teller.moved(next);
                }
            }
            Due::Wake => teller.pass(now),
        }
    }
    Ok(teller.told())
}

/// Planes of different servers read a tick up to this much apart, and an answer takes a moment: which
/// of a reading and a decision came first is not known below it.
const SPREAD: Millis = Millis(500);

/// What comes next.
enum Due {
    Tick,
    Move,
    Wake,
}

/// The release while it is told.
struct Teller<'a> {
    script: &'a Script,
    plan: Plan,
    trial: Trial,
    /// At a recorded step: the machine's memory and the route.
    at: Option<(State, Mark)>,
    wake: Option<Millis>,
    /// The reason that was told last while the policy holds.
    held: Option<Reason>,
    /// The promotion that was told at this step.
    promoted: Option<Record>,
    /// When the newest tick was read, and what was said before it.
    before: Option<(Millis, Option<Judged>)>,
    events: Vec<Event>,
    ticks: Vec<Judged>,
    agreement: Option<Agreement>,
    end: End,
    over: bool,
}

impl<'a> Teller<'a> {
    fn new(script: &'a Script) -> Result<Self, Trouble> {
        let refused = |error: crate::api::Invalid| Trouble::Other(error.to_string());
        let (namespace, name) = &script.gate;
        let trial = Trial::open((namespace, name), &script.spec, None).map_err(refused)?;
        let known = script.moves.iter().any(|each| each.recorded.is_some());
        Ok(Self {
            script,
            plan: script.spec.plan().map_err(refused)?,
            trial,
            at: None,
            wake: None,
            held: None,
            promoted: None,
            before: None,
            events: Vec::new(),
            ticks: Vec::new(),
            agreement: known.then(Agreement::default),
            end: End {
                decision: Outcome::Hold,
                reason: Reason::Started.word(),
                step: 1,
                weight: 0,
                rule: "the recording ends before the first traffic".to_owned(),
            },
            over: false,
        })
    }

    /// Reads the tick of a time, and asks the machine.
    async fn tick(&mut self, plane: &mut Plane, read: Millis, now: Millis) {
        self.before = Some((now, self.trial.judged.clone()));
        let collected = plane
            .collect(read, std::slice::from_ref(&self.trial.subscription))
            .await;
        for answers in collected {
            self.trial.observe(answers.metrics);
        }
        self.ticks.extend(self.trial.judged.clone());
        self.pass(now);
    }

    /// Asks the machine.
    fn pass(&mut self, now: Millis) {
        let Some(decision) = self.decision(now, self.trial.judged.clone()) else {
            return;
        };
        self.wake = decision.wake_at;
        match decision.written() {
            Some(mark) if mark.fenced => {
                self.conclude(Outcome::Abort, &mark.record);
                self.tell(Kind::Aborted, now, &mark.record);
                self.compare_rest(now, &mark.record);
                self.over = true;
            }
            Some(mark) if self.promoted.is_none() => {
                self.held = None;
                self.conclude(Outcome::Promote, &mark.record);
                self.tell(Kind::Promoted, now, &mark.record);
                self.promoted = Some(mark.record.clone());
            }
            Some(_) => {}
            None if self.promoted.is_some() => {}
            None => self.hold(now, &decision),
        }
    }

    /// What the machine says at a time to what the judge has said.
    fn decision(&self, now: Millis, judged: Option<Judged>) -> Option<Decision> {
        let (state, mark) = self.at.as_ref()?;
        Some(decide(&self.plan, state, &Facts::at_step(mark.clone(), judged), now))
    }

    /// What the policy decides at a recorded move; of two ticks that the recorded decision may rest on,
    /// by the one that agrees with it.
    fn decided(&self, to: &Move) -> Option<Record> {
        let mut heard = vec![self.trial.judged.clone()];
        let close = |read: Millis| to.at - read < SPREAD + SPREAD;
        heard.extend(
            self.before
                .iter()
                .filter(|(read, _)| close(*read))
                .map(|(_, judged)| judged.clone()),
        );
        let decided = heard.into_iter().filter_map(|judged| {
            // Its window may have been opened so much earlier, too.
            let decision = self.decision(to.at + SPREAD, judged)?;
            decision.written().map(|mark| mark.record.clone())
        });
        let decided: Vec<Record> = decided.collect();
        let same = |record: &&Record| to.recorded.as_ref().is_some_and(|recorded| is_same(record, recorded));
        decided.iter().find(same).or(decided.first()).cloned()
    }

    /// Notes that the policy holds, and tells it when the reason is another one than before.
    fn hold(&mut self, now: Millis, decision: &Decision) {
        let Some((state, mark)) = &mut self.at else { return };
        *state = decision.state.clone();
        let judged = self.trial.judged.as_ref();
        let rule = judged.map_or_else(|| decision.reason.sentence().to_owned(), |judged| judged.rule.clone());
        let record = Record {
            outcome: Outcome::Hold,
            reason: decision.reason,
            from: mark.weight,
            to: mark.weight,
            rule,
            evidence_hash: judged.map(|judged| judged.evidence_hash.clone()).unwrap_or_default(),
            ..mark.record.clone()
        };
        self.conclude(Outcome::Hold, &record);
        if self.held != Some(decision.reason) {
            self.held = Some(decision.reason);
            self.tell(Kind::Held, now, &record);
        }
    }

    /// The recorded release changed its weight: what would the policy have done at this moment?
    fn moved(&mut self, to: &Move) {
        let decided = self.decided(to);
        if self.at.is_some() {
            self.compare(to, decided.as_ref());
        }
        if self.over {
            return;
        }
        let committed = to.to == Percent::ALL
            && (self.plan.weight_at(self.last()) != Percent::ALL
                || self.at.as_ref().is_some_and(|(_, mark)| mark.weight == Percent::ALL));
        if to.to == Percent::ZERO || committed {
            self.over = true;
            return;
        }
        let step = self.step_of(to.to);
        let first = self.at.is_none();
        let (state, mark) = self.begin(step, to);
        let record = mark.record.clone();
        self.at = Some((state, mark));
        self.trial.begin_step(step, to.at);
        (self.held, self.promoted, self.wake) = (None, None, None);
        if first {
            self.tell(Kind::Began, to.at, &record);
            self.conclude(Outcome::Hold, &record);
        }
    }

    /// Compares what was recorded with what the policy says at that moment, or said when it was the
    /// first time sure.
    fn compare(&mut self, to: &Move, decided: Option<&Record>) {
        let own: Vec<&Record> = decided.into_iter().chain(&self.promoted).collect();
        let agrees = to
            .recorded
            .as_ref()
            .map(|recorded| own.iter().any(|own| is_same(own, recorded)));
        let (kind, record) = match (decided.or(self.promoted.as_ref()), &self.at) {
            (Some(decided), _) => (Kind::Moved, decided.clone()),
            (None, Some((_, mark))) => {
                let held = Record {
                    outcome: Outcome::Hold,
                    reason: self.held.unwrap_or(Reason::Undecided),
                    rule: self.end.rule.clone(),
                    from: mark.weight,
                    ..mark.record.clone()
                };
                (Kind::MovedAgainst, held)
            }
            (None, None) => return,
        };
        let kind = if record.outcome == Outcome::Promote && to.to < record.from {
            Kind::MovedAgainst
        } else {
            kind
        };
        if kind == Kind::Moved && self.promoted.is_none() {
            self.conclude(record.outcome, &record);
        }
        self.tell(kind, to.at, &record);
        self.recorded(to, agrees);
    }

    /// The policy aborts: what was recorded at that moment, and what was recorded later that cannot be
    /// compared any more.
    fn compare_rest(&mut self, now: Millis, aborted: &Record) {
        let mut rest = self.script.moves.iter().filter(|each| each.at >= now);
        if let Some(next) = rest.next() {
            self.recorded(next, next.recorded.as_ref().map(|recorded| is_same(aborted, recorded)));
        }
        if let Some(agreement) = &mut self.agreement {
            agreement.recorded += rest.filter(|each| each.recorded.is_some()).count();
        }
    }

    /// Notes beside the last event what was recorded there.
    fn recorded(&mut self, to: &Move, agrees: Option<bool>) {
        if let (Some(agreement), Some(agrees)) = (&mut self.agreement, agrees) {
            agreement.recorded += 1;
            agreement.agreed += usize::from(agrees);
        }
        if let Some(event) = self.events.last_mut() {
            event.to = to.to.into();
            event.recorded.clone_from(&to.recorded);
            event.agrees = agrees;
        }
    }

    /// The step of the policy that judges a recorded weight: the one with this weight, else the last
    /// below it, else the first.
    fn step_of(&self, weight: Percent) -> usize {
        let steps = 0..self.plan.steps.len();
        steps
            .rev()
            .find(|step| self.plan.weight_at(*step) <= weight)
            .unwrap_or(0)
    }

    fn last(&self) -> usize {
        self.plan.steps.len().saturating_sub(1)
    }

    /// The machine's memory and the route as they are when the weight of a step has been written.
    fn begin(&self, step: usize, to: &Move) -> (State, Mark) {
        let epoch = self.script.spec.epoch;
        let revision = Revision(self.script.spec.revision.clone());
        let before = self.at.as_ref().map_or(Percent::ZERO, |(_, mark)| mark.weight);
        let decisions = self
            .at
            .as_ref()
            .and_then(|(state, _)| state.attempt.as_ref())
            .map_or(0, |attempt| attempt.decisions);
        let record = Record {
            id: format!("{epoch}-{decisions}"),
            at: to.at,
            outcome: Outcome::Promote,
            reason: Reason::Started,
            revision: revision.clone(),
            step,
            from: before,
            to: to.to,
            rule: Reason::Started.sentence().to_owned(),
            evidence_hash: String::new(),
            policy_hash: self.plan.policy_hash.clone(),
            by: None,
        };
        let attempt = Attempt {
            revision,
            epoch,
            stage: Stage::Stepping(step),
            since: to.at,
            window: None,
            scaling: None,
            hold: None,
            decisions: decisions.saturating_add(1),
        };
        let state = State {
            proven: Some(Revision(String::new())),
            epoch,
            attempt: Some(attempt),
        };
        let mark = Mark {
            epoch,
            fenced: false,
            step,
            weight: to.to,
            safe: SafeTarget::Stable,
            record,
        };
        (state, mark)
    }

    fn conclude(&mut self, decision: Outcome, record: &Record) {
        self.end = End {
            decision,
            reason: record.reason.word(),
            step: self.at.as_ref().map_or(record.step, |(_, mark)| mark.step) + 1,
            weight: record.to.into(),
            rule: record.rule.clone(),
        };
    }

    fn tell(&mut self, kind: Kind, at: Millis, record: &Record) {
        let judged = self.trial.judged.as_ref();
        self.events.push(Event {
            at: moment(at),
            time: at,
            kind,
            step: self.at.as_ref().map_or(record.step, |(_, mark)| mark.step) + 1,
            weight: record.from.into(),
            to: record.to.into(),
            decision: record.outcome,
            reason: record.reason.word(),
            rule: record.rule.clone(),
            tick: judged.map(|judged| moment(judged.at)),
            evidence_hash: record.evidence_hash.clone(),
            recorded: None,
            agrees: None,
        });
    }

    fn told(self) -> Told {
        let (namespace, name) = &self.script.gate;
        let steps = 0..self.plan.steps.len();
        Told {
            gate: format!("{namespace}/{name}"),
            policy_hash: self.plan.policy_hash.clone(),
            steps: steps.map(|step| self.plan.weight_at(step).into()).collect(),
            events: self.events,
            end: self.end,
            agreement: self.agreement,
            ticks: self.ticks,
        }
    }
}

/// Whether a recorded decision is this one: the same way, for the same reason, on the same evidence.
fn is_same(own: &Record, recorded: &DecisionEntry) -> bool {
    let own = DecisionEntry::from(own);
    (own.outcome, own.to, own.reason, own.rule, own.evidence_hash)
        == (
            recorded.outcome,
            recorded.to,
            recorded.reason.clone(),
            recorded.rule.clone(),
            recorded.evidence_hash.clone(),
        )
}
