//! A recording: series of raw samples that answer a plane's questions as Prometheus would, from
//! memory.
//!
//! Two forms are read. `OpenMetrics` text with a timestamp on every line, as `promtool tsdb
//! dump-openmetrics` and `tollgate replay --record` write it; and answers of Prometheus' own
//! `/api/v1/query` to range selectors (`http_requests_total{namespace="shop"}[30m]`), one or many in
//! a file, as `curl` stores them. Answers of `/api/v1/query_range` are samples made up at fixed
//! steps, not those that were scraped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::time::Duration;

use promql_parser::parser::{Expr, MatrixSelector, SubqueryExpr, VectorSelector, parse};

use super::arms::Labels;
use super::counter::millis;
use super::native::{Native, Natives};
use super::reply::{Sample, Series, decode, gap};
use crate::decision::{Gap, GapKind, Millis};

/// A timestamp above this is written in milliseconds, as the older text format has it; in seconds it
/// would lie in the year 5138.
const MILLISECONDS: f64 = 1e11;

/// Series with all their samples, by the metric's name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    series: BTreeMap<String, BTreeMap<Labels, BTreeMap<i64, f64>>>,
    /// The buckets of those that are native histograms.
    natives: BTreeMap<Labels, Natives>,
}

/// Why a recording cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// A line of the text.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong, and what would be accepted.
        why: String,
    },
    /// An answer of Prometheus.
    #[error("answer {number}: {why}")]
    Answer {
        /// Its place in the file, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// Two samples of a series for the same time.
    #[error("{series} has two values for the same time, {at} ms: {values:?}; leave one of the dumps out")]
    Twice {
        /// The metric's name.
        series: String,
        /// The time, milliseconds since 1970.
        at: i64,
        /// Both, as text.
        values: [String; 2],
    },
    /// Nothing in it.
    #[error(
        "there is no sample in it; accepted is OpenMetrics text with timestamps, or answers of /api/v1/query to range selectors"
    )]
    Empty,
}

