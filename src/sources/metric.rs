//! What a team writes about a metric: a preset, or selectors of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::ConnectionSpec;
use super::count::Events;
use super::edges::USUAL;
use super::gauge::Gauge;
use super::selector::{Selector, SelectorError};

/// A share of requests: bad ones out of all. Give a preset, or `total` and one of `bad` and `good`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.preset) ? !has(self.bad) && !has(self.good) && !has(self.total) : has(self.total) && has(self.bad) != has(self.good)",
    "message": "give either a preset, or total and one of bad and good"
}]))]
pub struct RatioSpec {
    /// A ratio that is known by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<RatioPreset>,
    /// Counter of the bad ones, as a plain selector: `orders_failed_total{kind="card"}`.
    /// Namespace and pod are matched by Tollgate. A series that does not exist counts as zero,
    /// so make sure that its name is spelt as the application spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub bad: Option<String>,
    /// Counter of the good ones instead, where success is what is counted:
    /// `orders_completed_total` of `checkouts_total`. All others are bad. Where less than half of
    /// stable's requests are good, it is the good ones that are compared, and margins speak of
    /// them: 10% tolerates a tenth fewer. Margins are at most 90%. Without any series of stable's
    /// the evidence is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub good: Option<String>,
    /// Counter of all of them, good and bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub total: Option<String>,
}

/// Ratios that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RatioPreset {
    /// Answers of class 5xx, counted by the gateway (Traefik) per backend service.
    GatewayErrors,
    /// Answers of class 5xx, counted by the application itself as `http_requests_total` with the
    /// label `code`, per pod.
    HttpErrors,
}

/// A distribution of durations or sizes, judged by the share of requests above an edge.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.preset) != has(self.selector)", "message": "give either a preset or a selector"},
    {"rule": "!(has(self.quantile) && has(self.edges))", "message": "give quantile or edges, not both"},
    {"rule": "!has(self.native) || !self.native || !has(self.preset) || self.preset != 'gateway-duration'",
     "message": "the gateway tells classic buckets only: leave native out"}
]))]
pub struct HistogramSpec {
    /// A histogram that is known by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<HistogramPreset>,
    /// A histogram as a plain selector without the ending `_bucket`:
    /// `checkout_seconds{path="/pay"}`. Namespace and pod are matched by Tollgate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
    /// The baseline's quantile that matters: the bucket edge nearest to it is judged. Without
    /// it, and without edges, the edges nearest to the median, p90 and p99 are judged together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 0.9999))]
    pub quantile: Option<f64>,
    /// Bucket edges to judge, in the histogram's unit, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    pub edges: Option<Vec<f64>>,
    /// Whether it is a native histogram: its buckets come with every sample, and no series ends in
    /// `_bucket`. Edges are moved up to the next ones of the coarsest schema of both arms. Default:
    /// false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub native: bool,
}

/// Histograms that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HistogramPreset {
    /// Duration of requests in seconds, measured by the gateway (Traefik) per backend service.
    GatewayDuration,
    /// Duration of requests in seconds, measured by the application itself as
    /// `http_request_duration_seconds`, per pod.
    HttpDuration,
}

/// Why a metric cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The fields do not go together.
    #[error("{field}: {why}")]
    Field {
        /// The field, from the metric's point of view.
        field: &'static str,
        /// What would be accepted.
        why: String,
    },
    /// A selector is refused.
    #[error("{field}: {error}")]
    Selector {
        /// The field, from the metric's point of view.
        field: &'static str,
        /// Why.
        error: SelectorError,
    },
}

/// How series are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Identity {
    /// By the pod that counted.
    Pod,
    /// By the pod that is told about, by an exporter that counts from its own start on.
    Exporter,
    /// By the pod that is told about, by an exporter that reads counters which outlive it.
    Lasting,
    /// By the backend service as Traefik's Gateway API source names it.
    Traefik,
}

impl Identity {
    /// Every one.
    pub(super) const ALL: [Self; 4] = [Self::Pod, Self::Exporter, Self::Lasting, Self::Traefik];

    /// Whether series name pods, so that these are told apart.
    pub(super) const fn names_pods(self) -> bool {
        matches!(self, Self::Pod | Self::Exporter | Self::Lasting)
    }

