//! The rules of a policy: read when the plan is, asked at every tick, and always on the side of
//! caution.
//!
//! In this order: data, abort, hold, promote. A rule never lets a release go on that the judge would
//! hold; one without an answer holds it, and never aborts it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::api::{CanaryAnalysisSpec, Invalid, Metric, PolicyRule, clip};
use crate::decision::{Judged, Millis, Reason, Verdict};
use crate::judge::grouped;

use super::clause::{Clause, Described, Read, Unknown};
use super::environment::{Environment, Field, Known, Look};

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Abort,
    Hold,
    Promote,
}

/// One rule, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    name: String,
    effect: Effect,
    text: String,
    clause: Clause,
}

/// All rules of a policy, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    /// In the order in which they count: abort, hold, promote, and else as they were written.
    all: Vec<Rule>,
    metrics: Vec<String>,
    /// The length of a window, step by step.
    windows: Vec<Millis>,
    /// The places of the metrics of which some rule reads a quantile.
    pub(super) quantiles: Vec<usize>,
}

/// What has to outlive a restart: answers that stand until the next window, and an abort.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Looks {
    /// The step, and when its weight was written.
    begun: Option<(usize, Millis)>,
    /// The newest look of every rule that is asked once per window, by its place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    seen: BTreeMap<usize, Seen>,
    /// The rule that aborted, with its numbers: it stands for the rest of the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aborted: Option<String>,
}

/// An answer and when it was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    at: Millis,
    said: Said,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Said {
    /// True, and the numbers that make it so.
    Yes(String),
    /// False, and the numbers that make it so.
    No(String),
    /// It cannot be answered, and why.
    Unknown(String),
    /// Its window is not over yet, or the sample is too small.
    Later(Reason),
}

/// Longest quotation of a rule in a sentence, in characters.
const QUOTED: usize = 160;
/// Most numbers in a sentence.
const NUMBERS: usize = 4;
/// Longest list of numbers, in bytes.
const TOLD: usize = 280;

