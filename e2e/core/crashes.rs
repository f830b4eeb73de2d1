//! The operator dies at every named write: before it, when the API server has acted, and after the
//! answer. Started again, it comes to the same end as one that was left alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tollgate::controller::crash::Moment;

use super::passing::nothing_is_left;
use crate::support::objects::{autoscaler, with};
use crate::support::operator::{Operator, Start};
use crate::support::space::{Space, played};
use crate::support::{PATIENCE, eventually};

/// A release from its gate's creation to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    /// It passes.
    Promoted,
    /// It fails on the numbers.
    Rejected,
    /// A person ends it.
    Asked,
    /// Its gate is deleted in flight.
    Deleted,
}

/// The ends that nothing disturbed.
static ENDS: [OnceCell<Value>; 4] = [const { OnceCell::const_new() }; 4];

impl Story {
    const fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Rejected => "rejected",
            Self::Asked => "asked",
            Self::Deleted => "deleted",
        }
    }

    async fn undisturbed(self) -> &'static Value {
        let tell = async || tell(self, None).await;
        ENDS[self as usize].get_or_init(tell).await
    }

    /// Two steps are enough to have a first weight, a raise and a commit point.
    fn gate(self, space: &Space) -> Value {
        let stay = if self == Self::Asked || self == Self::Deleted {
            "10m"
        } else {
            "1s"
        };
        let steps = json!([{"weight": 50, "minWindow": stay, "maxWindow": "20m"}, {"weight": 100, "minWindow": "1s"}]);
        with(space.gate(), &json!({"spec": {"steps": steps}}))
    }

    /// What other people do in it, once each.
    async fn act(self, space: &Space) {
        if self == Self::Rejected {
            space.world().canary_fails(0.2);
        }
        space.push("v2").await;
        let first = |status: &Value| status["attempt"]["window"].is_string();
        match self {
            Self::Promoted | Self::Rejected => {}
            Self::Asked => {
                space.until_gate("the first window", first).await;
                space.ask("Abort").await;
            }
            Self::Deleted => {
                space.until_gate("the first window", first).await;
                space.delete("ReleaseGate", "checkout").await;
            }
        }
    }

    /// Whether it is over.
    async fn ended(self, space: &Space, adopted: &Value) -> Result<(), String> {
        let gate = space.get("ReleaseGate", "checkout").await;
        let status = gate.as_ref().map_or(&Value::Null, |gate| &gate["status"]);
        let over = match self {
            Self::Promoted => {
                status["attempt"].is_null() && status["stable"].is_string() && status["stable"] != *adopted
            }
            Self::Rejected | Self::Asked => status["attempt"]["stage"] == "Rejected",
            Self::Deleted => gate.is_none(),
        };
        if over { Ok(()) } else { Err(status.to_string()) }
    }
}

/// Tells a story; an operator that dies is started again without the order to die. Says how it ended.
async fn tell(story: Story, crash: Option<&str>) -> Value {
    let end = std::cell::OnceCell::new();
    let name = format!(
        "crash-{}-{}",
        story.name(),
        crash.unwrap_or("never").replace(['.', ':'], "-")
    );
    played(&name, async |space| {
        space.team(2).await;
        space.apply(&autoscaler(2)).await;
        space.apply(&story.gate(space)).await;
        let start = Start::named("one");
        let start = crash.map_or(start.clone(), |crash| start.env("TOLLGATE_CRASH", crash));
        let mut watched = Watched {
            space,
            operator: space.operator_as(&start).await,
            deaths: 0,
        };
        let adopted = watched
            .until("adoption", async || {
                let status = &space.the("ReleaseGate", "checkout").await["status"];
                let stable = status["stable"].clone();
                if stable.is_string() {
                    Ok(stable)
                } else {
                    Err(status.to_string())
                }
            })
            .await;
        watched.during(story.act(space)).await;
        watched
            .until("the end", async || story.ended(space, &adopted).await)
            .await;
        if crash.is_some() && watched.deaths == 0 {
            let last = tokio::time::timeout(PATIENCE, watched.revive()).await;
            last.unwrap_or_else(|_| panic!("{crash:?} is not reached"));
        }
        if story == Story::Promoted {
            space.until_rolled_out("v2").await;
        }
        nothing_is_left(space).await;
        let weights = space.weights().await;
        let fallen = weights
            .iter()
            .position(|weight| *weight == Some(0))
            .unwrap_or(weights.len());
        assert!(
            weights.iter().skip(fallen).all(|weight| weight.unwrap_or(0) == 0),
            "no raise after an abort: {weights:?}"
        );
        assert!(space.world().lost() < 1.0, "no request found a service without pods");
        end.set(settled(space).await).unwrap();
    })
    .await;
    end.into_inner().unwrap()
}

