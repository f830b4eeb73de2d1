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
            method: reading.method,
            unit: reading.unit,
            verdict: VerdictWord::from(&reading.verdict),
            reason: reading.verdict.reason().word().to_owned(),
            canary: pair(reading.canary),
            baseline: pair(reading.baseline),
            ratio: reading.ratio.filter(|ratio| ratio.is_finite()),
            interval: reading.interval.map(pair),
            difference: reading.difference.map(pair),
            dispersion: Some(finite(reading.dispersion)).filter(|dispersion| *dispersion > 1.0),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::api::{Condition, ConditionStatus};
    use crate::decision::{GapKind, MethodName, Millis, Need, Outcome, Reason, Unit};

    /// The worst text there is: every character takes two bytes as JSON.
    fn worst(length: usize) -> String {
        "\"".repeat(length)
    }

    fn record() -> Record {
        Record {
            id: format!("{}-{}", i64::MAX, i64::MAX),
            at: Millis(253_402_207_200_000),
            outcome: Outcome::Promote,
            reason: Reason::RouteNotProgrammed,
            revision: Revision("0123456789".into()),
            step: 19,
            from: Percent::ALL,
            to: Percent::ALL,
            rule: worst(5000),
            evidence_hash: "a".repeat(64),
            policy_hash: "b".repeat(64),
            by: Some(worst(5000)),
        }
    }

    #[test]
    fn the_largest_status_stays_below_64_kib() {
        let gap = Gap {
            kind: GapKind::BaselineMissing,
            detail: worst(5000),
        };
        let number = 1.234_567_890_123_456_7e-300;
        let reading = Reading {
            metric: "m".repeat(52),
            method: MethodName::Sequential,
            unit: Unit::PodSeconds,
            verdict: Verdict::Inconclusive(Reason::RouteNotProgrammed),
            canary: [number; 2],
            baseline: [number; 2],
            ratio: Some(number),
            interval: Some([number; 2]),
            difference: Some([number; 2]),
            dispersion: 1.234_567_890_123_456_7e300,
            harm: [number; 2],
            safety: [number; 2],
            need: Some(Need {
                requests: number,
                seconds: Some(number),
            }),
            gaps: vec![gap; 50],
        };
        let judged = Judged {
            epoch: i64::MAX,
            step: 19,
            at: Millis(253_402_207_200_000),
            verdict: Verdict::Inconclusive(Reason::RouteNotProgrammed),
            receiving: true,
            blind_since: None,
            no_harm: false,
            rule: worst(5000),
            evidence_hash: "a".repeat(64),
            readings: vec![reading; 10],
        };
        let condition = Condition {
            type_: "Reconciling".into(),
            status: ConditionStatus::Unknown,
            observed_generation: i64::MAX,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            reason: "RouteNotProgrammed".into(),
            message: clip(&worst(5000), 1024),
        };
        let mut status = AnalysisStatus {
            observed_generation: i64::MAX,
            conditions: vec![condition; 4],
            decisions: vec![DecisionEntry::from(&record()); 20],
            judge_state: Some("x".repeat(49_152)),
            ..AnalysisStatus::default()
        };
        status.judged(&judged);
        let size = serde_json::to_vec(&status).expect("JSON").len();
        assert!(size < 96 * 1024, "{size} bytes");
    }

    #[test]
    fn a_record_is_read_back_as_it_was_but_for_what_was_cut() {
        let short = Record {
            rule: "errors 1.02 of 1.1".into(),
            by: Some("ada".into()),
            ..record()
        };
        let entry = DecisionEntry::from(&short);
        assert_eq!(entry.record(&short.revision.0, &short.policy_hash), Ok(short));
        let mut forged = entry.clone();
        forged.to = 101;
        assert!(
            forged
                .record("a", "b")
                .is_err_and(|invalid| invalid.field == "status.decisions.to")
        );
        let mut unknown = entry;
        unknown.reason = "BadLuck".into();
        assert!(
            unknown
                .record("a", "b")
                .is_err_and(|invalid| invalid.value == "BadLuck")
        );
    }

    #[test]
    fn numbers_without_a_json_form_have_one() {
        for (number, shown) in [
            (f64::INFINITY, f64::MAX),
            (f64::NEG_INFINITY, f64::MIN),
            (f64::NAN, 0.0),
            (1.5, 1.5),
        ] {
            assert!((finite(number) - shown).abs() <= 0.0, "{number}");
        }
    }

    proptest! {
        #[test]
        fn clipped_text_takes_no_more_bytes_than_allowed(text in any::<String>(), most in 3..600_usize) {
            let clipped = clip(&text, most);
            let json = serde_json::to_string(&clipped).expect("JSON");
            prop_assert!(json.len() <= most + 2, "{} bytes", json.len());
            if json.len() < most / 2 {
                prop_assert_eq!(clipped.chars().count(), text.chars().count());
            }
        }
    }
}
