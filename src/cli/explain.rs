//! `tollgate explain`: why a gate is where it is, with every number behind it.

use std::fmt::Write as _;

use kube::Api;
use serde::Serialize;

use super::act;
use super::cluster::{Cluster, Output, Place, Question, Trouble};
use super::paint::{Tone, paint, print, print_json, tone};
use super::story::Head;
use super::units::{at, clock, counted, now, number, percent, span};
use crate::api::{AttemptStatus, CanaryAnalysis, DecisionEntry, Metric, MetricReading, ReleaseGate, VerdictWord};
use crate::decision::{Millis, Outcome, Promote, Reason};
use crate::judge::{amount, count};

/// Explains why a gate is where it is: step, metrics against their limits, rule, hashes, decisions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tollgate explain checkout -n shop")]
pub struct Args {
    /// The gate
    gate: String,
    #[command(flatten)]
    place: Place,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Why a gate is where it is: what `-o json` prints. What is not known is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Which gate, and what was said of it last.
    #[serde(flatten)]
    pub head: Head,
    /// The trusted revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The release in flight, or the refused one that is still in the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptStatus>,
    /// The record of the last attempt; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

/// What a `CanaryAnalysis` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its name.
    pub analysis: String,
    /// The revision it is about.
    pub revision: String,
    /// SHA-256 of the frozen policy.
    pub policy_hash: String,
    /// SHA-256 of the samples behind the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_hash: Option<String>,
    /// Pass, Fail or Inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictWord>,
    /// The rule that fired, with its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// End of the newest tick that counted, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged_at: Option<String>,
    /// The step that was judged, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged_step: Option<i64>,
    /// Weights of the planned steps, in percent.
    pub steps: Vec<i64>,
    /// Metric by metric: what the policy asks, and what is known.
    pub metrics: Vec<Judged>,
    /// The last decisions, oldest first.
    pub decisions: Vec<DecisionEntry>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// What the policy asks: margins or limit, owner, rationale.
    pub asked: Metric,
    /// What is known; absent before the first tick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<MetricReading>,
}

impl Args {
    /// Reads and prints.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub async fn run(self) -> Result<(), Trouble> {
        let cluster = Cluster::connect(&self.place).await?;
        let gate = act::find(&cluster, &self.gate).await?;
        let analysis = match gate.status.as_ref().and_then(|status| status.analysis.as_ref()) {
            Some(analysis) => record(&cluster, &analysis.name).await?,
            None => None,
        };
        let now = now();
        let explanation = explain(&gate, analysis.as_ref(), now);
        match self.output {
            Output::Json => print_json(&explanation),
            Output::Text => print(&text(&explanation, now)),
        }
    }
}

async fn record(cluster: &Cluster, name: &str) -> Result<Option<CanaryAnalysis>, Trouble> {
    let api: Api<CanaryAnalysis> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let question = Question {
        verb: "get",
        resource: "canaryanalyses",
        namespace: &cluster.namespace,
    };
    cluster.ask(question, api.get_opt(name)).await
}

/// Puts together what a gate and the record of its last attempt say.
#[must_use]
pub fn explain(gate: &ReleaseGate, analysis: Option<&CanaryAnalysis>, now: Millis) -> Explanation {
    let status = gate.status.clone().unwrap_or_default();
    Explanation {
        head: Head::of(gate, analysis, now),
        stable: status.stable,
        attempt: status.attempt,
        record: analysis.map(of_record),
    }
}

fn of_record(analysis: &CanaryAnalysis) -> Record {
    let status = analysis.status.clone().unwrap_or_default();
    let metrics = analysis.spec.analysis.metrics.iter().map(|asked| Judged {
        asked: asked.clone(),
        known: status
            .readings
            .iter()
            .find(|reading| reading.metric == asked.name)
            .cloned(),
    });
    Record {
        analysis: analysis.metadata.name.clone().unwrap_or_default(),
        revision: analysis.spec.revision.clone(),
        policy_hash: analysis.spec.policy_hash.clone(),
        evidence_hash: status.evidence_hash,
        verdict: status.verdict,
        rule: status.rule,
        judged_at: status.judged_at,
        judged_step: status.judged_step.map(|step| step.saturating_add(1)),
        steps: analysis.spec.steps.iter().map(|step| step.weight).collect(),
        metrics: metrics.collect(),
        decisions: status.decisions,
    }
}

/// The explanation for people.
#[must_use]
pub fn text(explanation: &Explanation, now: Millis) -> String {
    let mut text = head(explanation, now);
    let Some(record) = &explanation.record else {
        text.push_str("\nNo release has been tried yet: there is nothing to explain.\n");
        return text;
    };
    text.push_str(&verdict(record, now));
    for metric in &record.metrics {
        text.push_str(&self::metric(metric));
    }
    text.push_str(&decisions(&record.decisions, now));
    text
}

