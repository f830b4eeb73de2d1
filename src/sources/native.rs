//! Native histograms: exponential buckets, of which a server tells those that are not empty.
//!
//! Where a classic histogram has a series for each edge, a native one has buckets in every sample,
//! `2^(1/2^s)` apart, s being its schema: 9 % at schema 3. Every edge of a schema is one of all finer
//! schemas, so histograms of different schemas are told alike at the edges of the coarsest one.
//! An edge that is asked for is moved up to the next of these, for both arms at the same time.

use std::collections::BTreeMap;

use libm::{ceil, exp2, fabs, log2, round};

use super::counter::{growth, is_count};
use super::edges::{Edge, pick};
use super::memory::Track;
use super::metric::Tails;
use super::reply::{Sample, gap};
use super::tally::{Count, Frame, Sides, add, doubted};
use crate::decision::{Gap, GapKind};

/// By how much two spellings of the same edge may differ, relatively: they are powers of two that are
/// computed.
const SAME: f64 = 1e-9;
/// Schemas that exist.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// The buckets of one sample: lower edge, upper edge, and how many lie between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Native(pub(super) Vec<[f64; 3]>);

/// Buckets by the time of their sample.
pub(super) type Natives = BTreeMap<i64, Native>;

impl Native {
    /// The schema that its buckets have; none when nothing above zero was observed.
    fn schema(&self) -> Result<Option<i32>, Gap> {
        let mut found = None;
        for [lower, upper, _] in self
            .0
            .iter()
            .filter(|[lower, upper, _]| *lower > 0.0 && upper.is_finite())
        {
            let exact = -log2(log2(upper / lower));
            let schema = round(exact);
            #[expect(clippy::cast_possible_truncation, reason = "compared with what exists")]
            let whole = schema as i32;
            let fits = fabs(exact - schema) < 1e-6 && SCHEMAS.contains(&whole);
            if !fits || found.is_some_and(|found| found != whole) {
                let detail = "its buckets are not exponential; name it without native, by its classic buckets";
                return Err(gap(GapKind::QueryError, detail));
            }
            found = Some(whole);
        }
        Ok(found)
    }

    /// How many lie above an edge; nothing when a bucket lies around it.
    fn above(&self, edge: f64) -> Option<f64> {
        let slack = SAME * fabs(edge);
        let around = |[lower, upper, _]: &[f64; 3]| *lower < edge - slack && *upper > edge + slack;
        if self.0.iter().any(around) {
            return None;
        }
        let above = self.0.iter().filter(|[lower, ..]| *lower >= edge - slack);
        Some(above.map(|[_, _, count]| count).sum())
    }
}

/// The coarsest schema of all samples of these series that are not older than a time; the finest that
/// exists when nothing says.
fn coarsest<'a>(tracks: impl Iterator<Item = &'a Track>, since: i64) -> Result<i32, Gap> {
    let mut schema = *SCHEMAS.end();
    for track in tracks {
        // the sample before is what is counted from
        let base = track.natives.range(..=since).next_back();
        let newer = track.natives.range(since + 1..);
        for (_, native) in base.into_iter().chain(newer) {
            schema = schema.min(native.schema()?.unwrap_or(schema));
        }
    }
    Ok(schema)
}

/// The next edge of a schema, at or above one that is asked for.
fn moved(edge: f64, schema: i32) -> f64 {
    if edge <= 0.0 {
        return edge;
    }
    let steps = exp2(f64::from(schema));
    let place = ceil(log2(edge) * steps - SAME);
    exp2(place / steps)
}