impl Rules {
    /// Reads the rules of a frozen policy.
    ///
    /// # Errors
    /// [`Invalid`] naming the rule, what it says and what would be accepted.
    pub(super) fn read(spec: &CanaryAnalysisSpec) -> Result<Self, Invalid> {
        let metrics: Vec<Described> = spec.analysis.metrics.iter().map(described).collect();
        let mut rules = Vec::new();
        for (index, written) in spec.policy.rules.iter().enumerate() {
            let rule = rule(written, &metrics).map_err(|invalid| Invalid {
                field: format!("spec.policy.rules[{}].{}", written.name, invalid.field),
                ..invalid
            })?;
            if spec
                .policy
                .rules
                .iter()
                .take(index)
                .any(|other| other.name == written.name)
            {
                let field = format!("spec.policy.rules[{index}].name");
                return Err(Invalid::new(field, &written.name, "a name no other rule has"));
            }
            rules.push(rule);
        }
        rules.sort_by_key(|rule| rule.effect as u8);
        Ok(Self {
            quantiles: quantiles(&rules, metrics.len()),
            all: rules,
            metrics: metrics.into_iter().map(|metric| metric.name).collect(),
            windows: spec.plan()?.steps.iter().map(|step| step.min_window).collect(),
        })
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Asks all rules, and leaves the judge's word as it is or makes it more cautious.
    pub(super) fn apply(&self, looks: &mut Looks, environment: &Environment, judged: &mut Judged) {
        if let Verdict::Fail(_) = judged.verdict {
            return;
        }
        let said: Vec<(&Rule, Said)> = self
            .all
            .iter()
            .enumerate()
            .map(|(place, rule)| (rule, self.ask(place, rule, looks, environment, judged.at)))
            .collect();
        let fires = |(rule, said): &(&Rule, Said)| match said {
            Said::Yes(numbers) if rule.effect == Effect::Abort => Some(rule.sentence("says abort", numbers)),
            _ => None,
        };
        looks.aborted = looks.aborted.take().or_else(|| said.iter().find_map(fires));
        if let Some(sentence) = &looks.aborted {
            judged.verdict = Verdict::Fail(Reason::RuleAborts);
            judged.rule.clone_from(sentence);
            judged.no_harm = false;
            return;
        }
        let Some((reason, sentence)) = restraint(&said) else {
            return;
        };
        judged.no_harm = false;
        match judged.verdict {
            Verdict::Pass(_) => {
                judged.verdict = Verdict::Inconclusive(reason);
                judged.rule = sentence;
            }
            // what the judge lacks itself stays the reason, and what a rule lacks is said before it
            _ if matches!(reason, Reason::RuleHolds | Reason::RuleUnanswered) => {
                judged.rule = format!("{sentence}; {}", judged.rule);
            }
            _ => {}
        }
    }

    /// What a rule says now: anew, or as it did when its window was looked at.
    fn ask(&self, place: usize, rule: &Rule, looks: &mut Looks, environment: &Environment, now: Millis) -> Said {
        if rule.clause.look() == Look::Always {
            return self.answer(rule, environment);
        }
        let Some((step, begun)) = looks.begun else {
            return Said::Later(Reason::MinWindow);
        };
        let window = self.windows.get(step).copied().unwrap_or_default();
        let before = looks.seen.get(&place);
        let due = before.map_or(begun, |seen| seen.at) + window;
        let later = |reason| before.map_or(Said::Later(reason), |seen| seen.said.clone());
        if now < due || before.is_some_and(|seen| now <= seen.at) {
            return later(Reason::MinWindow);
        }
        let few = |metric: &usize| environment.known(Some(*metric)) == Known::TooFew;
        if rule.clause.metrics().iter().any(few) {
            return later(Reason::TooFew);
        }
        let said = self.answer(rule, environment);
        // without evidence nothing was seen: the window is looked at when there is some
        let blind = |metric: &usize| environment.known(Some(*metric)) == Known::NoEvidence;
        let unseen = matches!(said, Said::Unknown(_)) && rule.clause.metrics().iter().any(blind);
        if !unseen {
            let said = said.clone();
            looks.seen.insert(place, Seen { at: now, said });
        }
        said
    }

    fn answer(&self, rule: &Rule, environment: &Environment) -> Said {
        match rule.clause.answer(environment) {
            Ok(true) => Said::Yes(self.numbers(&rule.clause, environment)),
            Ok(false) => Said::No(self.numbers(&rule.clause, environment)),
            Err(Unknown::Infinite) => Said::Unknown("its arithmetic has no finite result".into()),
            Err(Unknown::Missing(read)) => Said::Unknown(self.missing(read, environment)),
        }
    }

    /// Why a number is not known.
    fn missing(&self, read: Read, environment: &Environment) -> String {
        let field = read.field();
        let Read::Metric(metric, number) = read else {
            return format!("{field} is not known");
        };
        let name = self.metrics.get(metric).map_or("", String::as_str);
        let idle = [Field::CanaryRequests, Field::StableRequests]
            .map(|field| Read::Metric(metric, field).value(environment))
            .contains(&Some(0.0));
        let why = match (environment.known(Some(metric)), number) {
            (Known::NoEvidence, _) => ": no complete evidence",
            _ if idle => ": an arm has had no requests",
            (_, Field::Ratio | Field::Delta) => ": stable has no such events",
            (_, Field::Upper | Field::DeltaUpper) => ": too few events to bound it",
            (_, Field::CanaryQuantile | Field::StableQuantile | Field::QuantileDelta) => {
                ": it lies outside the buckets that are counted"
            }
            _ => "",
        };
        format!("{field} of {name} is not known{why}")
    }

    /// The numbers that a rule reads, as `http-errors: delta 0.62 (37 of 1,204 on canary, 61 of 22,870 on stable)`.
    fn numbers(&self, clause: &Clause, environment: &Environment) -> String {
        let mut parts: BTreeMap<Option<usize>, Vec<String>> = BTreeMap::new();
        for read in clause.reads.iter().take(NUMBERS) {
            let value = read.value(environment).map_or_else(|| "not known".to_owned(), shown);
            let metric = match read {
                Read::Metric(metric, _) => Some(*metric),
                Read::Release(_) => None,
            };
            let part = format!("{} {value}", read.field());
            parts.entry(metric).or_default().push(part);
        }
        for metric in &clause.states {
            let part = format!("evidence {}", environment.known(*metric).text());
            parts.entry(*metric).or_default().push(part);
        }
        let told = parts.into_iter().map(|(metric, parts)| {
            let name = metric.map_or("release", |metric| self.metrics.get(metric).map_or("", String::as_str));
            let mut told = format!("{name}: {}", parts.join(", "));
            if let Some(values) = metric.and_then(|metric| environment.metrics.get(metric)) {
                let [a, n, b, m] = values.counts.map(shown);
                // Writing to a String cannot fail.
                let _ = write!(told, " ({a} of {n} on canary, {b} of {m} on stable)");
            }
            told
        });
        clip(&told.collect::<Vec<_>>().join("; "), TOLD)
    }
}

impl Rule {
    /// `rule payments says abort: metrics["payments"].delta > 0.05, as payments: delta 0.31 (…)`.
    fn sentence(&self, says: &str, because: &str) -> String {
        let mut text: String = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.chars().count() > QUOTED {
            text = text.chars().take(QUOTED).chain(['…']).collect();
        }
        let because = if because.is_empty() {
            String::new()
        } else {
            format!(", as {because}")
        };
        format!("rule {} {says}: {text}{because}", self.name)
    }
}

impl Looks {
    /// The weight of a step was written: nothing that was seen at another weight counts. Whether it
    /// is another step than before.
    pub(super) fn begin_step(&mut self, step: usize, at: Millis) -> bool {
        let other = self.begun.is_none_or(|(known, _)| known != step);
        if other {
            self.begun = Some((step, at));
            self.seen.clear();
        }
        other
    }

