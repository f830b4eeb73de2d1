//! Releases of what runs already: whoever looks at every tick and takes chance for harm aborts some of them.

use futures::future::join_all;
use serde_json::{Value, json};

use super::passing::nothing_is_left;
use crate::support::objects::with;
use crate::support::space::{Space, played};
use crate::support::{PATIENCE, eventually};

/// Services that release at the same time, and how often each does.
const TEAMS: usize = 5;
const RELEASES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_releases_that_change_nothing_are_all_promoted_though_every_tick_is_looked_at() {
    let teams = (0..TEAMS).map(|team| async move {
        let name = format!("alike-{team}");
        played(&name, async |space| released(space, team).await).await;
    });
    join_all(teams).await;
}

/// One service after another release of itself; each request fails by chance, with the same chance everywhere.
async fn released(space: &Space, team: usize) {
    space.world().fails_by_chance(0.01, team);
    space.team(2).await;
    let _operator = space.operator().await;
    let longer = json!({"spec": {"analysis": {"minWindow": "5s"}}});
    space.adopted(&with(space.gate(), &longer)).await;
    for release in 2..2 + RELEASES {
        let before = space.the("ReleaseGate", "checkout").await["status"]["stable"].clone();
        space.push(&format!("v{release}")).await;
        let what = format!("release {release} of {} is promoted", space.name);
        let end = eventually(&what, PATIENCE * 6, async || {
            let status = space.the("ReleaseGate", "checkout").await["status"].clone();
            let ended =
                status["attempt"]["stage"] == "Rejected" || status["stable"] != before && status["attempt"].is_null();
            if ended { Ok(status) } else { Err(status.to_string()) }
        })
        .await;
        assert_eq!(
            end["attempt"],
            Value::Null,
            "release {release} of {}: {end}",
            space.name
        );
        nothing_is_left(space).await;
    }
}