/// Chooses edges as of a classic histogram: from the baseline's buckets since its processes began.
pub(super) fn choose(baseline: &[&Track], quantile: Option<f64>, around: bool) -> Option<Vec<f64>> {
    let schema = coarsest(baseline.iter().copied(), i64::MAX - 1).ok()?;
    let mut counts: BTreeMap<Edge, f64> = BTreeMap::new();
    for track in baseline {
        let newest = track.samples.last().filter(|sample| is_count(sample.value))?;
        let native = track.natives.get(&newest.at)?;
        let mut told = 0.0;
        for [_, upper, count] in &native.0 {
            *counts.entry(Edge(moved(*upper, schema))).or_default() += count;
            told += count;
        }
        *counts.entry(Edge(f64::INFINITY)).or_default() += (newest.value - told).max(0.0);
    }
    let mut below = 0.0;
    let cumulative = counts.into_iter().map(|(edge, count)| {
        below += count;
        (edge, below)
    });
    pick(&cumulative.collect(), quantile, around)
}

impl Frame<'_> {
    /// The schema at whose edges both arms are told alike in this tick.
    pub(super) fn schema(&self, sides: &Sides<'_>) -> Result<i32, Gap> {
        let tracks = || sides.baseline.iter().chain(&sides.canary).copied();
        let since = tracks().map(|track| self.span(track).from).min();
        coarsest(tracks(), since.unwrap_or(self.to))
    }

    /// Requests above each edge of native histograms, at the edges of a schema.
    pub(super) fn native_tails(&self, tails: &Tails, tracks: &[&Track], schema: i32) -> Result<Count, Gap> {
        let edges = tails.edges.as_deref().unwrap_or_default();
        let mut count = Count::default();
        for track in tracks {
            let name = track.label("__name__");
            if let Some(plain) = track
                .samples
                .iter()
                .find(|sample| !track.natives.contains_key(&sample.at))
            {
                let detail = format!(
                    "{name} is no native histogram (its sample at {} ms has no buckets)",
                    plain.at
                );
                return Err(gap(GapKind::QueryError, &detail));
            }
            let grown = self.total(track)?;
            count.based |= grown.based;
            let arm = count.arm(self.place(tails.identity, track), edges.len());
            arm.total += grown.by;
            for (tail, edge) in edges.iter().enumerate() {
                let above = self.above(track, moved(*edge, schema))?;
                if above > grown.by {
                    let detail = format!("the buckets of {name} count more than its total");
                    return Err(gap(GapKind::NotACount, &detail));
                }
                add(arm, tail, above);
            }
        }
        Ok(count)
    }

    /// How much what lies above an edge rose: a counter like any other, that falls when the histogram
    /// begins anew.
    fn above(&self, track: &Track, edge: f64) -> Result<f64, Gap> {
        let sample = |sample: &Sample| {
            let native = track.natives.get(&sample.at)?;
            let value = if is_count(sample.value) {
                native.above(edge)?
            } else {
                sample.value
            };
            Some(Sample { at: sample.at, value })
        };
        let from = self.span(track).from;
        let first = track
            .samples
            .partition_point(|sample| sample.at <= from)
            .saturating_sub(1);
        let counted = track.samples.iter().skip(first);
        let samples: Option<Vec<Sample>> = counted.map(sample).collect();
        let samples = samples.ok_or_else(|| {
            let detail = format!("{edge} is no edge of {}", track.label("__name__"));
            gap(GapKind::QueryError, &detail)
        })?;
        let risen = growth(&samples, self.span(track), self.origin(track));
        risen.map(|grown| grown.by).map_err(|doubt| doubted(track, doubt))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may panic")]
    use super::*;
    use crate::decision::{Arm, Evidence};
    use crate::sources::reply::decode;
    use crate::sources::stand_in::{Held, StandIn, gate, kinds, only};
    use crate::sources::{Answer, HistogramSpec, MetricQuery, Recording};

    /// What Prometheus 3 answers to `pay_seconds{namespace="shop"}[12s]`: 16 more each five seconds of
    /// stable, at schema 3; five of the canary, at schema 1.
    const ANSWER: &str = include_str!("recordings/prometheus-3-native.json");
    /// Its newest sample, in seconds since 1970.
    const END: i64 = 1_795_327_410;

    fn query(edges: Option<Vec<f64>>) -> MetricQuery {
        let spec = HistogramSpec {
            selector: Some("pay_seconds".to_owned()),
            native: true,
            edges,
            ..HistogramSpec::default()
        };
        MetricQuery {
            name: "pay".to_owned(),
            measure: spec.measure().expect("a histogram"),
        }
    }

    type Tweak = fn(&mut serde_json::Value);

    /// What the tick that ends with the newest sample says, when the server's answer is changed so.
    async fn after(edges: Option<Vec<f64>>, tweak: Tweak) -> Answer {
        let server = StandIn::start().await;
        let mut body: serde_json::Value = serde_json::from_str(ANSWER).expect("JSON");
        tweak(&mut body);
        let moved = crate::sources::stand_in::T0 - END;
        for row in body["data"]["result"].as_array_mut().expect("rows") {
            for field in ["histograms", "values"] {
                for sample in row
                    .get_mut(field)
                    .and_then(|samples| samples.as_array_mut())
                    .into_iter()
                    .flatten()
                {
                    sample[0] = serde_json::json!(sample[0].as_i64().expect("seconds") + moved);
                }
            }
        }
        let body = body.to_string();
        server.with(|held: &mut Held| {
            held.instead = Some(std::sync::Arc::new(move |query| {
                let answer = if query.starts_with("pay_seconds{") {
                    body.clone()
                } else {
                    r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_owned()
                };
                Some(wiremock::ResponseTemplate::new(200).set_body_raw(answer, "application/json"))
            }));
        });
        let gates = [gate("shop", "checkout", vec![query(edges)])];
        only(&mut server.plane(), server.now(0), &gates).await
    }

    fn tails(events: &[f64], total: f64) -> Arm {
        Arm {
            events: events.to_vec(),
            total,
        }
    }

    fn set(body: &mut serde_json::Value, row: usize, sample: usize, value: serde_json::Value) {
        body["data"]["result"][row]["histograms"][sample][1] = value;
    }

    #[tokio::test]
    async fn both_arms_are_told_at_the_edges_of_the_coarser_schema() {
        type Case = (&'static str, Vec<f64>, Tweak, Result<(Arm, Arm), GapKind>);
        let cases: [Case; 7] = [
            (
                "an edge of both",
                vec![0.125],
                |_| {},
                Ok((tails(&[8.0], 10.0), tails(&[2.0], 32.0))),
            ),
            (
                "edges that are moved up to those of the canary: 0.125 and 0.177",
                vec![0.11, 0.13],
                |_| {},
                Ok((tails(&[8.0, 4.0], 10.0), tails(&[2.0, 0.0], 32.0))),
            ),
            (
                "one below everything but what is zero",
                vec![0.05],
                |_| {},
                Ok((tails(&[10.0], 10.0), tails(&[30.0], 32.0))),
            ),
            (
                "a histogram that begins anew, and nobody proves it",
                vec![0.125],
                |body| {
                    let small = serde_json::json!({"count": "1", "sum": "1", "buckets": [[0, "0.125", "0.17677669529663687", "1"]]});
                    set(body, 1, 2, small);
                },
                Err(GapKind::ResetUnproven),
            ),
            (
                "a zero bucket around the edge",
                vec![0.125],
                |body| {
                    let wide = serde_json::json!({"count": "60", "sum": "1", "buckets": [[3, "-0.2", "0.2", "60"]]});
                    set(body, 1, 2, wide);
                },
                Err(GapKind::QueryError),
            ),
            (
                "buckets that are not exponential",
                vec![0.125],
                |body| {
                    let own = serde_json::json!({"count": "60", "sum": "1", "buckets": [[0, "0.1", "0.13", "60"]]});
                    set(body, 1, 2, own);
                },
                Err(GapKind::QueryError),
            ),
            (
                "a counter by the same name",
                vec![0.125],
                |body| {
                    let row = &mut body["data"]["result"][1];
                    row["histograms"].take();
                    row["histograms"] = serde_json::json!([]);
                    row["values"] = serde_json::json!([[END - 10, "3"], [END - 5, "4"], [END, "5"]]);
                },
                Err(GapKind::QueryError),
            ),
        ];
        for (name, edges, tweak, wanted) in cases {
            let answer = after(Some(edges), tweak).await;
            match (&answer.evidence, &wanted) {
                (Evidence::Complete(tick), Ok((canary, baseline))) => {
                    assert_eq!((&tick.canary, &tick.baseline), (canary, baseline), "{name}");
                    assert_eq!(tick.baseline_pods, std::slice::from_ref(baseline), "{name}");
                }
                (_, Err(kind)) => assert_eq!(kinds(&answer), [*kind], "{name}"),
                (evidence, Ok(_)) => panic!("{name}: {evidence:?}"),
            }
        }
    }

    #[tokio::test]
    async fn edges_are_chosen_from_the_baseline_and_are_edges_of_its_schema() {
        let answer = after(None, |_| {}).await;
        assert_eq!(kinds(&answer), [GapKind::ShortWindow]);
        let edges = answer.edges.expect("chosen");
        // of 172 requests 52, 136, 158 and 169 lie at or below these edges
        let wanted = [0.105_112, 0.125, 0.136_313];
        assert!(
            edges.len() == 3
                && edges
                    .iter()
                    .zip(wanted)
                    .all(|(edge, wanted)| (edge - wanted).abs() < 1e-5),
            "{edges:?}"
        );
    }

    #[test]
    fn a_recording_answers_with_the_buckets_that_it_was_given() {
        let recording = Recording::read(ANSWER).expect("an answer");
        let again = Recording::read(&recording.answer_body()).expect("an answer");
        assert_eq!(again, recording);
        let query = r#"pay_seconds{namespace="shop"}[12s]"#;
        let mut held = recording.answer(query, END * 1000).expect("series");
        let mut given = decode(200, ANSWER.as_bytes()).expect("series");
        for series in [&mut held, &mut given] {
            series.sort_by(|one, other| one.labels.cmp(&other.labels));
        }
        assert_eq!(held, given);
        let minutely = recording
            .answer(r#"pay_seconds{namespace="shop"}[60s:60s]"#, END * 1000 + 30_000)
            .expect("series");
        let series = minutely.first().expect("one");
        assert_eq!(series.samples.len(), 1);
        assert!(series.natives.contains_key(&series.samples.first().expect("one").at));
        assert!(!recording.is_text());
    }

    #[test]
    fn edges_move_up_to_the_next_of_a_schema_and_stay_where_they_are_one() {
        for (edge, schema, wanted) in [
            (0.125, 3, 0.125),
            (0.125, -1, 0.25),
            (0.13, 0, 0.25),
            (0.13, 3, 0.136_313_466_583_157_2),
            (0.136_313_466_583_157_2, 3, 0.136_313_466_583_157_2),
            (1.0, 8, 1.0),
            (0.0, 3, 0.0),
        ] {
            assert!((moved(edge, schema) - wanted).abs() < 1e-12, "{edge} at {schema}");
        }
    }

    fn spec(preset: Option<crate::sources::HistogramPreset>, selector: Option<&str>) -> HistogramSpec {
        HistogramSpec {
            preset,
            selector: selector.map(str::to_owned),
            native: true,
            ..HistogramSpec::default()
        }
    }

    #[test]
    fn native_histograms_are_asked_for_by_their_own_name() {
        use crate::sources::HistogramPreset;
        let of = |spec: HistogramSpec| {
            spec.measure()
                .map(|measure| measure.questions().first().map(|(_, series)| series.to_string()))
        };
        assert_eq!(of(spec(None, Some("pay_seconds"))), Ok(Some("pay_seconds".to_owned())));
        let preset = spec(Some(HistogramPreset::HttpDuration), None);
        assert_eq!(of(preset), Ok(Some("http_request_duration_seconds".to_owned())));
        let gateway = of(spec(Some(HistogramPreset::GatewayDuration), None)).expect_err("refused");
        assert!(gateway.to_string().starts_with("histogram.native:"), "{gateway}");
    }
}
