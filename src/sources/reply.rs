//! Bytes of an answer to series, with every doubt named.
//!
//! The text of an error of the server is not passed on: it quotes the query, which names the
//! workloads of the whole fleet.

use serde::Deserialize;

use super::arms::Labels;
use super::counter::millis;
use super::native::{Native, Natives};
use crate::decision::{Gap, GapKind};
use crate::http;

/// Most series that are read from one answer.
pub(super) const MOST_SERIES: usize = 20_000;
/// Longest text of a gap, in characters.
const LONGEST_DETAIL: usize = 256;

/// The state of a counter at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Milliseconds since 1970.
    pub(super) at: i64,
    /// As scraped: NaN and infinities included.
    pub(super) value: f64,
}

/// A series of raw samples.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// In the order of the answer; of a native histogram, how many were observed.
    pub(super) samples: Vec<Sample>,
    /// The buckets of a native histogram.
    pub(super) natives: Natives,
}

#[derive(Deserialize)]
struct Body {
    status: String,
    #[serde(default, rename = "errorType")]
    error_type: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    metric: Labels,
    #[serde(default)]
    values: Vec<(f64, Written)>,
    #[serde(default)]
    histograms: Vec<(f64, Observed)>,
}

/// A native histogram as Prometheus writes it. The first of a bucket says which of its edges belong to
/// it.
#[derive(Deserialize)]
struct Observed {
    count: Written,
    #[serde(default)]
    buckets: Vec<(u8, Written, Written, Written)>,
}

impl Observed {
    /// The buckets, when all of them are numbers, and all counts are counts.
    fn buckets(&self) -> Option<Native> {
        let bucket = |(_, lower, upper, count): &(u8, Written, Written, Written)| {
            let count = count.0.filter(|count| count.is_finite() && *count >= 0.0)?;
            let (lower, upper) = (lower.0?, upper.0?);
            (lower <= upper).then_some([lower, upper, count])
        };
        self.buckets.iter().map(bucket).collect::<Option<Vec<_>>>().map(Native)
    }
}

/// A value as Prometheus writes it, as text; `None` for text that is no number.
struct Written(Option<f64>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Written;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value as text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.parse().ok()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A gap whose text is fit for a status: one line, bounded.
pub(super) fn gap(kind: GapKind, detail: &str) -> Gap {
    let detail = detail
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_DETAIL)
        .collect();
    Gap { kind, detail }
}

/// What a failed call means for the evidence.
pub(super) fn failed(error: &http::Error) -> Gap {
    let kind = match error {
        http::Error::Timeout { .. } => GapKind::Timeout,
        http::Error::Oversized { .. } => GapKind::Oversized,
        http::Error::Unreachable { .. } | http::Error::Address(_) => GapKind::Unreachable,
        http::Error::Credential(_) | http::Error::Unaccepted { .. } => GapKind::Unauthorized,
        http::Error::Broken { .. } => GapKind::QueryError,
    };
    gap(kind, &error.to_string())
}

/// Reads an answer to a query for raw samples.
pub(super) fn decode(status: u16, body: &[u8]) -> Result<Vec<Series>, Gap> {
    if matches!(status, 401 | 403) {
        return Err(gap(GapKind::Unauthorized, &format!("the source answered {status}")));
    }
    let read = serde_json::from_slice::<Body>(body);
    let body = match read {
        Ok(body) if status == 200 && body.status == "success" => body,
        Ok(body) => return Err(refused(status, &body)),
        Err(_) => {
            let detail = format!("the source answered {status} with something that is not Prometheus' JSON");
            return Err(gap(GapKind::QueryError, &detail));
        }
    };
    if let Some(count) = body.warnings.map(|warnings| warnings.len()).filter(|count| *count > 0) {
        let detail = format!("the source gave {count} warnings with its answer: the data may be partial");
        return Err(gap(GapKind::Warning, &detail));
    }
    let data = body.data.filter(|data| data.kind == "matrix").ok_or_else(|| {
        gap(
            GapKind::QueryError,
            "the source answered with something else than raw samples",
        )
    })?;
    if data.result.len() > MOST_SERIES {
        let detail = format!("{} series, {MOST_SERIES} are read at most", data.result.len());
        return Err(gap(GapKind::Oversized, &detail));
    }
    data.result.into_iter().map(series).collect()
}