    /// Whether what is scraped tells of all its pods in each scrape.
    pub(super) const fn is_exporter(self) -> bool {
        matches!(self, Self::Exporter | Self::Lasting)
    }

    /// Whether its counters begin anew with the process that is scraped.
    pub(super) const fn restarts(self) -> bool {
        !matches!(self, Self::Lasting)
    }
}

/// What is counted.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// Bad requests out of all requests.
    Ratio(Ratio),
    /// Requests above edges out of all requests.
    Tails(Tails),
    /// Events over the time that pods were seen.
    Count(Events),
    /// What pods have.
    Gauge(Gauge),
}

impl Measure {
    /// How its series are told apart.
    pub(super) const fn identity(&self) -> Identity {
        match self {
            Self::Ratio(ratio) => ratio.identity,
            Self::Tails(tails) => tails.identity,
            Self::Count(events) => events.identity,
            Self::Gauge(gauge) => gauge.identity,
        }
    }

    /// What is asked for, each with the field that says so: what counts requests first.
    pub(super) fn questions(&self) -> Vec<(&'static str, &Selector)> {
        match self {
            Self::Ratio(ratio) => {
                let name = if ratio.good { "ratio.good" } else { "ratio.bad" };
                let part = ratio.part.iter().map(|part| (name, part));
                std::iter::once(("ratio.total", &ratio.total)).chain(part).collect()
            }
            Self::Tails(tails) => vec![("histogram.selector", &tails.buckets)],
            Self::Count(events) => vec![("count.events", &events.counter)],
            Self::Gauge(gauge) => vec![("gauge.selector", &gauge.level)],
        }
    }

    /// How many event counts every tick carries: none while edges are still to be chosen.
    pub(super) fn tails(&self) -> usize {
        match self {
            Self::Ratio(_) | Self::Count(_) | Self::Gauge(_) => 1,
            Self::Tails(tails) => tails.edges.as_ref().map_or(0, Vec::len),
        }
    }

    /// Whether every event is one of the requests that are counted beside it.
    pub(super) const fn has_shares(&self) -> bool {
        !matches!(self, Self::Count(_) | Self::Gauge(_))
    }

    /// Whether the time before a release tells how it varies.
    pub(super) fn has_past(&self) -> bool {
        self.identity().names_pods() && self.tails() > 0 && !matches!(self, Self::Gauge(_))
    }
}

/// A ratio, ready to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ratio {
    pub(super) identity: Identity,
    pub(super) total: Selector,
    /// The bad ones, or the good ones, by a selector of their own; else the bad ones are those of
    /// `total` whose `code` is 5xx.
    pub(super) part: Option<Selector>,
    /// Whether `part` counts good ones: all others are bad.
    pub(super) good: bool,
}

impl Ratio {
    /// Whether success is what is counted, so that it need not be the rule.
    #[must_use]
    pub const fn counts_good(&self) -> bool {
        self.good
    }
}

/// A histogram, ready to be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Tails {
    pub(super) identity: Identity,
    pub(super) buckets: Selector,
    /// Whether buckets come with every sample.
    pub(super) native: bool,
    pub(super) quantile: Option<f64>,
    /// Edges in rising order; chosen by the plane from the baseline when there are none yet.
    pub edges: Option<Vec<f64>>,
    /// Whether the edges around the quantile are wanted as well, to estimate it.
    pub(super) around: bool,
}

/// One metric of a gate, ready to be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricQuery {
    /// The metric's name in the gate.
    pub name: String,
    /// What is counted.
    pub measure: Measure,
}

impl MetricQuery {
    /// Checks the metric against the labels that queries to this server match by themselves.
    ///
    /// # Errors
    /// [`SpecError`] naming the label that the user's selector may not match.
    pub fn check(&self, connection: &ConnectionSpec) -> Result<(), SpecError> {
        let ours = [connection.namespace_label.as_str(), connection.pod_label.as_str()];
        for (name, selector) in self.measure.questions() {
            if let Some(label) = selector.compares(&ours) {
                let why = format!("the label {label} is matched by Tollgate itself, leave it out");
                return Err(field(name, &why));
            }
        }
        Ok(())
    }
}

