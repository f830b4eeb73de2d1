//! What this process counts, as `OpenMetrics` text.
//!
//! Every label is an enum with a closed set of words, so no name, message or error text of a
//! user, a server or an attacker ever becomes a series. Nothing is counted per gate.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::decision::{GapKind, Outcome, Reason};

/// An enum that is a label: it has one static word per value.
macro_rules! label {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $each:literal])+ $value:ident => $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $each])+ $value,)+ }

        impl $name {
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// The word in the label.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
                EncodeLabelValue::encode(&self.word(), encoder)
            }
        }
    };
}

label! {
    /// A kind of evidence source.
    SourceKind {
        /// Prometheus, or anything that speaks its HTTP API.
        Prometheus => "prometheus",
    }
}

label! {
    /// A kind of object we write.
    Kind {
        /// The user's workload and the canary's.
        Deployment => "Deployment",
        /// The canary's Service.
        Service => "Service",
        /// A route by host and path.
        HttpRoute => "HTTPRoute",
        /// A route for gRPC.
        GrpcRoute => "GRPCRoute",
        /// What keeps stable from shrinking.
        HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        /// The standing policy.
        ReleaseGate => "ReleaseGate",
        /// The record of one attempt.
        CanaryAnalysis => "CanaryAnalysis",
        /// What somebody asked for.
        GateAction => "GateAction",
        /// Leader election.
        Lease => "Lease",
        /// A courtesy copy.
        Event => "Event",
        /// A policy attached to the Service, cloned for the canary.
        AttachedPolicy => "AttachedPolicy",
    }
}

label! {
    /// What is done to an object.
    Verb {
        /// Made.
        Create => "create",
        /// Replaced as a whole.
        Update => "update",
        /// Changed in part.
        Patch => "patch",
        /// Changed by server-side apply.
        Apply => "apply",
        /// Removed.
        Delete => "delete",
    }
}

label! {
    /// Why a call to the API server failed, or a pass that made it.
    Fault {
        /// The object has changed, or exists already.
        Conflict => "conflict",
        /// RBAC or admission said no.
        Denied => "denied",
        /// The object does not exist.
        NotFound => "not_found",
        /// The API server does not accept the content.
        Invalid => "invalid",
        /// Too many requests.
        Throttled => "throttled",
        /// No answer in time.
        Timeout => "timeout",
        /// The API server failed.
        ServerError => "server_error",
        /// No connection, or not its protocol.
        Unreachable => "unreachable",
        /// The object itself cannot be understood.
        Malformed => "malformed",
    }
}

impl Fault {
    /// The fault behind an error of the client.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                409 => Self::Conflict,
                401 | 403 => Self::Denied,
                404 | 410 => Self::NotFound,
                400 | 413 | 415 | 422 => Self::Invalid,
                429 => Self::Throttled,
                408 | 504 => Self::Timeout,
                _ => Self::ServerError,
            },
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Self::Malformed,
            _ => Self::Unreachable,
        }
    }
}

label! {
    /// What became of a report to GitHub.
    Report {
        /// GitHub has it.
        Posted => "posted",
        /// It failed and waits for another try.
        Retried => "retried",
        /// GitHub said no, for good.
        Refused => "refused",
        /// A newer one replaced it, or it waited too long.
        Dropped => "dropped",
    }
}

/// A word from a closed list of another room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

/// The word for what went well.
const OK: Word = Word("ok");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    outcome: Word,
    reason: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    source: SourceKind,
    result: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: Kind,
    verb: Verb,
    result: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReportLabel {
    result: Report,
}