    /// Minutes since the step's weight was written.
    pub(super) fn minutes(&self, now: Millis) -> f64 {
        let since = self.begun.map_or(now, |(_, at)| at);
        (now - since).as_secs_f64().max(0.0) / 60.0
    }
}

/// Why the release must not go on, in the order hold, unanswered, not promoted, not looked at yet.
fn restraint(said: &[(&Rule, Said)]) -> Option<(Reason, String)> {
    let holds = |(rule, said): &(&Rule, Said)| match said {
        Said::Yes(numbers) if rule.effect == Effect::Hold => {
            Some((Reason::RuleHolds, rule.sentence("says hold", numbers)))
        }
        _ => None,
    };
    let unanswered = |(rule, said): &(&Rule, Said)| match said {
        Said::Unknown(why) => Some((Reason::RuleUnanswered, rule.sentence("cannot be answered", why))),
        _ => None,
    };
    let refuses = |(rule, said): &(&Rule, Said)| match said {
        Said::No(numbers) if rule.effect == Effect::Promote => {
            Some((Reason::RuleHolds, rule.sentence("does not let it go on", numbers)))
        }
        _ => None,
    };
    let waits = |(rule, said): &(&Rule, Said)| match said {
        Said::Later(reason) => {
            let why = match reason {
                Reason::TooFew => "the canary has had fewer requests than the minimum sample",
                _ => "it is looked at once per window",
            };
            Some((*reason, format!("rule {} is not due yet: {why}", rule.name)))
        }
        _ => None,
    };
    let found = said.iter().find_map(holds);
    let found = found.or_else(|| said.iter().find_map(unanswered));
    let found = found.or_else(|| said.iter().find_map(refuses));
    found.or_else(|| said.iter().find_map(waits))
}

/// The places of the metrics of which some rule reads a quantile.
fn quantiles(rules: &[Rule], metrics: usize) -> Vec<usize> {
    let wants = |index: &usize| {
        let fields = [Field::CanaryQuantile, Field::StableQuantile, Field::QuantileDelta];
        let reads = fields.map(|field| Read::Metric(*index, field));
        rules
            .iter()
            .any(|rule| reads.iter().any(|read| rule.clause.reads.contains(read)))
    };
    (0..metrics).filter(wants).collect()
}

fn described(metric: &Metric) -> Described {
    Described {
        name: metric.name.clone(),
        ratio: metric.ratio.is_some(),
        quantile: metric
            .histogram
            .as_ref()
            .is_some_and(|histogram| histogram.quantile.is_some()),
        gauge: metric.gauge.is_some(),
    }
}

fn rule(written: &PolicyRule, metrics: &[Described]) -> Result<Rule, Invalid> {
    let stated = [
        ("promoteWhen", Effect::Promote, &written.promote_when),
        ("holdWhen", Effect::Hold, &written.hold_when),
        ("abortWhen", Effect::Abort, &written.abort_when),
    ];
    let mut stated = stated
        .into_iter()
        .filter_map(|(field, effect, text)| Some((field, effect, text.as_ref()?)));
    let (Some((field, effect, text)), None) = (stated.next(), stated.next()) else {
        let accepted = "exactly one of promoteWhen, holdWhen and abortWhen";
        return Err(Invalid::new("promoteWhen", "none or several of them", accepted));
    };
    let clause = Clause::read(text, metrics).map_err(|fault| Invalid::new(field, text, fault.to_string()))?;
    Ok(Rule {
        name: written.name.clone(),
        effect,
        text: text.clone(),
        clause,
    })
}

/// A number with as many places as are worth reading: `1,204`, `0.62`, `0.0031`.
fn shown(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        _ if (value - value.round()).abs() < 1e-9 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 0.1 => 2,
        _ if size >= 0.001 => 4,
        _ => 6,
    };
    grouped(&format!("{value:.places$}"))
}