impl RatioSpec {
    /// Reads the spec.
    ///
    /// # Errors
    /// [`SpecError`] naming the field.
    pub fn measure(&self) -> Result<Measure, SpecError> {
        let by = |identity, metric| Ratio {
            identity,
            total: Selector::of(metric),
            part: None,
            good: false,
        };
        let of_own = |name, part: &str, total: &str| {
            Ok(Measure::Ratio(Ratio {
                identity: Identity::Pod,
                total: selector("ratio.total", total)?,
                part: Some(selector(name, part)?),
                good: name == "ratio.good",
            }))
        };
        match (self.preset, &self.bad, &self.good, &self.total) {
            (Some(RatioPreset::GatewayErrors), None, None, None) => {
                Ok(Measure::Ratio(by(Identity::Traefik, "traefik_service_requests_total")))
            }
            (Some(RatioPreset::HttpErrors), None, None, None) => {
                Ok(Measure::Ratio(by(Identity::Pod, "http_requests_total")))
            }
            (None, Some(bad), None, Some(total)) => of_own("ratio.bad", bad, total),
            (None, None, Some(good), Some(total)) => of_own("ratio.good", good, total),
            _ => Err(field("ratio", "either a preset, or total and one of bad and good")),
        }
    }
}

impl HistogramSpec {
    /// Reads the spec.
    ///
    /// # Errors
    /// [`SpecError`] naming the field.
    pub fn measure(&self) -> Result<Measure, SpecError> {
        let (identity, buckets) = match (self.preset, &self.selector) {
            (Some(HistogramPreset::GatewayDuration), None) if self.native => {
                return Err(field(
                    "histogram.native",
                    "the gateway tells classic buckets only: leave it out",
                ));
            }
            (Some(HistogramPreset::GatewayDuration), None) => (
                Identity::Traefik,
                Selector::of("traefik_service_request_duration_seconds_bucket"),
            ),
            (Some(HistogramPreset::HttpDuration), None) => {
                let base = Selector::of("http_request_duration_seconds");
                (Identity::Pod, self.of(base))
            }
            (None, Some(base)) => {
                let base = selector("histogram.selector", base)?;
                if base.compares(&["le"]).is_some() {
                    return Err(field(
                        "histogram.selector",
                        "le is matched by Tollgate, name edges instead",
                    ));
                }
                if base.metric().ends_with("_bucket") {
                    return Err(field("histogram.selector", "write the name without its ending _bucket"));
                }
                (Identity::Pod, self.of(base))
            }
            _ => return Err(field("histogram", "either a preset or a selector")),
        };
        if let Some(quantile) = self.quantile
            && !(quantile > 0.0 && quantile < 1.0)
        {
            return Err(field("histogram.quantile", "a number between 0 and 1 is accepted"));
        }
        let edges = self.edges.as_deref().map(edges).transpose()?;
        if edges.is_some() && self.quantile.is_some() {
            return Err(field("histogram", "quantile or edges, not both"));
        }
        Ok(Measure::Tails(Tails {
            identity,
            buckets,
            native: self.native,
            quantile: self.quantile,
            edges,
            around: false,
        }))
    }
}

impl HistogramSpec {
    /// The series that hold its buckets.
    fn of(&self, base: Selector) -> Selector {
        if self.native { base } else { base.with_ending("_bucket") }
    }
}

/// Edges in rising order, each once.
fn edges(given: &[f64]) -> Result<Vec<f64>, SpecError> {
    if given.is_empty() || given.len() > 5 || given.iter().any(|edge| !edge.is_finite()) {
        return Err(field("histogram.edges", "one to five finite numbers are accepted"));
    }
    let mut sorted = given.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    Ok(sorted)
}

pub(super) fn selector(field: &'static str, text: &str) -> Result<Selector, SpecError> {
    Selector::parse(text).map_err(|error| SpecError::Selector { field, error })
}

pub(super) fn field(field: &'static str, why: &str) -> SpecError {
    SpecError::Field {
        field,
        why: why.to_owned(),
    }
}

