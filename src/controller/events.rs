//! Kubernetes events: a courtesy copy of what happened to a gate, for `kubectl describe`.
//!
//! Telling is never part of a pass: a note goes into a bounded queue, one task publishes, and a
//! failure is logged and forgotten. What is worth an event is fixed: every change of the weight,
//! and the holds that a person should look at. A release of five steps makes at most seven: one
//! per step, the commit point, and the end.
//!
//! The recorder merges events of equal type, reason and action within six minutes and keeps the
//! first text, so step and attempt are part of the action.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::audit::plain;
use crate::decision::{Outcome, Reason, Record};

/// The longest text of an event, in bytes: the API server refuses more.
pub const NOTE_MAX: usize = 1024;

/// The name under which events are reported.
const CONTROLLER: &str = "tollgate";

/// Events waiting to be published.
const QUEUE: usize = 1024;

/// The longest one publication may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gates whose last hold is remembered; when full, a hold may be told twice.
const REMEMBERED: usize = 10_000;

/// The way to tell. Cheap to clone; never blocks and never fails.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Told>,
}

/// The task behind [`Events`]: to be run beside the controller.
pub struct Publisher {
    queue: mpsc::Receiver<Told>,
    recorder: Recorder,
    /// The hold each gate was last told about, by the gate's uid.
    holds: HashMap<String, Hold>,
}

#[derive(Debug)]
struct Told {
    gate: ObjectReference,
    hold: Option<Hold>,
    event: Note,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hold {
    epoch: i64,
    step: usize,
    reason: Reason,
}

#[derive(Debug)]
struct Note {
    warning: bool,
    reason: Reason,
    action: String,
    text: String,
}

impl Events {
    /// Makes the handle and its task. `pod` names this replica.
    #[must_use]
    pub fn new(client: Client, pod: Option<String>) -> (Self, Publisher) {
        let reporter = Reporter {
            controller: CONTROLLER.into(),
            instance: pod,
        };
        let (sender, queue) = mpsc::channel(QUEUE);
        let publisher = Publisher {
            queue,
            recorder: Recorder::new(client, reporter),
            holds: HashMap::new(),
        };
        (Self { queue: sender }, publisher)
    }

    /// Tells a decision that has been carried out: once per acknowledged change of a route.
    pub fn decided(&self, gate: &ObjectReference, epoch: i64, record: &Record) {
        let sentence = record.reason.sentence();
        let numbers = record.rule.strip_prefix(sentence).unwrap_or(&record.rule);
        let text = format!(
            "{} of {} at step {}: {} to {}: {sentence} {numbers}",
            record.outcome.word(),
            record.revision,
            record.step + 1,
            record.from,
            record.to,
        );
        let text = text.trim_end().to_owned();
        self.tell(Told {
            gate: gate.clone(),
            hold: None,
            event: Note {
                warning: record.outcome == Outcome::Abort,
                reason: record.reason,
                action: action(record.outcome, record.step, epoch),
                text,
            },
        });
    }

    /// Tells a hold, when a person should know and has not been told: call it in every pass.
    /// `message` says what was found, with names and numbers.
    pub fn held(&self, gate: &ObjectReference, epoch: i64, step: usize, reason: Reason, message: &str) {
        if reason.is_ordinary() {
            return;
        }
        self.tell(Told {
            gate: gate.clone(),
            hold: Some(Hold { epoch, step, reason }),
            event: Note {
                warning: true,
                reason,
                action: action(Outcome::Hold, step, epoch),
                text: format!("{} {message}", reason.sentence()),
            },
        });
    }

    fn tell(&self, told: Told) {
        if let Err(full) = self.queue.try_send(told) {
            tracing::warn!(reason = full.into_inner().event.reason.word(), "an event was dropped");
        }
    }
}

/// The step in the action keeps the events of different steps apart.
fn action(outcome: Outcome, step: usize, epoch: i64) -> String {
    format!("{}Step{}Attempt{epoch}", outcome.word(), step.saturating_add(1))
}

impl Publisher {
    /// Publishes until every [`Events`] is gone.
    pub async fn run(mut self) {
        while let Some(told) = self.queue.recv().await {
            if self.fresh(&told) {
                self.publish(told).await;
            }
        }
    }

    /// Whether this is not the hold that the gate was last told about. A decision ends a hold.
    fn fresh(&mut self, told: &Told) -> bool {
        let gate = told.gate.uid.clone().unwrap_or_default();
        let Some(hold) = &told.hold else {
            self.holds.remove(&gate);
            return true;
        };
        if self.holds.get(&gate) == Some(hold) {
            return false;
        }
        if self.holds.len() >= REMEMBERED {
            self.holds.clear();
        }
        self.holds.insert(gate, hold.clone());
        true
    }

