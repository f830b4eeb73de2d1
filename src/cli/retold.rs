//! A release told again, for people.

use std::fmt::Write as _;

use super::paint::{Tone, paint, tone};
use super::timeline::{Event, Kind, Told};
use super::units::{clock, counted, number, span};
use crate::api::moment;
use crate::decision::{Judged, Millis, Outcome, Reading, Verdict};
use crate::judge::count;

/// What is held for no longer needs no line of its own.
const MOMENT: Millis = Millis::from_secs(10);

/// Columns of the terminal; 100 where there is none.
#[must_use]
pub fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(columns, _)| usize::from(columns.0).clamp(60, 200))
}

/// The whole, in so many columns.
#[must_use]
pub fn text(told: &Told, width: usize) -> String {
    let mut text = head(told);
    let Some(begun) = told.events.first().map(|event| event.time) else {
        let _ = writeln!(text, "\n{}", told.end.rule);
        return text;
    };
    text.push('\n');
    for (place, event) in told.events.iter().enumerate() {
        if is_worth_a_line(told, place) {
            text.push_str(&line(event, begun, width));
        }
    }
    if let Some(judged) = told.ticks.last() {
        text.push_str(&last(judged, begun, width));
    }
    text.push_str(&end(told, width));
    text
}

fn head(told: &Told) -> String {
    let steps: Vec<String> = told.steps.iter().map(ToString::to_string).collect();
    let hash = told.policy_hash.get(..12).unwrap_or(&told.policy_hash);
    let mut text = format!(
        "{}  policy {hash}  steps {} %\n",
        paint(Tone::Strong, &told.gate),
        steps.join(" → ")
    );
    if let (Some(first), Some(last)) = (told.ticks.first(), told.ticks.last()) {
        let _ = writeln!(
            text,
            "{} ticks from {} to {} ({})",
            told.ticks.len(),
            moment(first.at).get(..19).unwrap_or_default().replace('T', " "),
            clock(last.at, last.at),
            span(last.at - first.at)
        );
    }
    text
}

/// What went as recorded needs no second line, and a wait of a moment none at all.
fn is_worth_a_line(told: &Told, place: usize) -> bool {
    let (Some(event), next) = (told.events.get(place), told.events.get(place + 1)) else {
        return false;
    };
    match event.kind {
        Kind::Moved => event.agrees == Some(false),
        Kind::Held => next.is_none_or(|next| next.time - event.time > MOMENT),
        _ => true,
    }
}

fn line(event: &Event, begun: Millis, width: usize) -> String {
    let since = (event.time - begun).as_secs_f64();
    let weights = match event.kind {
        Kind::Held => format!("       {:>3} %", event.weight),
        _ => format!("{:>3} → {:>3} %", event.weight, event.to),
    };
    let said = match event.kind {
        Kind::Began => "the release begins".to_owned(),
        Kind::Held | Kind::Promoted | Kind::Aborted => word(event.decision, event.reason),
        Kind::Moved => "the recorded decision was another one".to_owned(),
        Kind::MovedAgainst => format!(
            "the recording went on; this policy: {}",
            word(event.decision, event.reason)
        ),
    };
    let tone = match event.kind {
        Kind::Began => Tone::Strong,
        Kind::Moved | Kind::MovedAgainst => Tone::Bad,
        Kind::Held | Kind::Promoted | Kind::Aborted => tone(event.decision),
    };
    let lead = format!("{since:>7.1} s  {weights}  ");
    let mut text = format!("{lead}{}\n", paint(tone, &said));
    if event.kind != Kind::Began {
        for part in folded(&event.rule, width.saturating_sub(24)) {
            let _ = writeln!(text, "{:24}{}", "", paint(Tone::Faint, &part));
        }
    }
    if let (Some(false), Some(recorded)) = (event.agrees, &event.recorded) {
        let told = format!(
            "recorded: {}; {}",
            word(recorded.outcome, &recorded.reason),
            recorded.rule
        );
        for part in folded(&told, width.saturating_sub(24)) {
            let _ = writeln!(text, "{:24}{}", "", paint(Tone::Bad, &part));
        }
    }
    text
}

