//! What the judge and the machine said, as a CanaryAnalysis shows it; every text cut to its bound.

use super::canary_analysis::{AnalysisStatus, DecisionEntry, GapEntry, MetricReading, VerdictWord};
use super::gate_status::reason;
use super::invalid::Invalid;
use super::time::{millis, moment};
use crate::decision::{Gap, Judged, Percent, Reading, Record, Revision, Verdict};

/// Longest rule, in bytes of JSON.
const RULE: usize = 512;
/// Longest detail of a gap, in bytes of JSON.
const DETAIL: usize = 256;
/// Longest name of a person, in bytes of JSON.
const PERSON: usize = 253;
/// Most gaps of one metric.
const GAPS: usize = 4;

/// Cuts text so that it takes at most `most` bytes as JSON, the ellipsis included. Control
/// characters become spaces: as JSON they take six bytes each.
#[must_use]
pub fn clip(text: &str, most: usize) -> String {
    const ELLIPSIS: char = '…';
    let cost = |character: char| character.len_utf8() + usize::from(matches!(character, '"' | '\\'));
    let plain = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character });
    if plain.clone().map(cost).sum::<usize>() <= most {
        return plain.collect();
    }
    let mut left = most.saturating_sub(ELLIPSIS.len_utf8());
    let mut short: String = plain
        .take_while(|character| {
            let fits = cost(*character) <= left;
            left = left.saturating_sub(cost(*character));
            fits
        })
        .collect();
    short.push(ELLIPSIS);
    short
}

impl AnalysisStatus {
    /// Takes over what the judge last said.
    pub fn judged(&mut self, judged: &Judged) {
        self.verdict = Some(VerdictWord::from(&judged.verdict));
        self.reason = Some(judged.verdict.reason().word().to_owned());
        self.rule = Some(clip(&judged.rule, RULE));
        self.judged_step = i64::try_from(judged.step).ok();
        self.judged_at = Some(moment(judged.at));
        self.evidence_hash = Some(judged.evidence_hash.clone());
        self.readings = judged.readings.iter().map(MetricReading::from).collect();
    }
}

impl From<&Verdict> for VerdictWord {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass(_) => Self::Pass,
            Verdict::Fail(_) => Self::Fail,
            Verdict::Inconclusive(_) => Self::Inconclusive,
        }
    }
}

impl From<&Reading> for MetricReading {
    fn from(reading: &Reading) -> Self {
        let pair = |pair: [f64; 2]| pair.map(finite).to_vec();
        Self {
            metric: reading.metric.clone(),
            verdict: VerdictWord::from(&reading.verdict),
            reason: reading.verdict.reason().word().to_owned(),
            canary: pair(reading.canary),
            baseline: pair(reading.baseline),
            ratio: reading.ratio.filter(|ratio| ratio.is_finite()),
            interval: reading.interval.map(pair),
            harm: pair(reading.harm),
            safety: pair(reading.safety),
            needs_requests: reading.need.map(|need| finite(need.requests)),
            needs_seconds: reading.need.and_then(|need| need.seconds).map(finite),
            gaps: reading.gaps.iter().take(GAPS).map(GapEntry::from).collect(),
        }
    }
}

/// JSON has no infinity: the largest number stands for it. Not a number never gets here; 0 would.
fn finite(number: f64) -> f64 {
    if number.is_nan() {
        0.0
    } else {
        number.clamp(f64::MIN, f64::MAX)
    }
}

impl From<&Gap> for GapEntry {
    fn from(gap: &Gap) -> Self {
        Self {
            kind: gap.kind.word().to_owned(),
            detail: clip(&gap.detail, DETAIL),
        }
    }
}

impl From<&Record> for DecisionEntry {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id.clone(),
            at: moment(record.at),
            outcome: record.outcome,
            reason: record.reason.word().to_owned(),
            step: i64::try_from(record.step).unwrap_or(i64::MAX),
            from: record.from.into(),
            to: record.to.into(),
            rule: clip(&record.rule, RULE),
            evidence_hash: record.evidence_hash.clone(),
            by: record.by.as_ref().map(|by| clip(by, PERSON)),
        }
    }
}

impl DecisionEntry {
    /// The audit record again; revision and policy hash are those of the CanaryAnalysis.
    ///
    /// # Errors
    /// Names the field that no record has written.
    pub fn record(&self, revision: &str, policy_hash: &str) -> Result<Record, Invalid> {
        let weight = |field: &str, value: i64| {
            Percent::try_from(value).map_err(|_| Invalid::new(field, value, "an integer from 0 to 100"))
        };
        Ok(Record {
            id: self.id.clone(),
            at: millis("status.decisions.at", &self.at)?,
            outcome: self.outcome,
            reason: reason("status.decisions.reason", &self.reason)?,
            revision: Revision(revision.to_owned()),
            step: usize::try_from(self.step)
                .map_err(|_| Invalid::new("status.decisions.step", self.step, "a step, from 0"))?,
            from: weight("status.decisions.from", self.from)?,
            to: weight("status.decisions.to", self.to)?,
            rule: self.rule.clone(),
            evidence_hash: self.evidence_hash.clone(),
            policy_hash: policy_hash.to_owned(),
            by: self.by.clone(),
        })
    }
}