/// Somebody who starts the operator again when it has died.
struct Watched<'a> {
    space: &'a Space,
    operator: Operator,
    deaths: u32,
}

impl Watched<'_> {
    async fn revive(&mut self) {
        while self.operator.until_dead(PATIENCE).await.is_none() {}
        self.deaths += 1;
        assert!(
            self.deaths < 2,
            "it died again; its log is {}",
            self.operator.log().display()
        );
        self.operator = self.space.operator_as(&Start::named("one")).await;
    }

    /// Goes on until something is done, dead or alive.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.revive() => {}
            }
        }
    }

    async fn until<T>(&mut self, what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
        self.during(eventually(what, PATIENCE, look)).await
    }
}

/// What is there at the end, without times and numbers that differ between equal ends. Waits until it
/// no longer changes.
async fn settled(space: &Space) -> Value {
    let mut last = snapshot(space).await;
    let mut since = Instant::now();
    eventually("the end stays the end", PATIENCE, async || {
        let now = snapshot(space).await;
        if now != last {
            last = now.clone();
            since = Instant::now();
        }
        if since.elapsed() > Duration::from_secs(2) {
            Ok(now)
        } else {
            Err(now.to_string())
        }
    })
    .await
}

async fn snapshot(space: &Space) -> Value {
    let mut all = json!({});
    for kind in [
        "Deployment",
        "Service",
        "HTTPRoute",
        "HorizontalPodAutoscaler",
        "ReleaseGate",
    ] {
        for object in space.list(kind).await {
            let meta = &object["metadata"];
            let keys = |map: &Value| -> Vec<String> {
                let keys = map.as_object().into_iter().flat_map(|map| map.keys().cloned());
                keys.filter(|key| key.contains("tollgate.dev")).collect()
            };
            let status = &object["status"];
            let name = format!("{kind}/{}", meta["name"].as_str().unwrap());
            all[name] = json!({
                "labels": meta["labels"], "annotations": keys(&meta["annotations"]), "finalizers": meta["finalizers"],
                "spec": if kind == "ReleaseGate" || kind == "Service" { Value::Null } else { object["spec"].clone() },
                "stable": status["stable"], "revision": status["revision"], "weight": status["weight"],
                "epoch": status["epoch"], "stage": status["attempt"]["stage"], "why": status["attempt"]["why"],
            });
        }
    }
    all["analyses"] = json!(space.list("CanaryAnalysis").await.len());
    let text = all.to_string().replace(&space.name, "space");
    serde_json::from_str(&text).unwrap()
}

/// Dies at each moment of the nth time that a write of this name is made, and compares the ends.
async fn dies_at(write: &str, nth: u32, stories: &[Story]) {
    for story in stories {
        let whole = story.undisturbed().await;
        for moment in Moment::ALL {
            let point = format!("{write}.{}:{nth}", moment.word());
            let end = tell(*story, Some(&point)).await;
            assert_eq!(end, *whole, "{} after {point}", story.name());
        }
    }
}

macro_rules! crashes {
    ($($test:ident: $write:literal, $nth:literal, [$($story:ident),+];)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                dies_at($write, $nth, &[$(Story::$story),+]).await;
            }
        )+
    };
}

crashes! {
    at_the_adoption: "adopt", 1, [Promoted];
    at_the_finalizer: "finalizer", 1, [Promoted];
    at_the_end_of_the_finalizer: "finalizer", 2, [Deleted];
    at_the_freeze: "freeze", 1, [Promoted, Rejected];
    at_the_guard_of_stable: "guard-stable", 1, [Promoted, Rejected];
    at_the_end_of_the_guard: "guard-stable", 2, [Promoted, Rejected];
    at_the_canary: "scale-canary", 1, [Promoted, Rejected];
    at_the_first_weight: "write-route", 1, [Promoted, Rejected];
    at_the_second_weight_or_the_abort: "write-route", 2, [Promoted, Rejected];
    at_the_commit_point: "write-route", 3, [Promoted];
    at_the_release_of_the_hold: "release", 1, [Promoted];
    at_the_restoration: "restore", 1, [Promoted, Rejected];
    at_the_hand_back: "hand-back", 1, [Promoted, Rejected];
    at_the_removal: "remove", 1, [Promoted, Rejected];
    at_the_first_status: "status", 1, [Promoted];
    at_a_later_status: "status", 4, [Promoted, Rejected];
    at_the_answer: "answer", 1, [Asked];
    at_the_record: "analysis-status", 1, [Promoted, Rejected];
    at_the_lease: "lease", 1, [Promoted];
    at_a_renewal_of_the_lease: "lease", 4, [Promoted];
    at_the_disowning: "disown", 1, [Deleted];
}