impl Recording {
    /// Reads a recording in either form.
    ///
    /// # Errors
    /// [`RecordingError`] naming the line or the answer.
    pub fn read(text: &str) -> Result<Self, RecordingError> {
        let mut recording = Self::default();
        if text.trim_start().starts_with(['{', '[']) && !text.trim_start().starts_with("{__name__") {
            recording.take_answers(text)?;
        } else {
            for (place, line) in text.lines().enumerate() {
                let at = |why| RecordingError::Line { line: place + 1, why };
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    let (labels, sample) = exposed(line).map_err(at)?;
                    recording.add(labels, sample)?;
                }
            }
        }
        if recording.series.is_empty() {
            return Err(RecordingError::Empty);
        }
        Ok(recording)
    }

    fn take_answers(&mut self, text: &str) -> Result<(), RecordingError> {
        let answers = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        let wrong = |number: usize, why: String| RecordingError::Answer {
            number: number + 1,
            why,
        };
        for (number, answer) in answers.enumerate() {
            let answer = answer.map_err(|error| wrong(number, error.to_string()))?;
            let answers = match answer {
                serde_json::Value::Array(answers) => answers,
                one => vec![one],
            };
            for answer in answers {
                let series = decode(200, answer.to_string().as_bytes()).map_err(|gap| wrong(number, gap.detail))?;
                self.join(series)?;
            }
        }
        Ok(())
    }

    /// Adds what was read from a server.
    pub(super) fn join(&mut self, series: Vec<Series>) -> Result<(), RecordingError> {
        for Series {
            labels,
            samples,
            natives,
        } in series
        {
            if !natives.is_empty() {
                self.natives.entry(labels.clone()).or_default().extend(natives);
            }
            for sample in samples {
                self.add(labels.clone(), sample)?;
            }
        }
        Ok(())
    }

    /// Whether all of it can be written as text, which has no form for native histograms.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.natives.is_empty()
    }

    /// Adds another recording.
    ///
    /// # Errors
    /// When both have a sample of a series for the same time, and not the same.
    pub fn merge(&mut self, other: Self) -> Result<(), RecordingError> {
        let series = other.series.into_values().flatten();
        for (labels, samples) in series {
            for (at, value) in samples {
                self.add(labels.clone(), Sample { at, value })?;
            }
        }
        for (labels, natives) in other.natives {
            self.natives.entry(labels).or_default().extend(natives);
        }
        Ok(())
    }

    /// Adds one sample; the same one twice is one.
    fn add(&mut self, labels: Labels, sample: Sample) -> Result<(), RecordingError> {
        let name = labels.get("__name__").cloned().unwrap_or_default();
        let known = self.series.entry(name.clone()).or_default().entry(labels).or_default();
        match known.insert(sample.at, sample.value) {
            Some(before) if before.total_cmp(&sample.value).is_ne() => Err(RecordingError::Twice {
                series: name,
                at: sample.at,
                values: [before.to_string(), sample.value.to_string()],
            }),
            _ => Ok(()),
        }
    }

    /// Notes the state of something at a time.
    ///
    /// # Errors
    /// When another value is there for that time.
    pub fn note(&mut self, name: &str, labels: &[(&str, &str)], at: Millis, value: f64) -> Result<(), RecordingError> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all = labels.chain([("__name__".to_owned(), name.to_owned())]).collect();
        self.add(all, Sample { at: at.0, value })
    }

    /// Times of the first and of the last sample of what was counted; what Tollgate says of itself is
    /// only noted.
    #[must_use]
    pub fn span(&self) -> Option<(Millis, Millis)> {
        let counted = self.series.iter().filter(|(name, _)| !name.starts_with("tollgate_"));
        let times = || counted.clone().flat_map(|(_, series)| series.values());
        let first = times().filter_map(|samples| samples.keys().next()).min()?;
        let last = times().filter_map(|samples| samples.keys().next_back()).max()?;
        Some((Millis(*first), Millis(*last)))
    }

    /// Values of a metric over time, of the series that has these labels.
    #[must_use]
    pub fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(Millis, f64)> {
        let fits = |found: &Labels| {
            labels
                .iter()
                .all(|(name, value)| found.get(*name).is_some_and(|found| found == value))
        };
        let series = self
            .series
            .get(name)
            .into_iter()
            .flatten()
            .filter(|(found, _)| fits(found));
        let mut values: Vec<_> = series
            .flat_map(|(_, samples)| samples)
            .map(|(at, value)| (Millis(*at), *value))
            .collect();
        values.sort_by_key(|(at, _)| *at);
        values
    }

    /// All of it as `OpenMetrics` text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, series) in &self.series {
            for (labels, samples) in series {
                let pairs: Vec<String> = labels
                    .iter()
                    .filter(|(label, _)| *label != "__name__")
                    .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                    .collect();
                let pairs = if pairs.is_empty() {
                    String::new()
                } else {
                    format!("{{{}}}", pairs.join(","))
                };
                for (at, value) in samples {
                    let (seconds, rest) = (at.div_euclid(1000), at.rem_euclid(1000));
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{name}{pairs} {} {seconds}.{rest:03}", written(*value));
                }
            }
        }
        text.push_str("# EOF\n");
        text
    }

    /// All of it as one answer of Prometheus: a third of the size of the text.
    #[must_use]
    pub fn answer_body(&self) -> String {
        let series = self.series.values().flatten().map(|(labels, samples)| {
            let natives = self.natives.get(labels);
            let (mut values, mut histograms) = (Vec::new(), Vec::new());
            for (at, value) in samples {
                let (seconds, rest, value) = (at.div_euclid(1000), at.rem_euclid(1000), written(*value));
                match natives.and_then(|natives| natives.get(at)) {
                    Some(native) => histograms.push(format!("[{seconds}.{rest:03},{}]", observed(&value, native))),
                    None => values.push(format!("[{seconds}.{rest:03},\"{value}\"]")),
                }
            }
            let fields = [("values", values), ("histograms", histograms)];
            let told = fields.into_iter().filter(|(_, samples)| !samples.is_empty());
            let told = told.map(|(name, samples)| format!(",\"{name}\":[{}]", samples.join(",")));
            let labels = serde_json::to_string(labels).unwrap_or_default();
            format!("{{\"metric\":{labels}{}}}", told.collect::<String>())
        });
        let series: Vec<String> = series.collect();
        let result = series.join(",\n");
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[\n{result}\n]}}}}\n")
    }

    /// What Prometheus answers at a time to a range selector, or to a subquery of a selector. Both
    /// windows are open at their start and closed at their end.
    pub(super) fn answer(&self, query: &str, to: i64) -> Result<Vec<Series>, Gap> {
        let since = |range: Duration| to.saturating_sub(whole(range));
        let series = match &parse(query) {
            Ok(Expr::MatrixSelector(MatrixSelector { vs, range })) => {
                let window = (Bound::Excluded(since(*range)), Bound::Included(to));
                self.all(vs, |samples| {
                    let samples = samples.range(window);
                    samples
                        .map(|(at, value)| (*at, Sample { at: *at, value: *value }))
                        .collect()
                })
            }
            Ok(Expr::Subquery(SubqueryExpr {
                expr,
                range,
                step: Some(step),
                ..
            })) if let Expr::VectorSelector(selector) = &**expr
                && whole(*step) > 0 =>
            {
                let step = whole(*step);
                let looks = since(*range).div_euclid(step) + 1..=to.div_euclid(step);
                self.all(selector, |samples| {
                    let looks = looks.clone().map(|look| look * step);
                    looks.filter_map(|look| newest(samples, look)).collect()
                })
            }
            _ => {
                return Err(gap(
                    GapKind::QueryError,
                    "a recording answers range selectors and subqueries of selectors alone",
                ));
            }
        };
        Ok(series)
    }

    /// The series that a selector chooses, with what is taken of each, where that is anything.
    fn all(&self, selector: &VectorSelector, take: impl Fn(&BTreeMap<i64, f64>) -> Vec<(i64, Sample)>) -> Vec<Series> {
        let known = selector.name.as_ref().and_then(|name| self.series.get(name));
        let fits = |labels: &Labels| {
            let value = |name: &str| labels.get(name).map_or("", String::as_str);
            let mut matchers = selector.matchers.matchers.iter();
            matchers.all(|matcher| matcher.is_match(value(&matcher.name)))
        };
        let series = known.into_iter().flatten().filter(|(labels, _)| fits(labels));
        let taken = series.map(|(labels, samples)| {
            let (natives, taken) = (self.natives.get(labels), take(samples));
            let native = |(from, sample): &(i64, Sample)| Some((sample.at, natives?.get(from)?.clone()));
            Series {
                labels: labels.clone(),
                natives: taken.iter().filter_map(native).collect(),
                samples: taken.into_iter().map(|(_, sample)| sample).collect(),
            }
        });
        taken.filter(|series| !series.samples.is_empty()).collect()
    }
}

