//! `tollgate replay`: what a policy would have decided, on evidence that is there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::ResourceExt as _;
use serde_json::Value;

use super::cluster::{Output, Trouble};
use super::exit;
use super::paint::{print, print_json};
use super::plot;
use super::retold;
use super::timeline::{Move, Script, Told, tell};
use crate::api::{self, CanaryAnalysis, CanaryAnalysisSpec, EvidenceSource, ReleaseGate};
use crate::controller::frozen::{self, Asked};
use crate::decision::{Millis, Outcome, Percent, Revision};
use crate::http::{Credential, Limits, Secret, Tls};
use crate::sources::{ConnectionSpec, Plane, Recording, history};
use crate::trial::Trial;

/// The metric in which a recording says what weight the canary had.
pub const WEIGHT: &str = "tollgate_canary_weight";

/// The metric that is there in a recording from the time on at which counting began.
pub const COUNTED: &str = "tollgate_canary_counted";

/// The revision of a release whose record is not given.
const UNNAMED: &str = "recorded";

/// Before the first weight, so much history is read where nothing else says when counting began.
const BEFORE: Millis = Millis::from_secs(60);

const EXAMPLE: &str = "Example: tollgate replay config/recordings/gate.yaml --recording config/recordings/bad.json";

const ABOUT: &str = "\
Tells what this policy would have decided, tick by tick, on evidence that is there already. No
cluster is needed. The traffic is what it was: a recording says which weight the canary had at
which time, and replay says what the policy does at each of these steps, by which rule, and what
it still needs. It stops where the policy aborts, and says so where the recording went on
although the policy would hold.

A recording is OpenMetrics text with timestamps (promtool tsdb dump-openmetrics, or --record),
or answers of Prometheus to range selectors, one or many, as curl stores them:

  curl -sG PROMETHEUS/api/v1/query --data-urlencode 'time=2026-01-31T12:30:00Z' \\
    --data-urlencode 'query={namespace=\"shop\"}[30m]' > recording.json

When the canary had which weight is taken from --step, else from --analysis, else from the
series tollgate_canary_weight{namespace, gate} of the recording, which --record writes into it.

Exit codes: 0 the policy was replayed and decides what --expect says; 1 it decides something
else; 2 it could not be replayed.

Example: tollgate replay config/recordings/gate.yaml --recording config/recordings/bad.json";

/// What is replayed, and how it is told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = ABOUT, after_help = EXAMPLE)]
pub struct Args {
    /// YAML with the gate, and its EvidenceSource where its settings are not the defaults; or a CanaryAnalysis, whose frozen plan is the policy then
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The gate to replay, where the files have several
    #[arg(long, value_name = "NAME")]
    gate: Option<String>,
    /// Namespace of the series, where the gate names none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Samples to judge by; may be given several times
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "prometheus",
        conflicts_with = "prometheus"
    )]
    recording: Vec<PathBuf>,
    /// A server that still has the samples
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// A file with the bearer token for it
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    token_file: Option<PathBuf>,
    /// From when on to count: a time like 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Millis>,
    /// Until when
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Millis>,
    /// The CanaryAnalysis of the release (kubectl get canaryanalysis NAME -o yaml): when each step began, and what was decided then
    #[arg(long, value_name = "FILE", conflicts_with = "step")]
    analysis: Option<PathBuf>,
    /// When the canary got a weight: a time, or a length of time after the start of the recording (5=2m30s); instead of --analysis
    #[arg(long, value_name = "WEIGHT=TIME", value_parser = step)]
    step: Vec<(Percent, When)>,
    /// Fail unless the policy decides this
    #[arg(long, value_enum, ignore_case = true)]
    expect: Option<Expected>,
    /// Write what was read as a recording, weights included: OpenMetrics text, or an answer of Prometheus where the name ends in .json
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Draw it: weight, canary against stable with the always-valid band, evidence, decisions
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The same as PNG
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What a policy is expected to decide in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Expected {
    /// It goes on to the end.
    Promote,
    /// It waits.
    Hold,
    /// All traffic back.
    Abort,
}

/// A time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Since 1970.
    At(Millis),
    /// Since the start of the recording.
    After(Millis),
}

