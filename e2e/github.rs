//! Reports on their way to GitHub, against a stand-in that checks every call and answer by GitHub's description.
//!
//! Needs Node 20 and npm. Each test has a stand-in of its own, so that faults do not meet the wrong calls.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod standin;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use standin::{SHA, Standin};
use tollgate::github::{
    Credentials, GitHub, Numbers, Outbox, Outcome, Pacing, Report, ReportState, Reporter, Settings, Told, describe,
};

const CREATE: &str = "repos/create-deployment";
const STATUS: &str = "repos/create-deployment-status";
const PATIENCE: Duration = Duration::from_mins(1);

/// A reporter whose outbox runs until the test ends.
struct Teller {
    reporter: Reporter,
    task: tokio::task::JoinHandle<()>,
}

impl Teller {
    fn start(settings: &Settings, pacing: Pacing) -> Self {
        let (reporter, outbox) = Outbox::new(GitHub::new(settings).unwrap(), pacing);
        Self {
            reporter,
            task: tokio::spawn(outbox.run()),
        }
    }

    /// Waits until an outcome of the gate is as wanted.
    async fn until(&self, gate_uid: &str, wanted: impl Fn(&Outcome) -> bool) -> Outcome {
        let mut changed = self.reporter.changed();
        let found = async {
            loop {
                changed.borrow_and_update();
                if let Some(outcome) = self.reporter.outcome(gate_uid).filter(&wanted) {
                    return outcome;
                }
                changed.changed().await.unwrap();
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, found).await;
        outcome.unwrap_or_else(|_| panic!("not in time; last: {:?}", self.reporter.outcome(gate_uid)))
    }

    /// Submits a report and waits until GitHub has it; returns the deployment.
    async fn tell(&self, report: Report) -> Option<u64> {
        let (uid, state, revision) = (report.gate_uid.clone(), report.state, report.revision.clone());
        self.reporter.submit(report);
        let done = |outcome: &Outcome| {
            outcome.state == state && outcome.revision == revision && matches!(outcome.told, Told::Done { .. })
        };
        match self.until(&uid, done).await.told {
            Told::Done { deployment } => deployment,
            other => panic!("{other:?}"),
        }
    }

    /// Submits a report and waits until it was given up; returns the reason and the message.
    async fn refused(&self, report: Report) -> (&'static str, String) {
        let uid = report.gate_uid.clone();
        self.reporter.forget(&uid);
        self.reporter.submit(report);
        match self
            .until(&uid, |outcome| matches!(outcome.told, Told::GivenUp { .. }))
            .await
            .told
        {
            Told::GivenUp { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn reporter(github: &Standin) -> Teller {
    Teller::start(&github.settings(github.app().await), quick())
}

fn quick() -> Pacing {
    Pacing {
        between_writes: Duration::from_millis(1),
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(200),
        unsaid_limit: Duration::from_millis(400),
        capacity: 64,
    }
}

fn report(gate: &str, revision: &str, state: ReportState) -> Report {
    Report {
        gate_uid: format!("uid-{gate}"),
        gate: format!("shop/{gate}"),
        repository: "acme/shop".into(),
        environment: "production".into(),
        sha: SHA.into(),
        revision: revision.into(),
        state,
        description: describe(
            state,
            &Numbers {
                requests: Some(1204),
                ..Numbers::default()
            },
        ),
        log_url: Some(format!("https://tollgate.example/shop/{gate}/{revision}")),
    }
}

/// The states of a deployment in the order they were posted.
fn states(deployment: &Value) -> Vec<&str> {
    let newest_first = deployment["statuses"].as_array().unwrap();
    newest_first
        .iter()
        .rev()
        .map(|status| status["state"].as_str().unwrap())
        .collect()
}

fn id(deployment: &Value) -> u64 {
    deployment["id"].as_u64().unwrap()
}

#[tokio::test]
async fn a_release_is_told_step_by_step_on_one_deployment() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    let steps = [
        ReportState::Held,
        ReportState::Preparing,
        ReportState::Stepping,
        ReportState::Committed,
        ReportState::Completed,
    ];
    for state in steps {
        teller.tell(report("checkout", "r1", state)).await.unwrap();
    }
    let mut long = report("checkout", "r1", ReportState::Completed);
    long.description = "🚀é ".repeat(200);
    teller.reporter.submit(long);
    teller
        .until("uid-checkout", |_| teller.reporter.counters().posted == 6)
        .await;

    let all = github.deployments().await;
    assert_eq!(all.len(), 1, "{all:#?}");
    let one = &all[0];
    let expected = json!({"tollgate": {"uid": "uid-checkout", "revision": "r1"}});
    assert_eq!(
        (&one["payload"], &one["sha"], &one["ref"]),
        (&expected, &json!(SHA), &json!(SHA))
    );
    assert_eq!(
        (&one["environment"], &one["production_environment"]),
        (&json!("production"), &json!(true))
    );
    assert_eq!(
        states(one),
        [
            "queued",
            "in_progress",
            "in_progress",
            "in_progress",
            "success",
            "success"
        ]
    );
    let first = one["statuses"].as_array().unwrap().last().unwrap();
    assert_eq!(first["description"], "held · 1,204 requests");
    assert_eq!(first["log_url"], "https://tollgate.example/shop/checkout/r1");
    assert_eq!(github.control("state", &json!({})).await["minted"], 1);
    assert_eq!(
        github.calls("repos/list-deployment-statuses").await,
        0,
        "what we said ourselves is not asked for"
    );
    github.verify().await;
}

#[tokio::test]
async fn a_lost_reply_never_makes_a_second_deployment_or_status() {
    for (operation, fault) in [
        (CREATE, json!({"kind": "drop-after"})),
        (CREATE, json!({"kind": "truncate"})),
        (STATUS, json!({"kind": "drop-after"})),
        (STATUS, json!({"kind": "truncate"})),
    ] {
        let github = Standin::start().await;
        let mut hit = fault.clone();
        hit["operation"] = json!(operation);
        hit["times"] = json!(2);
        github.fault(hit).await;
        let teller = reporter(&github).await;
        teller
            .tell(report("checkout", "r1", ReportState::Stepping))
            .await
            .unwrap();

        let all = github.deployments().await;
        assert_eq!(all.len(), 1, "{operation} {fault}");
        assert_eq!(states(&all[0]), ["in_progress"], "{operation} {fault}");
        assert!(
            teller.reporter.counters().put_off > 0,
            "{operation} {fault} hit nothing"
        );
        github.verify().await;
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_never_makes_a_second_deployment() {
    let github = Standin::start().await;
    let settings = Settings {
        call_timeout: Duration::from_millis(1500),
        ..github.settings(github.app().await)
    };
    let teller = Teller::start(&settings, quick());
    github.fault(json!({"operation": CREATE, "delayMs": 2500})).await;
    teller.reporter.submit(report("checkout", "r1", ReportState::Stepping));
    teller
        .tell(report("checkout", "r1", ReportState::Completed))
        .await
        .unwrap();
    let all = github.deployments().await;
    assert_eq!((all.len(), states(&all[0])), (1, vec!["success"]));
    github.verify().await;
}

#[tokio::test]
async fn a_broken_gateway_is_waited_out() {
    let github = Standin::start().await;
    for operation in ["apps/get-repo-installation", "repos/list-deployments", CREATE, STATUS] {
        github
            .fault(json!({"operation": operation, "status": 502, "raw": "<html>Unicorn!</html>"}))
            .await;
    }
    github
        .fault(json!({"operation": "repos/list-deployments", "kind": "truncate"}))
        .await;
    github
        .fault(json!({"operation": "repos/list-deployments", "kind": "drop"}))
        .await;
    let teller = reporter(&github).await;
    teller
        .tell(report("checkout", "r1", ReportState::Aborted))
        .await
        .unwrap();

    let all = github.deployments().await;
    assert_eq!((all.len(), states(&all[0])), (1, vec!["failure"]));
    // Six faults. The HTTP client itself asks once more when a kept connection closes before
    // anything came back, so the dropped one may never reach the reporter.
    let put_off = teller.reporter.counters().put_off;
    assert!((5..=6).contains(&put_off), "put off {put_off} times");
    github.verify().await;
}

#[tokio::test]
async fn a_limit_is_waited_out_for_as_long_as_github_asks() {
    let text = "You have exceeded a secondary rate limit.";
    let table = [
        (
            json!({"status": 403, "message": text, "headers": {"retry-after": "1"}}),
            Duration::from_secs(1),
        ),
        (
            json!({"status": 429, "headers": {"retry-after": "1"}}),
            Duration::from_secs(1),
        ),
        (json!({"status": 403, "message": text}), quick().unsaid_limit),
    ];
    for (fault, least) in table {
        let github = Standin::start().await;
        let teller = reporter(&github).await;
        let mut hit = fault.clone();
        hit["operation"] = json!(STATUS);
        github.fault(hit).await;
        let begun = Instant::now();
        teller.reporter.submit(report("checkout", "r1", ReportState::Stepping));
        let limited = |outcome: &Outcome| {
            matches!(
                outcome.told,
                Told::Waiting {
                    reason: "GitHubLimited",
                    ..
                }
            )
        };
        teller.until("uid-checkout", limited).await;
        teller
            .until("uid-checkout", |outcome| matches!(outcome.told, Told::Done { .. }))
            .await;
        assert!(begun.elapsed() >= least, "{fault}: {:?}", begun.elapsed());
        assert_eq!(github.calls(STATUS).await, 2, "{fault}");
        github.verify().await;
    }
}

#[tokio::test]
async fn an_exhausted_limit_is_waited_out_until_its_reset() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    github.control("set", &json!({"remaining": 3, "resetSeconds": 2})).await;
    let begun = Instant::now();
    teller
        .tell(report("checkout", "r1", ReportState::Completed))
        .await
        .unwrap();
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "GitHub was not left alone until the reset"
    );
    let journal = github.control("journal", &json!({})).await;
    let refused = journal
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["status"] == 403)
        .count();
    assert_eq!(refused, 1, "{journal:#}");
    github.verify().await;
}

#[tokio::test]
async fn a_revoked_token_is_made_anew_without_delay() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    teller
        .tell(report("checkout", "r1", ReportState::Stepping))
        .await
        .unwrap();
    github.control("revoke", &json!({})).await;
    teller
        .tell(report("checkout", "r1", ReportState::Completed))
        .await
        .unwrap();

    assert_eq!(github.control("state", &json!({})).await["minted"], 2);
    assert_eq!(teller.reporter.counters().put_off, 0);
    assert_eq!(states(&github.deployments().await[0]), ["in_progress", "success"]);
    github.verify().await;
}

#[tokio::test]
async fn a_token_about_to_expire_is_made_anew() {
    let github = Standin::start().await;
    github.control("set", &json!({"tokenSeconds": 30})).await;
    let teller = reporter(&github).await;
    teller
        .tell(report("checkout", "r1", ReportState::Stepping))
        .await
        .unwrap();
    let minted = github.control("state", &json!({})).await["minted"].as_u64().unwrap();
    assert!(minted > 1, "a token with 30 s left was used again");
    github.verify().await;
}

#[tokio::test]
async fn an_enterprise_server_is_spoken_to_under_its_prefix_page_by_page() {
    let github = Standin::start_at("/api/v3").await;
    let teller = reporter(&github).await;
    teller
        .tell(report("checkout", "r1", ReportState::Stepping))
        .await
        .unwrap();
    // A hundred later deployments of others push ours to the second page.
    for _ in 0..100 {
        let post = github.http.post(format!("{}/repos/acme/shop/deployments", github.url));
        let body = json!({"ref": SHA, "required_contexts": [], "auto_merge": false});
        let answer = post
            .bearer_auth("ghp_other")
            .header("user-agent", "test")
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
    }
    let restarted = reporter(&github).await;
    let found = restarted.tell(report("checkout", "r1", ReportState::Completed)).await;
    let all = github.deployments().await;
    assert_eq!((all.len(), found), (101, Some(id(&all[100]))));
    assert_eq!(states(&all[100]), ["in_progress", "success"]);
    github.verify().await;
}

#[tokio::test]
async fn everything_ends_in_the_right_state_after_github_was_away() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    github.fault(json!({"kind": "drop", "times": 1_000_000})).await;
    let ends = [
        ("cart", ReportState::Completed, "success"),
        ("checkout", ReportState::Aborted, "failure"),
        ("search", ReportState::Stepping, "in_progress"),
    ];
    for (gate, end, _) in ends {
        for state in [ReportState::Held, ReportState::Preparing, ReportState::Stepping, end] {
            let begun = Instant::now();
            teller.reporter.submit(report(gate, "r1", state));
            assert!(begun.elapsed() < Duration::from_secs(2), "submit blocked");
        }
    }
    let waits = |outcome: &Outcome| {
        matches!(
            outcome.told,
            Told::Waiting {
                reason: "GitHubAway",
                ..
            }
        )
    };
    for (gate, _, _) in ends {
        teller.until(&format!("uid-{gate}"), waits).await;
    }
    assert_eq!(github.deployments().await.len(), 0);
    github.control("heal", &json!({})).await;
    let done = |outcome: &Outcome| matches!(outcome.told, Told::Done { .. });
    for (gate, _, _) in ends {
        teller.until(&format!("uid-{gate}"), done).await;
    }

    let all = github.deployments().await;
    assert_eq!(all.len(), 3);
    for (gate, _, word) in ends {
        let one = all
            .iter()
            .find(|one| one["payload"]["tollgate"]["uid"] == format!("uid-{gate}"))
            .unwrap();
        assert_eq!(states(one), [word], "{gate}: what was overtaken is not told");
    }
    let counters = teller.reporter.counters();
    assert_eq!(
        (counters.posted, counters.dropped, counters.waiting),
        (3, 0, 0),
        "{counters:?}"
    );
    assert!(counters.coalesced >= 8, "{counters:?}");
    github.verify().await;
}

#[tokio::test]
async fn a_restart_says_nothing_twice() {
    let github = Standin::start().await;
    let first = reporter(&github).await;
    let told = first.tell(report("checkout", "r1", ReportState::Completed)).await;
    drop(first);
    let second = reporter(&github).await;
    assert_eq!(
        second.tell(report("checkout", "r1", ReportState::Completed)).await,
        told
    );
    let counters = second.reporter.counters();
    assert_eq!((counters.posted, counters.unchanged), (0, 1));
    assert_eq!((github.calls(CREATE).await, github.calls(STATUS).await), (1, 1));
    github.verify().await;
}

#[tokio::test]
async fn a_complete_release_ends_the_older_ones_of_its_gate_alone() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    let aborted = teller.tell(report("checkout", "r0", ReportState::Aborted)).await;
    let older = teller.tell(report("checkout", "r1", ReportState::Completed)).await;
    let left_over = teller.tell(report("checkout", "r2", ReportState::Stepping)).await;
    let neighbour = teller.tell(report("cart", "r1", ReportState::Completed)).await;
    let newest = teller.tell(report("checkout", "r3", ReportState::Completed)).await;
    // An operator that restarts tells the older state again: it stays ended.
    let restarted = reporter(&github).await;
    restarted.tell(report("checkout", "r1", ReportState::Completed)).await;