fn series(row: Row) -> Result<Series, Gap> {
    let not_a_count = || gap(GapKind::NotACount, "a sample of the answer is not a number");
    let natives = row
        .histograms
        .iter()
        .map(|(at, seen)| Some((millis(*at), seen.buckets()?)));
    let natives: Natives = natives.collect::<Option<_>>().ok_or_else(not_a_count)?;
    let observed = row.histograms.iter().map(|(at, seen)| (at, &seen.count));
    let mut samples = row
        .values
        .iter()
        .map(|(at, value)| (at, value))
        .chain(observed)
        .map(|(at, value)| {
            let sample = |value| Sample { at: millis(*at), value };
            value.0.map(sample)
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(not_a_count)?;
    if !natives.is_empty() {
        samples.sort_by_key(|sample| sample.at);
    }
    Ok(Series {
        labels: row.metric,
        samples,
        natives,
    })
}

/// An answer that says that there is none. Only the closed words of the protocol are passed on.
fn refused(status: u16, body: &Body) -> Gap {
    let word = match body.error_type.as_deref() {
        Some(word @ ("timeout" | "canceled" | "execution" | "bad_data" | "internal" | "unavailable" | "not_found")) => {
            word
        }
        Some("too_many_requests") => "too many requests",
        _ => "no reason that is known",
    };
    let too_much = body
        .error
        .as_deref()
        .is_some_and(|text| text.contains("too many samples") || text.contains("exceed"));
    let kind = match word {
        "timeout" | "canceled" => GapKind::Timeout,
        "execution" if too_much => GapKind::Oversized,
        _ => GapKind::QueryError,
    };
    gap(kind, &format!("the source answered {status}: {word}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(status: u16, body: &str) -> Option<GapKind> {
        decode(status, body.as_bytes()).err().map(|gap| gap.kind)
    }

    #[test]
    fn every_doubtful_answer_has_its_word() {
        let deep = "[".repeat(100_000);
        for (status, body, expected) in [
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
                None,
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":[],"infos":["x"]}"#,
                None,
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["partial"]}"#,
                Some(GapKind::Warning),
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                Some(GapKind::QueryError),
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"many"]]}]}}"#,
                Some(GapKind::NotACount),
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{}]]}]}}"#,
                Some(GapKind::QueryError),
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{"count":"0"}]]}]}}"#,
                None,
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{"count":"1","buckets":[[0,"1","2","-1"]]}]]}]}}"#,
                Some(GapKind::NotACount),
            ),
            (200, r#"{"status":"success"}"#, Some(GapKind::QueryError)),
            (200, "<html>", Some(GapKind::QueryError)),
            (200, "", Some(GapKind::QueryError)),
            (200, deep.as_str(), Some(GapKind::QueryError)),
            (302, "", Some(GapKind::QueryError)),
            (401, "", Some(GapKind::Unauthorized)),
            (403, "{}", Some(GapKind::Unauthorized)),
            (
                503,
                r#"{"status":"error","errorType":"timeout","error":"x"}"#,
                Some(GapKind::Timeout),
            ),
            (
                400,
                r#"{"status":"error","errorType":"bad_data","error":"x"}"#,
                Some(GapKind::QueryError),
            ),
            (
                422,
                r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory"}"#,
                Some(GapKind::Oversized),
            ),
            (
                422,
                r#"{"status":"error","errorType":"execution","error":"x"}"#,
                Some(GapKind::QueryError),
            ),
            (
                500,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
                Some(GapKind::QueryError),
            ),
        ] {
            assert_eq!(
                kind(status, body),
                expected,
                "{status} {}",
                body.chars().take(120).collect::<String>()
            );
        }
    }

    #[test]
    fn the_text_of_a_server_is_not_passed_on() {
        let body = r#"{"status":"error","errorType":"s3cret","error":"s3cret in {namespace=\"other\"}"}"#;
        let gap = decode(400, body.as_bytes()).expect_err("an error");
        assert!(
            !gap.detail.contains("s3cret") && !gap.detail.contains("other"),
            "{}",
            gap.detail
        );
    }

    #[test]
    fn more_series_than_are_read_are_too_many() {
        let row = r#"{"metric":{},"values":[]}"#;
        let body = |count: usize| {
            let rows = vec![row; count].join(",");
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{rows}]}}}}"#)
        };
        assert_eq!(kind(200, &body(MOST_SERIES)), None);
        assert_eq!(kind(200, &body(MOST_SERIES + 1)), Some(GapKind::Oversized));
    }

    #[test]
    fn numbers_are_read_as_the_server_writes_them() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},
            "values":[[1763740000.123,"1e+06"],[1763740001,"NaN"],[1763740002,"+Inf"],[1763740003,"-Inf"],[1763740004,"-0"]]}]}}"#;
        let series = decode(200, body.as_bytes()).expect("an answer");
        let samples = &series.first().expect("one").samples;
        let values: Vec<String> = samples.iter().map(|sample| sample.value.to_string()).collect();
        assert_eq!(values, ["1000000", "NaN", "inf", "-inf", "-0"]);
        assert_eq!(samples.first().map(|sample| sample.at), Some(1_763_740_000_123));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode(status, &body);
        }

        #[test]
        fn near_answers_never_panic(at in any::<f64>(), value in ".{0,12}", kind in "matrix|vector|", extra in ".{0,12}") {
            let body = serde_json::json!({
                "status": "success",
                "data": {"resultType": kind, "result": [{"metric": {"__name__": extra}, "values": [[at, value]]}]},
            });
            let _ = decode(200, body.to_string().as_bytes());
        }
    }
}