    async fn publish(&self, told: Told) {
        let event = Event {
            type_: if told.event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: told.event.reason.word().into(),
            note: Some(plain(&told.event.text, NOTE_MAX)),
            action: told.event.action,
            secondary: None,
        };
        let published = tokio::time::timeout(PATIENCE, self.recorder.publish(&event, &told.gate)).await;
        match published {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "an event could not be published"),
            Err(_elapsed) => tracing::warn!(reason = event.reason, "an event could not be published in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::decision::{Millis, Percent, Revision};

    /// Collects what is published; answers every request with a code.
    fn api(code: u16) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let log = Arc::clone(&seen);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect_bytes().await?;
                log.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                let answer = if code < 300 {
                    body.to_vec()
                } else {
                    json!({"kind": "Status", "code": code}).to_string().into_bytes()
                };
                let answer = http::Response::builder().status(code).body(Body::from(answer));
                Ok::<_, kube::Error>(answer.unwrap())
            }
        });
        (Client::new(service, "shop"), seen)
    }

    fn gate(uid: &str) -> ObjectReference {
        ObjectReference {
            name: Some("checkout".into()),
            namespace: Some("shop".into()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        }
    }

    fn decision(outcome: Outcome, reason: Reason, step: usize, rule: &str) -> Record {
        Record {
            id: format!("3-{step}"),
            at: Millis(0),
            outcome,
            reason,
            revision: Revision("a1b2c3d4e5".into()),
            step,
            from: Percent::ZERO,
            to: Percent::ALL,
            rule: rule.into(),
            evidence_hash: String::new(),
            policy_hash: String::new(),
            by: None,
        }
    }

    async fn published(code: u16, tell: impl FnOnce(&Events)) -> Vec<Value> {
        let (client, seen) = api(code);
        let (events, publisher) = Events::new(client, Some("tollgate-0".into()));
        tell(&events);
        drop(events);
        publisher.run().await;
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[tokio::test]
    async fn a_release_of_five_steps_makes_seven_events_and_none_is_merged() {
        let told = published(201, |events| {
            let gate = gate("one");
            for step in 0..5 {
                let reason = if step == 0 { Reason::Started } else { Reason::Safe };
                events.decided(&gate, 3, &decision(Outcome::Promote, reason, step, "safe"));
                for waiting in [
                    Reason::RouteNotProgrammed,
                    Reason::MinWindow,
                    Reason::TooFew,
                    Reason::Undecided,
                ] {
                    events.held(&gate, 3, step, waiting, "waiting");
                }
            }
            events.decided(
                &gate,
                3,
                &decision(Outcome::Promote, Reason::Committed, 4, "all passed"),
            );
            events.decided(&gate, 3, &decision(Outcome::Promote, Reason::Completed, 4, "done"));
        })
        .await;
        assert_eq!(told.len(), 7);
        let mut actions: Vec<_> = told.iter().map(|event| (&event["action"], &event["reason"])).collect();
        assert!(
            told.iter()
                .all(|event| event["series"].is_null() && event["type"] == "Normal")
        );
        assert_eq!(actions[1], (&json!("PromoteStep2Attempt3"), &json!("Safe")));
        actions.dedup();
        assert_eq!(actions.len(), 7);
    }

    #[tokio::test]
    async fn a_hold_is_told_once_until_it_changes_or_a_decision_ends_it() {
        let told = published(201, |events| {
            let (one, two) = (gate("one"), gate("two"));
            for _pass in 0..50 {
                events.held(&one, 1, 2, Reason::NoEvidence, "the source does not answer");
                events.held(&two, 1, 2, Reason::NoEvidence, "the source does not answer");
            }
            events.held(&one, 1, 2, Reason::Suspended, "");
            events.held(&one, 1, 2, Reason::Suspended, "");
            events.decided(&one, 1, &decision(Outcome::Abort, Reason::Harm, 2, "http-errors 3.1x"));
            events.held(&one, 1, 2, Reason::ForeignEdit, "by kubectl");
        })
        .await;
        let words: Vec<_> = told.iter().map(|event| event["reason"].as_str().unwrap()).collect();
        assert_eq!(words, ["NoEvidence", "NoEvidence", "Suspended", "Harm", "ForeignEdit"]);
        assert!(told.iter().all(|event| event["type"] == "Warning"));
    }

    #[tokio::test]
    async fn hostile_text_is_one_bounded_line() {
        let hostile = format!("\u{1b}[2J\n{}", "x😀".repeat(1 << 18));
        let told = published(201, |events| {
            events.decided(&gate("one"), 1, &decision(Outcome::Abort, Reason::Harm, 0, &hostile));
            events.held(&gate("one"), 1, 0, Reason::Preflight, &hostile);
        })
        .await;
        for event in &told {
            let note = event["note"].as_str().unwrap();
            assert!(note.len() <= NOTE_MAX && !note.chars().any(char::is_control), "{note}");
        }
        assert_eq!(told.len(), 2);
    }

    #[tokio::test]
    async fn a_refusal_or_a_full_queue_stops_nothing() {
        let gate = gate("one");
        let told = published(403, |events| {
            for step in 0..2 * QUEUE {
                events.decided(&gate, 1, &decision(Outcome::Promote, Reason::Safe, step, ""));
            }
        })
        .await;
        assert_eq!(told.len(), QUEUE, "the rest was dropped and nothing waited");
    }

    #[test]
    fn every_hold_told_has_a_short_reason_and_action() {
        for reason in Reason::ALL {
            assert!(reason.word().len() <= 128);
        }
        assert!(action(Outcome::Promote, usize::MAX, i64::MAX).len() <= 128);
    }
}