fn head(explanation: &Explanation, now: Millis) -> String {
    let name = paint(
        Tone::Strong,
        &format!("{}/{}", explanation.head.namespace, explanation.head.gate),
    );
    let outcome = explanation.head.decision.unwrap_or(Outcome::Hold);
    let reason = explanation.head.reason.as_deref().unwrap_or("not looked at yet");
    let mut text = format!(
        "{name}: {}\n",
        paint(tone(outcome), &format!("{}, {reason}", outcome.word()))
    );
    if let Some(message) = &explanation.head.message {
        let _ = writeln!(text, "  {message}");
    }
    if let Some(next) = &explanation.head.next {
        let _ = writeln!(text, "  waits for {}", next.sentence(now));
    }
    text.push('\n');
    let stable = explanation.stable.as_deref().unwrap_or("none yet");
    let _ = writeln!(text, "Stable    {stable}");
    if let Some(attempt) = &explanation.attempt {
        let since = at(&attempt.since).map_or_else(String::new, |since| {
            format!(" since {} ({} ago)", clock(since, now), span(now - since))
        });
        let _ = writeln!(
            text,
            "On trial  {}, attempt {}, {}{since}",
            attempt.revision,
            attempt.epoch,
            super::story::stage(attempt.stage)
        );
        if let (Some(step), Some(record)) = (attempt.at_step, &explanation.record) {
            let _ = writeln!(text, "Step      {}", ladder(&record.steps, step));
        }
        if let Some(window) = attempt.window.as_deref().and_then(at) {
            let _ = writeln!(
                text,
                "Window    open since {} ({} ago)",
                clock(window, now),
                span(now - window)
            );
        }
        if let (Some(hold), since) = (&attempt.hold, attempt.hold_since.as_deref().and_then(at)) {
            let since = since.map_or_else(String::new, |since| format!(" for {}", span(now - since)));
            let _ = writeln!(text, "Held      {}", paint(Tone::Wait, &format!("{hold}{since}")));
        }
    }
    text
}

/// `1 → 5 → [25] → 50 → 100 %`.
fn ladder(steps: &[i64], at: i64) -> String {
    let step = |(place, weight): (usize, &i64)| {
        if i64::try_from(place).is_ok_and(|place| place == at) {
            paint(Tone::Strong, &format!("[{weight}]"))
        } else {
            weight.to_string()
        }
    };
    let words: Vec<String> = steps.iter().enumerate().map(step).collect();
    format!("{} %", words.join(" → "))
}

fn verdict(record: &Record, now: Millis) -> String {
    let mut text = String::new();
    let judged = record.judged_at.as_deref().and_then(at);
    let (Some(verdict), Some(judged)) = (record.verdict, judged) else {
        let _ = writeln!(text, "Judged    not yet");
        let _ = writeln!(text, "Policy    sha256 {}  ({})", record.policy_hash, record.analysis);
        return text;
    };
    let step = record
        .judged_step
        .map_or_else(String::new, |step| format!(" of step {step}"));
    let _ = writeln!(
        text,
        "Judged    {}{step} at {} ({} ago)",
        paint(verdict_tone(verdict), verdict_word(verdict)),
        clock(judged, now),
        span(now - judged)
    );
    if let Some(rule) = &record.rule {
        let _ = writeln!(text, "Rule      {rule}");
    }
    if let Some(hash) = &record.evidence_hash {
        let _ = writeln!(text, "Evidence  sha256 {hash}");
    }
    let _ = writeln!(text, "Policy    sha256 {}  ({})", record.policy_hash, record.analysis);
    text
}

const fn verdict_word(verdict: VerdictWord) -> &'static str {
    match verdict {
        VerdictWord::Pass => "Pass",
        VerdictWord::Fail => "Fail",
        VerdictWord::Inconclusive => "Inconclusive",
    }
}

const fn verdict_tone(verdict: VerdictWord) -> Tone {
    match verdict {
        VerdictWord::Pass => Tone::Good,
        VerdictWord::Fail => Tone::Bad,
        VerdictWord::Inconclusive => Tone::Wait,
    }
}

/// A pair of numbers of a reading; zeros for one that is malformed.
fn pair(values: &[f64]) -> (f64, f64) {
    match values {
        [first, second] => (*first, *second),
        _ => (0.0, 0.0),
    }
}

fn metric(judged: &Judged) -> String {
    let asked = &judged.asked;
    let mut text = format!("\n{}", paint(Tone::Strong, &asked.name));
    if let Some(known) = &judged.known {
        let word = format!("{}, {}", verdict_word(known.verdict), known.reason);
        let why = Reason::from_word(&known.reason).map_or("", Reason::sentence);
        let _ = write!(
            text,
            "  {}  {}",
            paint(verdict_tone(known.verdict), &word),
            paint(Tone::Faint, why)
        );
    }
    text.push('\n');
    if let Some(known) = &judged.known {
        text.push_str(&numbers(known, asked.histogram.is_some()));
    } else {
        text.push_str("  nothing is known yet\n");
    }
    let _ = writeln!(text, "  allowed   {}", allowed(asked));
    if asked.owner.is_some() || asked.rationale.is_some() {
        let owner = asked.owner.as_deref().unwrap_or("nobody named");
        let why = asked
            .rationale
            .as_ref()
            .map_or_else(String::new, |rationale| format!(": {rationale}"));
        let _ = writeln!(text, "  owner     {owner}{why}");
    }
    text
}