    let all = github.deployments().await;
    let of = |wanted: Option<u64>| states(all.iter().find(|one| Some(id(one)) == wanted).unwrap());
    assert_eq!(of(aborted), ["failure"]);
    assert_eq!(of(older), ["success", "inactive"]);
    assert_eq!(of(left_over), ["in_progress", "inactive"]);
    assert_eq!(of(neighbour), ["success"]);
    assert_eq!(of(newest), ["success"]);
    github.verify().await;
}

#[tokio::test]
async fn a_revision_superseded_before_github_knew_it_stays_unknown() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    assert_eq!(
        teller.tell(report("checkout", "r1", ReportState::Superseded)).await,
        None
    );
    assert_eq!(github.deployments().await.len(), 0);
    teller
        .tell(report("checkout", "r2", ReportState::Stepping))
        .await
        .unwrap();
    teller
        .tell(report("checkout", "r2", ReportState::Superseded))
        .await
        .unwrap();
    assert_eq!(states(&github.deployments().await[0]), ["in_progress", "inactive"]);
    github.verify().await;
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_given_up_with_a_reason() {
    let github = Standin::start().await;
    let teller = reporter(&github).await;
    let good = report("checkout", "r1", ReportState::Stepping);

    let elsewhere = Report {
        repository: "acme/unknown".into(),
        ..good.clone()
    };
    let (reason, message) = teller.refused(elsewhere).await;
    assert_eq!(reason, "GitHubNotFound", "{message}");

    teller.tell(report("other", "r1", ReportState::Stepping)).await.unwrap();
    let (reason, message) = teller
        .refused(Report {
            sha: "f".repeat(40),
            ..good.clone()
        })
        .await;
    assert_eq!(
        (reason, message.contains("No ref found")),
        ("GitHubInvalid", true),
        "{message}"
    );

    let (reason, message) = teller
        .refused(Report {
            sha: "main".into(),
            ..good.clone()
        })
        .await;
    assert_eq!(
        (reason, message.contains("40 lower-case")),
        ("GitHubReportInvalid", true),
        "{message}"
    );

    let token = Credentials::Token("wrong-and-secret".into());
    let stranger = Teller::start(&github.settings(token), quick());
    let (reason, message) = stranger.refused(good.clone()).await;
    assert_eq!(
        (reason, message.contains("secret")),
        ("GitHubCredentials", false),
        "{message}"
    );

    github
        .control("set", &json!({"permissions": {"metadata": "read"}}))
        .await;
    let unprivileged = reporter(&github).await;
    let (reason, message) = unprivileged.refused(good.clone()).await;
    assert_eq!(
        (reason, message.contains("permissions requested")),
        ("GitHubInvalid", true),
        "{message}"
    );

    github
        .control("set", &json!({"permissions": {"deployments": "write"}}))
        .await;
    unprivileged
        .tell(good)
        .await
        .expect("the same report is told once the cause is gone");
    github.verify().await;
}