fn time(text: &str) -> Result<Millis, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    #[expect(clippy::cast_possible_truncation, reason = "saturates; times are far below 2^53")]
    let seconds = seconds.map(|seconds| Millis((seconds * 1000.0).round() as i64));
    seconds
        .or_else(|| api::millis("", text).ok())
        .ok_or_else(|| "a time is written like 2026-01-31T12:00:00Z, or in seconds since 1970".to_owned())
}

fn step(text: &str) -> Result<(Percent, When), String> {
    let accepted = "a step is written like 5=2026-01-31T12:00:00Z or 5=2m30s";
    let (weight, when) = text.split_once('=').ok_or(accepted)?;
    let weight = weight.trim_end_matches('%').parse::<i64>().map_err(|_| accepted)?;
    let weight = Percent::try_from(weight).map_err(|error| error.to_string())?;
    let after = api::Duration::from(when)
        .millis()
        .filter(|_| when.parse::<f64>().is_err());
    let when = after.map_or_else(|| time(when).map(When::At), |after| Ok(When::After(after)));
    Ok((weight, when.map_err(|_| accepted)?))
}

/// What the files say.
struct Policy {
    gate: (String, String),
    spec: CanaryAnalysisSpec,
    connection: ConnectionSpec,
    /// The record of the release, where it is given.
    analysis: Option<CanaryAnalysis>,
}

impl Args {
    /// Replays and prints.
    ///
    /// # Errors
    /// What cannot be read, by file and field.
    pub async fn run(self) -> Result<u8, Trouble> {
        let told = self.told().await?;
        match self.output {
            Output::Json => print_json(&told)?,
            Output::Text => print(&retold::text(&told, retold::width()))?,
        }
        for (path, png) in [(&self.svg, false), (&self.png, true)] {
            if let Some(path) = path {
                plot::draw(&told, path, png)?;
            }
        }
        let wanted = self.expect.map(|expected| match expected {
            Expected::Promote => Outcome::Promote,
            Expected::Hold => Outcome::Hold,
            Expected::Abort => Outcome::Abort,
        });
        Ok(if wanted.is_none_or(|wanted| wanted == told.end.decision) {
            exit::DONE
        } else {
            exit::NOT_DONE
        })
    }

    /// Replays.
    ///
    /// # Errors
    /// What cannot be read, by file and field.
    pub async fn told(&self) -> Result<Told, Trouble> {
        let mut policy = self.policy()?;
        if let Some(url) = &self.prometheus {
            policy.connection.url.clone_from(url);
        }
        let recording = match &self.prometheus {
            Some(_) => self.asked(&policy).await?,
            None => read_all(&self.recording)?,
        };
        let script = self.script(&policy, &recording)?;
        let recording = Arc::new(recording);
        let mut best: Option<(Told, Millis)> = None;
        for later in 0..self.starts(&policy, &recording) {
            let mut script = script.clone();
            script.span.0 = script.span.0 + Millis::from_secs(later * i64::from(policy.connection.interval_seconds));
            let offset = Millis(policy.spec.offset_milliseconds);
            let mut plane = Plane::over(policy.connection.clone(), Arc::clone(&recording), offset);
            let told = tell(&script, &mut plane).await?;
            let begun = script.span.0;
            let agreed = |told: &Told| told.agreement.map_or(0, |agreement| agreement.agreed);
            let settled = told
                .agreement
                .is_none_or(|agreement| agreement.agreed == agreement.recorded);
            if best.as_ref().is_none_or(|(best, _)| agreed(&told) > agreed(best)) {
                best = Some((told, begun));
            }
            if settled {
                break;
            }
        }
        let (told, begun) = best.ok_or_else(no_moves)?;
        if let Some(path) = &self.record {
            record(path, &recording, &script, begun)?;
        }
        Ok(told)
    }

    /// How many ticks may have been the first. A record says to the second when it was made; the source
    /// was read first at one of the next ticks. What the evidence before the first weight was decides
    /// whether the tick of that weight counts, so the start that agrees with the record is the right one.
    fn starts(&self, policy: &Policy, recording: &Recording) -> i64 {
        let known = self.from.is_some() || began_noted(recording, &policy.gate).is_some();
        if known || began(policy).is_none() { 1 } else { 4 }
    }