/// The counters of this process: made once, cheap to clone, handed to whoever counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    decisions: Family<DecisionLabels, Counter>,
    holds: Family<ReasonLabel, Gauge>,
    held: Arc<Mutex<HashMap<String, Reason>>>,
    evidence_age: Histogram,
    queries: Family<QueryLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    abort: Histogram,
    errors: Family<ReasonLabel, Counter>,
    leader: Gauge,
    reports: Family<ReportLabel, Counter>,
    audit_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes all of them, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tollgate");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        Self {
            decisions: add(&mut registry, "decisions", "Decisions carried out", Family::default()),
            holds: add(
                &mut registry,
                "holds",
                "Gates that hold now, by reason",
                Family::default(),
            ),
            held: Arc::default(),
            evidence_age: add(
                &mut registry,
                "evidence_age_seconds",
                "Age of the newest sample when it was judged",
                // A scrape interval is 5 to 60 s, and evidence older than a few of them is stale.
                Histogram::new([1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0]),
            ),
            queries: add(
                &mut registry,
                "source_queries",
                "Queries to evidence sources",
                Family::default(),
            ),
            writes: add(
                &mut registry,
                "api_writes",
                "Writes to the Kubernetes API",
                Family::default(),
            ),
            abort: add(
                &mut registry,
                "abort_seconds",
                "Time from the sample that decided an abort to the acknowledged write of weight 0",
                // Wanted below 0.15 s; promised below 1 s in health, 5 s at worst, 30 s through a failover.
                Histogram::new([0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            ),
            errors: add(
                &mut registry,
                "reconcile_errors",
                "Passes that failed, by reason",
                Family::default(),
            ),
            leader: add(&mut registry, "leader", "1 while this replica leads", Gauge::default()),
            reports: add(&mut registry, "github_reports", "Reports to GitHub", Family::default()),
            audit_dropped: add(
                &mut registry,
                "audit_lines_dropped",
                "Audit lines that could not be exported; their records are in the routes",
                Counter::default(),
            ),
            registry: Arc::new(registry),
        }
    }

    /// A decision has been carried out.
    pub fn decided(&self, outcome: Outcome, reason: Reason) {
        let labels = DecisionLabels {
            outcome: Word(outcome.word()),
            reason: Word(reason.word()),
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// What a gate (`namespace/name`) holds for now; `None` when it moves, rests or is gone.
    pub fn held(&self, gate: &str, reason: Option<Reason>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match reason {
            Some(reason) => held.insert(gate.to_owned(), reason),
            None => held.remove(gate),
        };
        if before == reason {
            return;
        }
        let gauge = |reason: Reason| {
            let reason = Word(reason.word());
            self.holds.get_or_create_owned(&ReasonLabel { reason })
        };
        if let Some(before) = before {
            gauge(before).dec();
        }
        if let Some(now) = reason {
            gauge(now).inc();
        }
    }

    /// Evidence was judged whose newest sample was this old.
    pub fn judged(&self, age: Duration) {
        self.evidence_age.observe(age.as_secs_f64());
    }

    /// So many queries were answered: completely, or with this gap.
    pub fn queried(&self, source: SourceKind, gap: Option<GapKind>, times: u64) {
        let result = gap.map_or(OK, |gap| Word(gap.word()));
        self.queries
            .get_or_create(&QueryLabels { source, result })
            .inc_by(times);
    }

    /// A write to the API server was acknowledged, or failed.
    pub fn wrote(&self, kind: Kind, verb: Verb, fault: Option<Fault>) {
        let result = fault.map_or(OK, |fault| Word(fault.word()));
        self.writes.get_or_create(&WriteLabels { kind, verb, result }).inc();
    }

    /// Weight 0 was acknowledged this long after the sample that decided the abort.
    pub fn aborted(&self, after: Duration) {
        self.abort.observe(after.as_secs_f64());
    }

    /// A pass failed.
    pub fn failed(&self, fault: Fault) {
        let reason = Word(fault.word());
        self.errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// What became of so many reports to GitHub.
    pub fn reported(&self, result: Report, times: u64) {
        self.reports.get_or_create(&ReportLabel { result }).inc_by(times);
    }

    /// A line of the audit log was dropped.
    pub fn audit_dropped(&self) {
        self.audit_dropped.inc();
    }

    /// Everything, as `OpenMetrics` text.
    ///
    /// # Errors
    /// Never with these metrics; the encoder's own error otherwise.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn add<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_moves_its_own_series() {
        let metrics = Metrics::new();
        metrics.decided(Outcome::Abort, Reason::Harm);
        metrics.judged(Duration::from_secs(7));
        metrics.queried(SourceKind::Prometheus, None, 1);
        metrics.queried(SourceKind::Prometheus, Some(GapKind::Timeout), 1);
        metrics.wrote(Kind::HttpRoute, Verb::Patch, None);
        metrics.wrote(Kind::HttpRoute, Verb::Patch, Some(Fault::Conflict));
        metrics.aborted(Duration::from_millis(120));
        metrics.failed(Fault::Unreachable);
        metrics.leads(true);
        metrics.reported(Report::Posted, 1);
        metrics.audit_dropped();
        let text = metrics.encode().expect("text");
        for line in [
            r#"tollgate_decisions_total{outcome="Abort",reason="Harm"} 1"#,
            r#"tollgate_evidence_age_seconds_bucket{le="10.0"} 1"#,
            r#"tollgate_source_queries_total{source="prometheus",result="ok"} 1"#,
            r#"tollgate_source_queries_total{source="prometheus",result="Timeout"} 1"#,
            r#"tollgate_api_writes_total{kind="HTTPRoute",verb="patch",result="ok"} 1"#,
            r#"tollgate_api_writes_total{kind="HTTPRoute",verb="patch",result="conflict"} 1"#,
            r#"tollgate_abort_seconds_bucket{le="0.1"} 0"#,
            r#"tollgate_abort_seconds_bucket{le="0.15"} 1"#,
            r#"tollgate_reconcile_errors_total{reason="unreachable"} 1"#,
            "tollgate_leader 1",
            r#"tollgate_github_reports_total{result="posted"} 1"#,
            "tollgate_audit_lines_dropped_total 1",
            concat!(r#"tollgate_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_gate_counts_once_whatever_it_is_told_and_for_its_last_reason() {
        let metrics = Metrics::new();
        for _pass in 0..3 {
            metrics.held("shop/checkout", Some(Reason::TooFew));
            metrics.held("shop/cart", Some(Reason::TooFew));
        }
        metrics.held("shop/cart", Some(Reason::NoEvidence));
        metrics.held("shop/cart", None);
        metrics.held("shop/cart", None);
        let text = metrics.encode().expect("text");
        assert!(text.contains(r#"tollgate_holds{reason="TooFew"} 1"#), "{text}");
        assert!(text.contains(r#"tollgate_holds{reason="NoEvidence"} 0"#), "{text}");
    }

    #[test]
    fn the_number_of_series_is_bounded_whatever_happens() {
        let metrics = Metrics::new();
        for (number, reason) in Reason::ALL.iter().enumerate() {
            metrics.held(&format!("shop/gate-{number}"), Some(*reason));
            for outcome in [Outcome::Promote, Outcome::Hold, Outcome::Abort] {
                metrics.decided(outcome, *reason);
            }
        }
        for kind in Kind::ALL {
            for verb in Verb::ALL {
                metrics.wrote(*kind, *verb, None);
                for fault in Fault::ALL {
                    metrics.wrote(*kind, *verb, Some(*fault));
                }
            }
        }
        let text = metrics.encode().expect("text");
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        let most = Reason::ALL.len() * 4 + Kind::ALL.len() * Verb::ALL.len() * (Fault::ALL.len() + 1) + 40;
        assert!(series <= most, "{series} series, at most {most}");
        assert!(!text.contains("gate-"), "no gate has a series of its own");
    }

    #[test]
    fn every_answer_of_the_api_server_has_a_fault() {
        for (code, fault) in [
            (409, Fault::Conflict),
            (403, Fault::Denied),
            (404, Fault::NotFound),
            (422, Fault::Invalid),
            (429, Fault::Throttled),
            (504, Fault::Timeout),
            (500, Fault::ServerError),
        ] {
            let status = kube::core::Status::failure("x", "x").with_code(code);
            assert_eq!(Fault::of(&kube::Error::Api(status.boxed())), fault);
        }
    }
}