impl Tails {
    /// How many edges are judged: those that are named, the one nearest to a quantile that is
    /// named, or those nearest to the median, p90 and p99. At least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        match (&self.edges, self.quantile) {
            (Some(edges), _) => edges.len().max(1),
            (None, Some(_)) => 1,
            (None, None) => USUAL.len(),
        }
    }

    /// The same histogram with the edges around its quantile: they are chosen together with the
    /// edge that is judged, and follow it, in rising order.
    #[must_use]
    pub fn with_surroundings(self) -> Self {
        Self { around: true, ..self }
    }

    /// The quantile that matters, where one was named.
    #[must_use]
    pub const fn quantile(&self) -> Option<f64> {
        self.quantile
    }

    /// The same histogram, judged at these edges.
    #[must_use]
    pub fn at(self, edges: Vec<f64>) -> Self {
        Self {
            edges: Some(edges),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_that_cannot_be_asked_for_are_refused_by_field() {
        let selector = |text: &str| HistogramSpec {
            selector: Some(text.to_owned()),
            ..HistogramSpec::default()
        };
        let ratio = |preset, bad: Option<&str>, total: Option<&str>| RatioSpec {
            preset,
            bad: bad.map(str::to_owned),
            good: None,
            total: total.map(str::to_owned),
        };
        let good = |spec: RatioSpec, good: &str| RatioSpec {
            good: Some(good.to_owned()),
            ..spec
        };
        let preset = Some(RatioPreset::HttpErrors);
        for (measure, field) in [
            (ratio(None, None, None).measure(), "ratio:"),
            (ratio(None, Some("a_total"), None).measure(), "ratio:"),
            (ratio(preset, Some("a_total"), Some("b_total")).measure(), "ratio:"),
            (good(ratio(None, None, None), "a_total").measure(), "ratio:"),
            (
                good(ratio(None, Some("a_total"), Some("b_total")), "a_total").measure(),
                "ratio:",
            ),
            (good(ratio(preset, None, None), "a_total").measure(), "ratio:"),
            (
                good(ratio(None, None, Some("b_total")), "rate(a[5m])").measure(),
                "ratio.good",
            ),
            (ratio(None, Some("rate(a[5m])"), Some("b_total")).measure(), "ratio.bad"),
            (ratio(None, Some("a_total"), Some("{a=\"b\"}")).measure(), "ratio.total"),
            (HistogramSpec::default().measure(), "histogram:"),
            (selector("x_seconds_bucket").measure(), "histogram.selector"),
            (selector("x_seconds{le=\"1\"}").measure(), "histogram.selector"),
            (
                HistogramSpec {
                    quantile: Some(1.0),
                    ..selector("x_seconds")
                }
                .measure(),
                "histogram.quantile",
            ),
            (
                HistogramSpec {
                    edges: Some(vec![f64::NAN]),
                    ..selector("x_seconds")
                }
                .measure(),
                "histogram.edges",
            ),
            (
                HistogramSpec {
                    edges: Some(vec![]),
                    ..selector("x_seconds")
                }
                .measure(),
                "histogram.edges",
            ),
            (
                HistogramSpec {
                    edges: Some(vec![1.0]),
                    quantile: Some(0.9),
                    ..selector("x_seconds")
                }
                .measure(),
                "histogram:",
            ),
        ] {
            let error = measure.expect_err(field).to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn presets_are_named_in_kebab_case_and_unknown_ones_are_refused_with_the_list() {
        for name in ["gateway-errors", "http-errors"] {
            assert!(serde_json::from_str::<RatioSpec>(&format!(r#"{{"preset":"{name}"}}"#)).is_ok());
        }
        for name in ["gateway-duration", "http-duration"] {
            assert!(serde_json::from_str::<HistogramSpec>(&format!(r#"{{"preset":"{name}"}}"#)).is_ok());
        }
        let error = serde_json::from_str::<RatioSpec>(r#"{"preset":"errors"}"#)
            .expect_err("unknown")
            .to_string();
        assert!(
            error.contains("gateway-errors") && error.contains("http-errors"),
            "{error}"
        );
    }

    #[test]
    fn edges_are_judged_in_rising_order_and_once() {
        let spec = HistogramSpec {
            selector: Some("x_seconds".to_owned()),
            edges: Some(vec![0.5, 0.1, 0.5]),
            ..HistogramSpec::default()
        };
        let Ok(Measure::Tails(tails)) = spec.measure() else {
            panic!("a histogram");
        };
        assert_eq!(tails.edges, Some(vec![0.1, 0.5]));
        assert_eq!(tails.buckets.to_string(), "x_seconds_bucket");
    }
}