    /// Reads the policy and what belongs to it.
    fn policy(&self) -> Result<Policy, Trouble> {
        let mut found = Found::default();
        for path in &self.files {
            found.take(path)?;
        }
        let analysis =
            match &self.analysis {
                None => None,
                Some(path) => {
                    let mut of_record = Found::default();
                    of_record.take(path)?;
                    let analysis = of_record.analyses.pop();
                    Some(analysis.ok_or_else(|| {
                        Trouble::Usage(format!("{}: there is no CanaryAnalysis in it", path.display()))
                    })?)
                }
            };
        let names = || {
            found
                .gates
                .iter()
                .map(ReleaseGate::name_any)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut gates = found
            .gates
            .iter()
            .filter(|gate| self.gate.as_ref().is_none_or(|name| *name == gate.name_any()));
        match (gates.next(), gates.next(), found.analyses.first()) {
            (Some(gate), None, _) => self.of_gate(gate, &found.sources, analysis.or(found.analyses.first().cloned())),
            (Some(_), Some(_), _) => Err(Trouble::Usage(format!(
                "the files have several gates, say --gate NAME: {}",
                names()
            ))),
            (None, _, Some(frozen)) => Ok(self.of_analysis(frozen, &found.sources, analysis)),
            (None, _, None) => Err(Trouble::Usage(format!(
                "there is no ReleaseGate {}in the files{}",
                self.gate.as_ref().map_or_else(String::new, |name| format!("{name} ")),
                if found.gates.is_empty() {
                    String::new()
                } else {
                    format!(", there are: {}", names())
                },
            ))),
        }
    }

    /// The policy of a gate: frozen as an attempt of it would be.
    fn of_gate(
        &self,
        gate: &ReleaseGate,
        sources: &[EvidenceSource],
        analysis: Option<CanaryAnalysis>,
    ) -> Result<Policy, Trouble> {
        let connection = connection(sources, gate.spec.analysis.source.as_deref());
        let asked = Asked {
            name: gate
                .spec
                .analysis
                .source
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            interval: i64::from(connection.interval_seconds),
            scrape: i64::from(connection.scrape_seconds),
        };
        let of = analysis.as_ref().map(|analysis| &analysis.spec);
        let revision = Revision(of.map_or_else(|| UNNAMED.to_owned(), |spec| spec.revision.clone()));
        let epoch = of.map_or(1, |spec| spec.epoch);
        let mut draft =
            frozen::draft(gate, asked, (&revision, epoch, 0)).map_err(|error| Trouble::Usage(error.to_string()))?;
        if let Some(spec) = of {
            draft.spec.target = spec.target.clone();
            draft.spec.offset_milliseconds = spec.offset_milliseconds;
        }
        let namespace = gate.namespace().unwrap_or_else(|| self.namespace.clone());
        Ok(Policy {
            gate: (namespace, gate.name_any()),
            spec: draft.spec,
            connection,
            analysis,
        })
    }

    /// The policy that an attempt froze.
    fn of_analysis(
        &self,
        frozen: &CanaryAnalysis,
        sources: &[EvidenceSource],
        analysis: Option<CanaryAnalysis>,
    ) -> Policy {
        let mut connection = connection(sources, frozen.spec.analysis.source.as_deref());
        let whole = |seconds: i64| u32::try_from(seconds).unwrap_or(u32::MAX);
        connection.interval_seconds = whole(frozen.spec.interval_seconds);
        connection.scrape_seconds = whole(frozen.spec.scrape_seconds);
        let gate = frozen
            .spec
            .gate
            .as_ref()
            .map_or_else(|| frozen.name_any(), |gate| gate.name.clone());
        Policy {
            gate: (frozen.namespace().unwrap_or_else(|| self.namespace.clone()), gate),
            spec: frozen.spec.clone(),
            connection,
            analysis: analysis.or_else(|| Some(frozen.clone())),
        }
    }

    /// Reads the history of both arms from a server.
    async fn asked(&self, policy: &Policy) -> Result<Recording, Trouble> {
        let connection = &policy.connection;
        let refused = |error: crate::http::Error| Trouble::Usage(format!("--prometheus: {error}"));
        let credential = match &self.token_file {
            None => Credential::None,
            Some(path) => Credential::Bearer(Secret::new(text_of(path)?.trim())),
        };
        let total = std::time::Duration::from_secs(u64::from(connection.timeout_seconds.clamp(1, 60)));
        let limits = Limits {
            connect: total,
            total,
            body: usize::try_from(connection.max_body_bytes).unwrap_or(usize::MAX),
        };
        let client = crate::http::Client::new(limits, &credential, &Tls::default()).map_err(refused)?;
        let moves = self.moves(policy, None)?;
        let (Some(first), Some(last)) = (moves.first(), moves.last()) else {
            return Err(no_moves());
        };
        let begun = self.from.or_else(|| began(policy)).unwrap_or(first.at - BEFORE);
        let slack = Millis::from_secs(4 * i64::from(connection.scrape_seconds));
        let end = self.to.unwrap_or(last.at + slack);
        let trial = Trial::open((&policy.gate.0, &policy.gate.1), &policy.spec, None)
            .map_err(|error| Trouble::Usage(error.to_string()))?;
        let read = history(connection, &client, &trial.subscription, (begun - slack, end)).await;
        read.map_err(|gap| Trouble::Other(format!("{}: {}: {}", connection.url, gap.kind.word(), gap.detail)))
    }

    fn script(&self, policy: &Policy, recording: &Recording) -> Result<Script, Trouble> {
        let moves = self.moves(policy, Some(recording))?;
        let known = recording.span();
        let (Some((first, last)), false) = (known, moves.is_empty()) else {
            return Err(no_moves());
        };
        Ok(Script {
            gate: policy.gate.clone(),
            spec: policy.spec.clone(),
            moves,
            span: (
                self.from
                    .or_else(|| began_noted(recording, &policy.gate))
                    .or_else(|| began(policy))
                    .unwrap_or(first)
                    .max(first),
                self.to.unwrap_or(last),
            ),
        })
    }

    /// When the canary's weight changed: by the command line, by the record of the release, or by the
    /// recording itself.
    fn moves(&self, policy: &Policy, recording: Option<&Recording>) -> Result<Vec<Move>, Trouble> {
        let start = recording.and_then(Recording::span).map(|(first, _)| first);
        let mut moves = Vec::new();
        for (weight, when) in &self.step {
            let at = match (when, start.or(self.from)) {
                (When::At(at), _) => *at,
                (When::After(after), Some(start)) => start + *after,
                (When::After(_), None) => {
                    return Err(Trouble::Usage(
                        "--step: with --prometheus give times, or --from".to_owned(),
                    ));
                }
            };
            moves.push(Move {
                at,
                to: *weight,
                recorded: None,
            });
        }
        let decisions = policy
            .analysis
            .iter()
            .flat_map(|analysis| &analysis.status)
            .flat_map(|status| &status.decisions);
        if moves.is_empty() {
            for entry in decisions {
                let record = entry
                    .record("", "")
                    .map_err(|error| Trouble::Usage(error.to_string()))?;
                moves.push(Move {
                    at: record.at,
                    to: record.to,
                    recorded: Some(entry.clone()),
                });
            }
        }
        if let (true, Some(recording)) = (moves.is_empty(), recording) {
            moves = noted(recording, &policy.gate)?;
        }
        moves.sort_by_key(|each| each.at);
        Ok(moves)
    }
}

/// Weights that a recording notes.
fn noted(recording: &Recording, (namespace, gate): &(String, String)) -> Result<Vec<Move>, Trouble> {
    let mut moves: Vec<Move> = Vec::new();
    for (at, value) in recording.values(WEIGHT, &[("namespace", namespace), ("gate", gate)]) {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is refused then")]
        let weight = Percent::try_from(value as i64).map_err(|error| Trouble::Usage(format!("{WEIGHT}: {error}")))?;
        let before = moves.last().map_or(Percent::ZERO, |before| before.to);
        if weight != before {
            moves.push(Move {
                at,
                to: weight,
                recorded: None,
            });
        }
    }
    Ok(moves)
}

fn no_moves() -> Trouble {
    Trouble::Usage(format!(
        "nothing says which weight the canary had, and since when\n  give the release's record with --analysis FILE, or \
         --step WEIGHT=TIME for each step, or record {WEIGHT}{{namespace, gate}} with the rest"
    ))
}

/// When counting began for the recorded release.
fn began(policy: &Policy) -> Option<Millis> {
    let created = policy.analysis.as_ref()?.creation_timestamp()?;
    Some(Millis(created.0.as_millisecond()))
}

/// When counting began, where a recording notes it.
fn began_noted(recording: &Recording, (namespace, gate): &(String, String)) -> Option<Millis> {
    let noted = recording.values(COUNTED, &[("namespace", namespace), ("gate", gate)]);
    noted.first().map(|(at, _)| *at)
}

/// Writes a recording, with the weights that the canary had, and when counting began.
fn record(path: &Path, recording: &Recording, script: &Script, begun: Millis) -> Result<(), Trouble> {
    let (namespace, gate) = &script.gate;
    let labels = [("namespace", namespace.as_str()), ("gate", gate.as_str())];
    let mut recording = recording.clone();
    let refused = |error: crate::sources::RecordingError| Trouble::Other(error.to_string());
    recording.note(COUNTED, &labels, begun, 1.0).map_err(refused)?;
    for each in &script.moves {
        let weight = f64::from(each.to.get());
        recording.note(WEIGHT, &labels, each.at, weight).map_err(refused)?;
    }
    let as_answer = path.extension().is_some_and(|extension| extension == "json");
    if !as_answer && !recording.is_text() {
        let detail = "text has no form for native histograms; name the file with the ending .json";
        return Err(Trouble::Usage(format!("{}: {detail}", path.display())));
    }
    let text = if as_answer {
        recording.answer_body()
    } else {
        recording.text()
    };
    std::fs::write(path, text).map_err(|error| unread(path, &error))
}

/// The connection of a source that is given, or every default.
fn connection(sources: &[EvidenceSource], name: Option<&str>) -> ConnectionSpec {
    let asked = |source: &&EvidenceSource| match name {
        Some(name) => source.name_any() == name,
        None => source.spec.default,
    };
    let found = sources.iter().find(asked).or(sources.first());
    let found = found.and_then(|source| source.spec.prometheus.clone());
    found.unwrap_or_else(|| ConnectionSpec::to("http://recording.invalid"))
}

/// Objects of files.
#[derive(Default)]
struct Found {
    gates: Vec<ReleaseGate>,
    sources: Vec<EvidenceSource>,
    analyses: Vec<CanaryAnalysis>,
}

impl Found {
    fn take(&mut self, path: &Path) -> Result<(), Trouble> {
        let text = text_of(path)?;
        let objects = serde_saphyr::from_multiple::<Value>(&text)
            .map_err(|error| Trouble::Usage(format!("{}: {error}", path.display())))?;
        let items = |object: Value| match object.get("items").and_then(Value::as_array) {
            Some(items) => items.clone(),
            None => vec![object],
        };
        for object in objects.into_iter().flat_map(items) {
            let wrong = |error: api::Invalid| Trouble::Usage(format!("{}: {error}", path.display()));
            match object.get("kind").and_then(Value::as_str) {
                Some("ReleaseGate") => self.gates.push(api::parse(&object).map_err(wrong)?),
                Some("EvidenceSource") => self.sources.push(api::parse(&object).map_err(wrong)?),
                Some("CanaryAnalysis") => self.analyses.push(api::parse(&object).map_err(wrong)?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Recording, Trouble> {
    let mut texts = BTreeMap::new();
    for path in paths {
        texts.insert(path, text_of(path)?);
    }
    let mut whole = Recording::default();
    for (path, text) in texts {
        let wrong = |error: crate::sources::RecordingError| Trouble::Usage(format!("{}: {error}", path.display()));
        whole.merge(Recording::read(&text).map_err(wrong)?).map_err(wrong)?;
    }
    Ok(whole)
}

fn text_of(path: &Path) -> Result<String, Trouble> {
    std::fs::read_to_string(path).map_err(|error| unread(path, &error))
}

fn unread(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::Usage(format!("{}: {error}", path.display()))
}
