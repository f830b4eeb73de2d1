//! What fired, as a sentence for people. Nothing here decides anything.

use std::fmt::Write as _;

use super::machine::Pass;
use super::{Attempt, Facts, Gap, GapKind, Judged, Millis, Plan, Reason, Stage, Then};

/// Longest detail of a gap that a sentence quotes, in characters.
const DETAIL: usize = 200;

impl Pass<'_> {
    /// The rule that fired: the numbers where they decided, the person where one did, and where a
    /// deadline did, since when it was waited, for how long, and for what.
    pub(super) fn rule(&self, attempt: &Attempt, reason: Reason, by: Option<&str>) -> String {
        let judged = self
            .facts
            .judged
            .as_ref()
            .filter(|judged| judged.epoch == attempt.epoch);
        let measured = judged
            .map(|judged| judged.rule.as_str())
            .filter(|rule| !rule.is_empty());
        match (reason, by) {
            (
                Reason::Safe
                | Reason::NoHarm
                | Reason::Harm
                | Reason::LimitExceeded
                | Reason::RuleAborts
                | Reason::RuleHolds
                | Reason::RuleUnanswered
                | Reason::WorseThanPast
                | Reason::GuardExceeded
                | Reason::Inconclusive,
                _,
            ) => measured.unwrap_or(reason.sentence()).to_owned(),
            (_, Some(by)) => format!("{by} asked for it; {}", measured.unwrap_or("nothing was measured")),
            _ => self
                .repeated(attempt, reason)
                .or_else(|| self.overdue(attempt, reason))
                .unwrap_or_else(|| reason.sentence().to_owned()),
        }
    }

    /// The sentence of an abort that is on the routes already: it is not told worse when it is
    /// written once more.
    fn repeated(&self, attempt: &Attempt, reason: Reason) -> Option<String> {
        let again = attempt.stage == Stage::Aborting(reason) || attempt.stage == Stage::Rejected(reason);
        let fence = self
            .marks(attempt.epoch)
            .find(|mark| again && mark.fenced && mark.record.reason == reason)?;
        Some(fence.record.rule.clone())
    }

    /// What was waited for until a deadline.
    fn overdue(&self, attempt: &Attempt, reason: Reason) -> Option<String> {
        let (what, since, limit) = match reason {
            Reason::EvidenceDeadline => {
                let Stage::Stepping(step) = attempt.stage else {
                    return None;
                };
                let judged = self.judged(attempt, step);
                let since = self.blind_since(attempt, judged)?;
                let mut text = self.waited("no complete evidence", since, self.plan.on_no_evidence.hold);
                let _ = write!(text, ": {}", missing(judged, true));
                return Some(text);
            }
            Reason::CanaryDeadline => {
                let canary = &self.facts.canary;
                let pods = format!("{} of the canary's {} pods ready", canary.ready, canary.desired);
                (pods, attempt.scaling?, self.plan.deadlines.ready)
            }
            Reason::RouteDeadline => {
                let routes = &self.facts.routes;
                let done = routes.iter().filter(|route| route.programmed).count();
                let routes = format!("{done} of {} routes programmed", routes.len());
                (routes, attempt.since, self.plan.deadlines.route)
            }
            _ => return None,
        };
        Some(self.waited(&what, since, limit))
    }

    /// `no complete evidence since 12:03:10 UTC, for 15m (limit 15m)`.
    fn waited(&self, what: &str, since: Millis, limit: Millis) -> String {
        let (begun, waited, limit) = (clock(since), length(self.now - since), length(limit));
        format!("{what} since {begun}, for {waited} (limit {limit})")
    }
}

/// Since when a release at a step is without complete evidence, what is missing, and what follows;
/// nothing when the evidence is complete. It says the same as long as the same is missing.
#[must_use]
pub fn blindness(plan: &Plan, attempt: &Attempt, facts: &Facts, now: Millis) -> Option<String> {
    let pass = Pass { plan, facts, now };
    let Stage::Stepping(step) = attempt.stage else {
        return None;
    };
    let judged = pass.judged(attempt, step);
    let since = pass.blind_since(attempt, judged)?;
    let deadline = clock(since + plan.on_no_evidence.hold);
    let then = match plan.on_no_evidence.then {
        Then::Abort => format!("aborted at {deadline} unless it comes back"),
        Then::Hold => "held until it comes back".to_owned(),
    };
    let begun = clock(since);
    Some(format!(
        "No complete evidence since {begun}: {}; {then}.",
        missing(judged, false)
    ))
}

/// The first gap of every metric that has one, `http-errors: Timeout: query timed out`, with or
/// without its detail; always with it where somebody has to put a credential right.
fn missing(judged: Option<&Judged>, detailed: bool) -> String {
    let Some(judged) = judged else {
        return "nothing was heard of the judge".to_owned();
    };
    let told = |gap: &Gap| {
        let detail: String = gap.detail.chars().take(DETAIL).collect();
        if (detailed || gap.kind == GapKind::Unauthorized) && !detail.is_empty() {
            format!("{}: {detail}", gap.kind.word())
        } else {
            gap.kind.word().to_owned()
        }
    };
    let gaps: Vec<String> = judged
        .readings
        .iter()
        .filter_map(|reading| Some(format!("{}: {}", reading.metric, told(reading.gaps.first()?))))
        .collect();
    if gaps.is_empty() {
        return judged.rule.clone();
    }
    gaps.join("; ")
}

