//! Releases told again: made up ones for the rules of the telling, and those that the project's own
//! cluster has recorded.

use std::path::PathBuf;

use clap::Parser as _;
use serde_json::{Value, json};

use super::Cli;
use super::Command;
use super::replay::{Args, WEIGHT};
use super::retold;
use super::timeline::{Kind, Told};
use crate::decision::{Millis, Outcome};
use crate::sources::Recording;

/// A multiple of ten seconds, in seconds since 1970.
const T0: i64 = 1_795_276_960;

/// A directory of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tollgate-replay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gate(difference: &Value) -> String {
    let mut gate = json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {
            "target": {"workload": {"name": "checkout"}, "service": "checkout"},
            "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}},
            "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
            "analysis": {"slo": "95%", "minWindow": "30s", "maxWindow": "10m"},
        },
    });
    json_patch::merge(&mut gate, difference);
    gate.to_string()
}

/// Five minutes of a gateway's counters at 100 requests a second, scraped every 5 s: the canary gets
/// what `weight` says at a second, and fails as often as `failing` says.
fn recorded(weight: impl Fn(i64) -> i64, failing: i64, noted: bool) -> String {
    let mut recording = Recording::default();
    let mut counts = [[0_i64; 2]; 2];
    let mut last = -1;
    for second in -60..=300 {
        let now = weight(second);
        let at = Millis::from_secs(T0 + second);
        if noted && now != last.max(0) {
            let labels = [("namespace", "shop"), ("gate", "checkout")];
            recording.note(WEIGHT, &labels, at, whole(now)).expect("noted");
        }
        last = now;
        counts[0][0] += 100 - now;
        counts[1][0] += now - now * failing / 100;
        counts[1][1] += now * failing / 100;
        if second % 5 == 0 {
            for (service, arm) in [("shop-checkout", counts[0]), ("shop-checkout-canary", counts[1])] {
                let service = format!("{service}-http-80@kubernetesgateway");
                for (code, count) in [("200", arm[0]), ("500", arm[1])] {
                    let labels = [
                        ("service", service.as_str()),
                        ("code", code),
                        ("instance", "gateway"),
                        ("job", "gateway"),
                    ];
                    let taken = recording.note("traefik_service_requests_total", &labels, at, whole(count));
                    taken.expect("one sample");
                }
            }
        }
    }
    recording.text()
}

fn whole(number: i64) -> f64 {
    f64::from(i32::try_from(number).expect("small"))
}

fn args(words: &[&str]) -> Args {
    let words = ["tollgate", "replay"].iter().chain(words);
    match Cli::try_parse_from(words).expect("arguments").command {
        Command::Replay(args) => args,
        other => panic!("{other:?}"),
    }
}

async fn told(name: &str, gate: &str, recording: &str, more: &[&str]) -> Result<Told, String> {
    let folder = Folder::new(name);
    let (gate, recording) = (folder.write("gate.yaml", gate), folder.write("recording.om", recording));
    let words = [&[gate.as_str(), "--recording", recording.as_str()], more].concat();
    args(&words).told().await.map_err(|error| error.to_string())
}

/// Kind, weight after it, and reason of every event.
fn events(told: &Told) -> Vec<(Kind, i64, &'static str)> {
    told.events
        .iter()
        .map(|event| (event.kind, event.to, event.reason))
        .collect()
}

/// Up the steps at these seconds, 100 % at the last.
fn stairs(second: i64) -> i64 {
    match second {
        ..3 => 0,
        3..63 => 10,
        63..150 => 50,
        150..250 => 95,
        _ => 100,
    }
}

#[tokio::test]
async fn a_good_release_is_promoted_step_by_step_by_the_evidence_of_each() {
    let told = told("good", &gate(&json!({})), &recorded(stairs, 0, true), &[])
        .await
        .expect("told");
    let promoted: Vec<_> = events(&told)
        .into_iter()
        .filter(|(kind, ..)| *kind != Kind::Held)
        .collect();
    assert_eq!(
        promoted,
        [
            (Kind::Began, 10, "Started"),
            (Kind::Promoted, 50, "Safe"),
            (Kind::Moved, 50, "Safe"),
            (Kind::Promoted, 95, "Safe"),
            (Kind::Moved, 95, "Safe"),
            (Kind::Promoted, 100, "NoHarm"),
            (Kind::Moved, 100, "NoHarm"),
        ]
    );
    assert_eq!((told.end.decision, told.end.weight), (Outcome::Promote, 100));
    assert_eq!(told.steps, [10, 50, 95]);
    let first = &told.events[told
        .events
        .iter()
        .position(|event| event.kind == Kind::Promoted)
        .expect("one")];
    assert_eq!(first.evidence_hash.len(), 64);
    assert!(first.rule.starts_with("gateway-errors: 0 of "), "{}", first.rule);
}

#[tokio::test]
async fn a_bad_release_is_aborted_and_the_telling_stops_there() {
    let told = told("bad", &gate(&json!({})), &recorded(stairs, 10, true), &[])
        .await
        .expect("told");
    let last = told.events.last().expect("events");
    assert_eq!((last.kind, last.reason, last.step), (Kind::Aborted, "Harm", 1));
    assert_eq!(told.end.decision, Outcome::Abort);
    let tick = told.ticks.last().expect("ticks");
    assert!(tick.at < Millis::from_secs(T0 + 63), "long before the next step");
}