/// For so long Prometheus takes a sample for a series' value, milliseconds: its default
/// `--query.lookback-delta`.
const LOOKBACK: i64 = 300_000;

/// A series' value at a time, with the time that it is of.
fn newest(samples: &BTreeMap<i64, f64>, at: i64) -> Option<(i64, Sample)> {
    let window = (Bound::Excluded(at - LOOKBACK), Bound::Included(at));
    let (from, value) = samples.range(window).next_back()?;
    Some((*from, Sample { at, value: *value }))
}

/// A native histogram as Prometheus writes it. Which of its edges belong to a bucket is not kept: they
/// are all told alike.
fn observed(count: &str, Native(buckets): &Native) -> String {
    let bucket = |[lower, upper, count]: &[f64; 3]| {
        let [lower, upper, count] = [lower, upper, count].map(|value| written(*value));
        format!("[0,\"{lower}\",\"{upper}\",\"{count}\"]")
    };
    let buckets: Vec<String> = buckets.iter().map(bucket).collect();
    format!("{{\"count\":\"{count}\",\"buckets\":[{}]}}", buckets.join(","))
}

fn whole(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// One line of the text format: name, labels, value, timestamp; an exemplar behind it is left out.
fn exposed(line: &str) -> Result<(Labels, Sample), String> {
    let accepted = "accepted is NAME{LABEL=\"VALUE\"} VALUE TIMESTAMP";
    let open = line.find('{').filter(|open| !line[..*open].contains(' '));
    let (name, mut labels, rest) = if let Some(open) = open {
        let (labels, rest) =
            braced(&line[open + 1..]).ok_or_else(|| format!("its labels cannot be read; {accepted}"))?;
        (&line[..open], labels, rest)
    } else {
        let (name, rest) = line
            .split_once(' ')
            .ok_or_else(|| format!("it has no value; {accepted}"))?;
        (name, Labels::new(), rest)
    };
    if !name.is_empty() {
        labels.insert("__name__".to_owned(), name.to_owned());
    }
    if !labels.contains_key("__name__") {
        return Err(format!("it has no name; {accepted}"));
    }
    let mut numbers = rest.split(" # ").next().unwrap_or_default().split_whitespace();
    let value = numbers.next().unwrap_or_default();
    let value: f64 = value
        .parse()
        .map_err(|_| format!("{value:?} is no value; {accepted}"))?;
    let at = numbers
        .next()
        .ok_or_else(|| format!("it has no timestamp; {accepted}"))?;
    let time: f64 = at.parse().map_err(|_| format!("{at:?} is no timestamp; {accepted}"))?;
    if !time.is_finite() || numbers.next().is_some() {
        return Err(accepted.to_owned());
    }
    let at = if time.abs() > MILLISECONDS {
        millis(time / 1000.0)
    } else {
        millis(time)
    };
    Ok((labels, Sample { at, value }))
}

/// Labels up to the closing brace, and what follows it.
fn braced(text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim().to_owned(), value);
        rest = after.get(end + 1..)?.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn written(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"# TYPE http_requests counter
http_requests_total{pod="a",path="/x\"y\\z"} 10 1795276960.5
http_requests_total{pod="a",path="/x\"y\\z"} 12 1795276965.5 # {trace_id="1"} 1
http_requests_total{pod="b"} 5 1795276960.500
up 1 1795276960.5
# EOF
"#;

    fn ask(recording: &Recording, query: &str, to: i64) -> Vec<Vec<(i64, f64)>> {
        let series = recording.answer(query, to).expect("an answer");
        let pairs = |series: Series| {
            series
                .samples
                .iter()
                .map(|sample| (sample.at - 1_795_276_960_000, sample.value))
                .collect()
        };
        series.into_iter().map(pairs).collect()
    }

    #[test]
    fn a_recording_answers_range_selectors_as_prometheus_does() {
        let recording = Recording::read(TEXT).expect("a recording");
        let t0 = 1_795_276_960_000;
        for (query, to, expected) in [
            ("http_requests_total[5s]", t0 + 5_500, vec![vec![(5_500, 12.0)]]),
            (
                "http_requests_total[6s]",
                t0 + 5_500,
                vec![vec![(500, 10.0), (5_500, 12.0)], vec![(500, 5.0)]],
            ),
            (
                r#"http_requests_total{pod=~"b|c"}[1m]"#,
                t0 + 5_500,
                vec![vec![(500, 5.0)]],
            ),
            (
                r#"http_requests_total{pod!="b"}[1m]"#,
                t0 + 500,
                vec![vec![(500, 10.0)]],
            ),
            ("http_requests_total[1m]", t0, vec![]),
            // whole minutes alone, each with the newest value of the five minutes before it
            (
                r#"http_requests_total{pod="b"}[2m:60s]"#,
                t0 + 85_000,
                vec![vec![(20_000, 5.0), (80_000, 5.0)]],
            ),
            (r#"http_requests_total{pod="b"}[1m:60s]"#, t0 + 320_000, vec![]),
            ("nothing[1m]", t0 + 5_500, vec![]),
        ] {
            assert_eq!(ask(&recording, query, to), expected, "{query}");
        }
        assert!(recording.answer("rate(up[1m])", t0).is_err());
    }

    #[test]
    fn a_recording_is_written_as_it_was_read() {
        let recording = Recording::read(TEXT).expect("a recording");
        let text = recording.text();
        assert_eq!(Recording::read(&text).as_ref(), Ok(&recording), "{text}");
        assert!(text.ends_with("# EOF\n"));
        let body = recording.answer_body();
        assert_eq!(Recording::read(&body), Ok(recording), "{body}");
    }

    #[test]
    fn answers_of_prometheus_are_read_one_or_many() {
        let answer = |pod: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"__name__":"up","pod":"{pod}"}},"values":[[1795276960.5,"1"]]}}]}}}}"#
            )
        };
        let one = format!("up{{pod=\"{}\"}} 1 1795276960.5", "a");
        let text = Recording::read(&format!("{one}\nup{{pod=\"b\"}} 1 1795276960500\n")).expect("text");
        for many in [
            format!("{}\n{}", answer("a"), answer("b")),
            format!("[{},{}]", answer("a"), answer("b")),
            format!("{}{}{}", answer("a"), answer("b"), answer("a")),
        ] {
            assert_eq!(Recording::read(&many).as_ref(), Ok(&text), "{many}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, said) in [
            ("up{a=\"1\"} 1", "line 1: it has no timestamp"),
            ("\nup one 1", "line 2: \"one\" is no value"),
            ("up{a=1} 1 1", "line 1: its labels"),
            ("{a=\"1\"} 1 1", "answer 1"),
            ("# EOF\n", "no sample"),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                "answer 1",
            ),
            ("up 1 5\nup 2 5", "two values"),
        ] {
            let error = Recording::read(text).expect_err(text).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = Recording::read(&text);
        }

        #[test]
        fn near_lines_never_panic(name in "[a-z{]{0,6}", label in "[a-z=\"\\\\,}]{0,12}", rest in "[ 0-9.eE+#-]{0,20}") {
            let _ = Recording::read(&format!("{name}{{{label}}} {rest}"));
        }

        #[test]
        fn any_label_survives_being_written(value in any::<String>()) {
            let mut recording = Recording::default();
            recording.note("up", &[("a", &value)], Millis(1_795_276_960_123), 0.1).expect("one");
            prop_assert_eq!(Recording::read(&recording.text()), Ok(recording));
        }
    }
}