/// The time of day: `12:03:10 UTC`.
fn clock(at: Millis) -> String {
    const DAY: i64 = 86_400;
    let second = at.0.div_euclid(1000).rem_euclid(DAY);
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

/// A length of time as people write it in YAML: `15m`, `1h30m`, `40s`.
fn length(time: Millis) -> String {
    let seconds = time.0.max(0) / 1000;
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let mut text = String::new();
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{count}{unit}");
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::simulation::{Judge, World};
    use crate::decision::{GapKind, Reading, Verdict, decide};

    #[test]
    fn times_are_told_as_people_write_them() {
        for (at, told) in [(0, "00:00:00 UTC"), (43_390_999, "12:03:10 UTC"), (-1, "23:59:59 UTC")] {
            assert_eq!(clock(Millis(at)), told);
        }
        for (secs, told) in [(0, "0s"), (40, "40s"), (900, "15m"), (5400, "1h30m"), (3601, "1h1s")] {
            assert_eq!(length(Millis::from_secs(secs)), told);
        }
    }

    fn gap(metric: &str, kind: GapKind, detail: &str) -> Reading {
        Reading {
            metric: metric.into(),
            method: crate::decision::MethodName::Sequential,
            unit: crate::decision::Unit::Requests,
            verdict: Verdict::Inconclusive(Reason::NoEvidence),
            canary: [0.0; 2],
            baseline: [0.0; 2],
            ratio: None,
            interval: None,
            difference: None,
            dispersion: 1.0,
            harm: [0.0; 2],
            safety: [0.0; 2],
            need: None,
            gaps: vec![Gap {
                kind,
                detail: detail.into(),
            }],
        }
    }

    /// The rule of the abort, and what status said ten seconds before.
    fn told(prepare: fn(&mut World), secs: i64) -> (Reason, String, Option<String>) {
        let mut world = World::new().pushed("v2");
        world.run(100);
        prepare(&mut world);
        let end = world.now + Millis::from_secs(secs);
        let mut status = None;
        while world.now < end {
            let mut facts = world.facts();
            if let Some(judged) = facts.judged.as_mut().filter(|judged| judged.blind_since.is_some()) {
                judged.readings = vec![
                    gap("http-errors", GapKind::Timeout, "no answer within 10 s"),
                    gap("latency", GapKind::Stale, ""),
                    gap("orders", GapKind::Unauthorized, "tls.ca is missing"),
                ];
            }
            let decision = decide(&world.plan, &world.state, &facts, world.now);
            if let Some(mark) = decision.written()
                && mark.fenced
            {
                return (mark.record.reason, mark.record.rule.clone(), status);
            }
            status = decision
                .state
                .attempt
                .as_ref()
                .and_then(|attempt| blindness(&world.plan, attempt, &facts, world.now));
            world.pass();
            world.now = world.now + Millis::from_secs(10);
        }
        panic!("not aborted: {:?}", world.reasons);
    }

    #[test]
    fn a_deadline_says_since_when_how_long_and_for_what_was_waited() {
        type Prepare = fn(&mut World);
        let cases: [(Prepare, Reason, &str, Option<&str>); 3] = [
            (
                |w| w.judge = Judge::Blind,
                Reason::EvidenceDeadline,
                "no complete evidence since 13:48:10 UTC, for 2m (limit 2m): http-errors: Timeout: no answer within \
                 10 s; latency: Stale; orders: Unauthorized: tls.ca is missing",
                Some(
                    "No complete evidence since 13:48:10 UTC: http-errors: Timeout; latency: Stale; orders: \
                     Unauthorized: tls.ca is missing; aborted at 13:50:10 UTC unless it comes back.",
                ),
            ),
            (
                |w| w.judge = Judge::Silent,
                Reason::EvidenceDeadline,
                "no complete evidence since 13:48:10 UTC, for 2m (limit 2m): nothing was heard of the judge",
                Some(
                    "No complete evidence since 13:48:10 UTC: nothing was heard of the judge; aborted at 13:50:10 UTC \
                     unless it comes back.",
                ),
            ),
            (
                |w| {
                    w.programmed = false;
                    w.state.attempt.as_mut().expect("in flight").window = None;
                },
                Reason::RouteDeadline,
                "0 of 2 routes programmed since 13:48:10 UTC, for 30s (limit 30s)",
                None,
            ),
        ];
        for (prepare, reason, rule, status) in cases {
            let (why, told, before) = told(prepare, 300);
            assert_eq!((why, told.as_str(), before.as_deref()), (reason, rule, status));
        }
    }

    #[test]
    fn pods_that_do_not_become_ready_are_counted() {
        let mut world = World::new().pushed("v2");
        world.crashing = true;
        world.run(70);
        let mark = world.routes.iter().find_map(|(_, mark)| mark.clone());
        let rule = mark.expect("a fence").record.rule;
        assert_eq!(
            rule,
            "0 of the canary's 3 pods ready since 13:46:40 UTC, for 1m (limit 1m)"
        );
    }
}