#[tokio::test]
async fn a_recording_that_went_on_against_the_policy_is_called_that() {
    let patient = gate(&json!({"spec": {"analysis": {"minWindow": "80s"}}}));
    let told = told("against", &patient, &recorded(stairs, 0, true), &[])
        .await
        .expect("told");
    assert!(
        events(&told).contains(&(Kind::MovedAgainst, 50, "MinWindow")),
        "{:?}",
        events(&told)
    );
    let text = retold::text(&told, 100);
    assert!(
        text.contains("the recording went on; this policy: Hold, MinWindow"),
        "{text}"
    );
}

#[tokio::test]
async fn a_canary_that_nobody_can_see_is_held() {
    let told = told(
        "blind",
        &gate(&json!({})),
        &blinded(&recorded(|second| if second < 3 { 0 } else { 10 }, 0, true)),
        &[],
    )
    .await
    .expect("told");
    assert_eq!((told.end.decision, told.end.reason), (Outcome::Hold, "NoEvidence"));
    assert!(
        told.end.rule.contains("no request of the canary is counted"),
        "{}",
        told.end.rule
    );
}

fn blinded(recording: &str) -> String {
    let lines: Vec<&str> = recording.lines().filter(|line| !line.contains("-canary-")).collect();
    lines.join("\n")
}

#[tokio::test]
async fn steps_are_what_the_command_line_says_where_nothing_else_says_it() {
    let text = recorded(stairs, 0, false);
    let without = told("unsaid", &gate(&json!({})), &text, &[])
        .await
        .expect_err("no weights");
    assert!(
        without.contains("--step") && without.contains("--analysis"),
        "{without}"
    );
    let begun = format!("10={}", T0 + 3);
    let steps = [
        "--step", &begun, "--step", "50=123s", "--step", "95=3m30s", "--step", "100=310s",
    ];
    let said = told("said", &gate(&json!({})), &text, &steps).await.expect("told");
    let noted = told("noted", &gate(&json!({})), &recorded(stairs, 0, true), &[])
        .await
        .expect("told");
    assert_eq!((said.events, said.ticks), (noted.events, noted.ticks));
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said() {
    let fine = recorded(stairs, 0, true);
    for (name, gate, recording, said) in [
        (
            "misspelt",
            gate(&json!({"spec": {"analysis": {"minWindw": "1m"}}})),
            fine.as_str(),
            "spec.analysis.minWindw",
        ),
        ("no-gate", "kind: Service".to_owned(), &fine, "no ReleaseGate"),
        ("no-text", gate(&json!({})), "hello", "line 1"),
    ] {
        let error = told(name, &gate, recording, &[]).await.expect_err(name);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn times_are_read_in_every_form_that_is_offered() {
    for (words, fits) in [
        ("--step 5=2026-01-31T12:00:00Z", true),
        ("--step 5=1795276960.5", true),
        ("--step 5%=2m30s", true),
        ("--step 101=2m30s", false),
        ("--step 5", false),
        ("--step 5=soon", false),
        ("--from 1795276960 --to 2026-01-31T12:00:00Z", true),
        ("--from yesterday", false),
    ] {
        let words = format!("tollgate replay gate.yaml --recording a.om {words}");
        assert_eq!(Cli::try_parse_from(words.split(' ')).is_ok(), fits, "{words}");
    }
}

fn shipped(name: &str) -> String {
    format!("{}/config/recordings/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_shipped_recordings_are_told_as_their_golden_files_say() {
    for (name, decision, reason) in [
        ("good", Outcome::Promote, "NoHarm"),
        ("bad", Outcome::Abort, "Harm"),
        ("blind", Outcome::Hold, "NoEvidence"),
    ] {
        let words = [
            shipped("gate.yaml"),
            "--recording".to_owned(),
            shipped(&format!("{name}.json")),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = args(&words).told().await.expect(name);
        assert_eq!((told.end.decision, told.end.reason), (decision, reason), "{name}");
        let text = anstream::adapter::strip_str(&retold::text(&told, 100)).to_string();
        let golden = std::fs::read_to_string(shipped(&format!("{name}.txt"))).expect(name);
        assert_eq!(
            text, golden,
            "{name}: tollgate replay config/recordings/gate.yaml --recording config/recordings/{name}.json"
        );
    }
}

#[tokio::test]
async fn what_the_operator_decided_on_the_shipped_recordings_is_decided_again() {
    for (name, decisions) in [("good", 5), ("bad", 1), ("blind", 0)] {
        let (recording, analysis) = (
            shipped(&format!("{name}.json")),
            shipped(&format!("{name}.analysis.yaml")),
        );
        let gate = shipped("gate.yaml");
        // By the gate as it is written, and by the plan that the operator froze from it.
        for words in [
            vec![gate.as_str(), "--analysis", &analysis, "--recording", &recording],
            vec![analysis.as_str(), "--recording", &recording],
        ] {
            let told = args(&words).told().await.expect(name);
            let agreement = told.agreement.expect("decisions were recorded");
            let others: Vec<_> = told.events.iter().filter(|event| event.agrees == Some(false)).collect();
            assert_eq!(
                (agreement.agreed, agreement.recorded),
                (decisions, decisions),
                "{name}: {others:#?}"
            );
        }
    }
}

#[tokio::test]
async fn a_stricter_policy_is_tried_on_the_recording_of_another() {
    let folder = Folder::new("stricter");
    let text = std::fs::read_to_string(shipped("gate.yaml")).expect("the gate");
    let strict = folder.write("gate.yaml", &text.replace("slo: 99%", "slo: 99.99%"));
    let recording = shipped("good.json");
    let told = args(&[&strict, "--recording", &recording]).told().await.expect("told");
    assert!(
        told.events.iter().any(|event| event.kind == Kind::MovedAgainst),
        "{:?}",
        events(&told)
    );
}