/// What the policy tolerates.
fn allowed(asked: &Metric) -> String {
    if let (Some(gauge), Ok(Some(guard))) = (&asked.gauge, asked.margins().map(|margins| margins.guard)) {
        let does = if gauge.abort { "aborts" } else { "holds" };
        let worse = percent(guard.worse, 1.0);
        return format!(
            "{does} at more than {worse} above stable and above {} for 5 min; guard, no error rate claimed",
            amount(guard.floor)
        );
    }
    match (asked.limit.as_ref(), asked.margins()) {
        (Some(limit), _) => format!("at most {} of the canary's requests", limit.0),
        (None, Err(error)) => error.to_string(),
        (None, Ok(margins)) => {
            let promote = match (margins.promote, margins.promotion) {
                (_, Promote::NoHarm) => "promote while no harm is seen".to_owned(),
                (None, Promote::Safe) => "promote within the harm budget".to_owned(),
                (Some(margin), Promote::Safe) => format!("promote below {} worse", percent(margin, 1.0)),
            };
            format!(
                "abort above {} worse than stable, {promote}",
                percent(margins.abort, 1.0)
            )
        }
    }
}

fn numbers(known: &MetricReading, slow: bool) -> String {
    let mut text = String::new();
    for (arm, counts) in [("canary  ", &known.canary), ("stable  ", &known.baseline)] {
        let word = if slow { " slow" } else { " failed" };
        let _ = writeln!(text, "  {arm}  {}", counted(known.unit, pair(counts).into(), word));
    }
    if let Some(ratio) = known.ratio {
        let between = known
            .interval
            .as_deref()
            .map(pair)
            .map_or_else(String::new, |(low, high)| {
                format!(", 95 % interval {} to {}", number(low), number(high))
            });
        let _ = writeln!(text, "  ratio     {} times stable's{between}", number(ratio));
    }
    for (side, evidence, tone) in [
        ("harm    ", &known.harm, Tone::Bad),
        ("safety  ", &known.safety, Tone::Good),
    ] {
        let (nats, limit) = pair(evidence);
        if limit > 0.0 {
            let _ = writeln!(
                text,
                "  {side}  {} e-value {} of {} needed",
                paint(tone, &bar(nats, limit)),
                number(nats.exp()),
                number(limit.exp())
            );
        }
    }
    if let Some(requests) = known.needs_requests {
        let time = known
            .needs_seconds
            .filter(|seconds| seconds.is_finite() && *seconds < 1e8)
            .map_or_else(String::new, |seconds| {
                format!(", about {}", span(super::next::whole(seconds)))
            });
        let (more, unit) = known.unit.scaled(requests);
        let _ = writeln!(text, "  needs     about {} more {unit}{time}", count(more));
    }
    for gap in &known.gaps {
        let detail = if gap.detail.is_empty() {
            String::new()
        } else {
            format!(": {}", gap.detail)
        };
        let _ = writeln!(
            text,
            "  missing   {}",
            paint(Tone::Wait, &format!("{}{detail}", gap.kind))
        );
    }
    text
}

/// How far evidence has come to its limit, in ten blocks.
fn bar(nats: f64, limit: f64) -> String {
    let done = (nats / limit).clamp(0.0, 1.0);
    (0..10_u8)
        .map(|block| {
            if f64::from(block) < done * 10.0 - 0.5 {
                '█'
            } else {
                '░'
            }
        })
        .collect()
}

/// The last decisions, newest last, as a table.
#[must_use]
pub fn decisions(entries: &[DecisionEntry], now: Millis) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut text = "\nDecisions\n".to_owned();
    for entry in entries {
        let _ = writeln!(text, "  {}", decision(entry, now));
    }
    text
}

/// One decision in one line.
#[must_use]
pub fn decision(entry: &DecisionEntry, now: Millis) -> String {
    let time = at(&entry.at).map_or_else(|| entry.at.clone(), |time| clock(time, now));
    let by = entry.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let rule = if entry.rule.is_empty() {
        String::new()
    } else {
        format!("  {}", paint(Tone::Faint, &entry.rule))
    };
    format!(
        "{time}  {:<6} {:>3} → {:>3} %  {}{by}{rule}",
        entry.id,
        entry.from,
        entry.to,
        paint(
            tone(entry.outcome),
            &format!("{}: {}", entry.outcome.word(), entry.reason)
        ),
    )
}