fn word(decision: Outcome, reason: &str) -> String {
    format!("{}, {reason}", decision.word())
}

/// The numbers at the end, metric by metric.
fn last(judged: &Judged, begun: Millis, width: usize) -> String {
    let since = (judged.at - begun).as_secs_f64();
    let mut text = format!("\nAt {since:.1} s, step {}\n", judged.step + 1);
    for reading in &judged.readings {
        let tone = match reading.verdict {
            Verdict::Pass(_) => Tone::Good,
            Verdict::Fail(_) => Tone::Bad,
            Verdict::Inconclusive(_) => Tone::Wait,
        };
        let word = match reading.verdict {
            Verdict::Pass(_) => "Pass",
            Verdict::Fail(_) => "Fail",
            Verdict::Inconclusive(_) => "Inconclusive",
        };
        let verdict = format!("{word}, {}", reading.verdict.reason().word());
        let _ = writeln!(
            text,
            "  {}  {}",
            paint(Tone::Strong, &reading.metric),
            paint(tone, &verdict)
        );
        for part in folded(&numbers(reading), width.saturating_sub(4)) {
            let _ = writeln!(text, "    {part}");
        }
    }
    text
}

/// What is known of a metric, in one line.
fn numbers(reading: &Reading) -> String {
    let arm = |counts| counted(reading.unit, counts, "");
    let mut parts = vec![
        format!("canary {}", arm(reading.canary)),
        format!("stable {}", arm(reading.baseline)),
    ];
    if let Some(ratio) = reading.ratio {
        let within = reading.interval.map_or_else(String::new, |[low, high]| {
            format!(" [{} to {}]", number(low), number(high))
        });
        parts.push(format!("ratio {}{within}", number(ratio)));
    }
    for (name, [nats, limit]) in [("e-value of harm", reading.harm), ("of safety", reading.safety)] {
        if limit > 0.0 && limit.is_finite() {
            parts.push(format!("{name} {} of {}", number(nats.exp()), number(limit.exp())));
        }
    }
    if let Some(need) = reading.need {
        let time = need.seconds.filter(|seconds| *seconds < 1e8);
        let time = time.map_or_else(String::new, |seconds| {
            format!(", about {}", span(super::next::whole(seconds)))
        });
        let (more, unit) = reading.unit.scaled(need.requests);
        parts.push(format!("needs about {} more {unit}{time}", count(more)));
    }
    parts.extend(
        reading
            .gaps
            .iter()
            .map(|gap| format!("missing: {} {}", gap.kind.word(), gap.detail)),
    );
    parts.join("; ")
}

fn end(told: &Told, width: usize) -> String {
    let end = &told.end;
    let steps = told.steps.len();
    let whole = match end.decision {
        Outcome::Promote if end.weight == 100 => "This policy promotes the release to 100 %.".to_owned(),
        Outcome::Promote => format!("This policy promotes to {} %; the recording ends there.", end.weight),
        Outcome::Abort => format!("This policy aborts at step {} of {steps}: {}.", end.step, end.reason),
        Outcome::Hold => format!(
            "This policy holds at {} %, step {} of {steps}, when the recording ends: {}.",
            end.weight, end.step, end.reason
        ),
    };
    let mut text = format!("\n{}\n", paint(tone(end.decision), &whole));
    if end.decision == Outcome::Hold {
        for part in folded(&end.rule, width.saturating_sub(2)) {
            let _ = writeln!(text, "  {part}");
        }
    }
    if let Some(agreement) = told.agreement.filter(|agreement| agreement.recorded > 0) {
        let (agreed, recorded) = (agreement.agreed, agreement.recorded);
        let tone = if agreed == recorded { Tone::Good } else { Tone::Bad };
        let told =
            format!("{agreed} of {recorded} recorded decisions are the same: same weight, reason, rule and evidence.");
        for part in folded(&told, width) {
            let _ = writeln!(text, "{}", paint(tone, &part));
        }
    }
    text
}

/// A text in lines of at most so many columns, broken between words.
#[must_use]
pub fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
