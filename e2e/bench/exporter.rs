//! Traffic as Traefik would count it, shared between the arms as the routes say at that moment.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use axum::Router;
use axum::routing::get;

use crate::fakes::World;

const ADDRESS: &str = "127.0.0.1:9900";

/// Requests per second to an app: so many that every step has its minimum sample at once.
const RATE: f64 = 50_000.0;

/// Share of requests that fail, and that a bad canary fails.
const FAILING: [f64; 2] = [0.001, 0.3];

/// Bucket edges in seconds, and the share of requests below each.
const BUCKETS: [(&str, f64); 6] = [
    ("0.005", 0.2),
    ("0.01", 0.5),
    ("0.05", 0.9),
    ("0.1", 0.97),
    ("0.5", 0.999),
    ("+Inf", 1.0),
];

/// Requests that were answered, and those of them that failed; stable's first.
#[derive(Debug)]
pub struct Traffic {
    until: Instant,
    served: [f64; 2],
    failed: [f64; 2],
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            until: Instant::now(),
            served: [0.0; 2],
            failed: [0.0; 2],
        }
    }
}

impl Traffic {
    /// Lets the time since it was called last pass at a weight in percent.
    pub fn advance(&mut self, weight: f64, canary_is_bad: bool) {
        let requests = RATE * self.until.elapsed().as_secs_f64();
        self.until = Instant::now();
        for (arm, share) in [1.0 - weight / 100.0, weight / 100.0].into_iter().enumerate() {
            let failing = FAILING[usize::from(arm == 1 && canary_is_bad)];
            self.served[arm] += requests * share;
            self.failed[arm] += requests * share * failing;
        }
    }
}

/// Answers scrapes.
pub async fn serve(world: World) {
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let metrics = async move || {
        let mut text = format!("process_start_time_seconds {started}\n");
        for (app, flow) in world.lock().unwrap().iter_mut() {
            flow.traffic.advance(flow.weight(), flow.is_bad);
            for (arm, suffix) in ["", "-canary"].into_iter().enumerate() {
                if flow.traffic.served[arm] > 0.0 {
                    let service = format!("{app}-{app}{suffix}-http-80@kubernetesgateway");
                    write(&mut text, &service, flow.traffic.served[arm], flow.traffic.failed[arm]);
                }
            }
        }
        text
    };
    let listener = tokio::net::TcpListener::bind(ADDRESS).await.expect(ADDRESS);
    axum::serve(listener, Router::new().route("/metrics", get(metrics)))
        .await
        .expect("the exporter");
}

fn write(text: &mut String, service: &str, served: f64, failed: f64) {
    for (code, requests) in [("200", served - failed), ("500", failed)] {
        let requests = requests.floor();
        let labels = format!(r#"code="{code}",method="GET",protocol="http",service="{service}""#);
        writeln!(text, "traefik_service_requests_total{{{labels}}} {requests}").unwrap();
        let name = "traefik_service_request_duration_seconds";
        for (edge, share) in BUCKETS {
            let below = (requests * share).floor();
            writeln!(text, r#"{name}_bucket{{{labels},le="{edge}"}} {below}"#).unwrap();
        }
        writeln!(text, "{name}_count{{{labels}}} {requests}").unwrap();
    }
}

/// Tells the rig's Prometheus where to scrape, and to log its queries.
pub async fn announce(rig: &Path) {
    let targets = rig.join("conf/prometheus-targets.d");
    std::fs::write(targets.join("bench.tmp"), format!(r#"[{{"targets": ["{ADDRESS}"]}}]"#)).expect("targets");
    std::fs::rename(targets.join("bench.tmp"), targets.join("bench.json")).expect("targets");
    let conf = rig.join("conf/prometheus.yaml");
    let text = std::fs::read_to_string(&conf).expect("the configuration of Prometheus");
    let log = rig.join("log/queries.log");
    let logged = text.replacen(
        "global: {",
        &format!("global: {{query_log_file: {}, ", log.display()),
        1,
    );
    std::fs::write(&conf, logged).expect("the configuration of Prometheus");
    let reload = reqwest::Client::new().post("http://198.18.0.1:9090/-/reload").send();
    reload
        .await
        .and_then(reqwest::Response::error_for_status)
        .expect("Prometheus reloads");
}