#[tokio::test]
async fn a_repository_that_moved_is_given_up_and_said_so() {
    for status in [301, 307] {
        let github = Standin::start().await;
        let teller = reporter(&github).await;
        let headers = json!({"location": format!("{}/repos/acme/shop/deployments", github.url)});
        github
            .fault(json!({"operation": CREATE, "status": status, "headers": headers}))
            .await;
        let (reason, message) = teller.refused(report("checkout", "r1", ReportState::Stepping)).await;
        assert_eq!(
            (reason, message.contains("called now")),
            ("GitHubMoved", true),
            "{status} {message}"
        );
        github.verify().await;
    }
}

#[tokio::test]
async fn a_token_of_a_person_is_enough() {
    let github = Standin::start().await;
    let teller = Teller::start(&github.settings(Credentials::Token("ghp_person".into())), quick());
    teller
        .tell(report("checkout", "r1", ReportState::Completed))
        .await
        .unwrap();
    assert_eq!(states(&github.deployments().await[0]), ["success"]);
    github.verify().await;
}

#[tokio::test]
async fn writes_keep_their_distance() {
    let github = Standin::start().await;
    let apart = Duration::from_millis(300);
    let teller = Teller::start(
        &github.settings(github.app().await),
        Pacing {
            between_writes: apart,
            ..quick()
        },
    );
    let begun = Instant::now();
    teller
        .tell(report("checkout", "r1", ReportState::Stepping))
        .await
        .unwrap();
    teller
        .tell(report("checkout", "r1", ReportState::Completed))
        .await
        .unwrap();
    assert!(
        begun.elapsed() >= 2 * apart,
        "three writes within {:?}",
        begun.elapsed()
    );
    github.verify().await;
}
