//! What is done and measured: rest, releases at once, aborts at once.

use std::time::{Duration, SystemTime};

use futures::StreamExt;

use crate::apps::{self, AT_ONCE, App};
use crate::report::{Wanted, quantile};
use crate::requests::{Kind, Request, by_what, count};
use crate::{Bench, fakes};
use tollgate::decision::Reason;

/// Everything but the lease: what a gate can cause.
const CAUSED: [Kind; 4] = [Kind::Read, Kind::Write, Kind::Route, Kind::Event];

/// How long a gate stays at each step once it has evidence, as its spec says.
const WINDOW: Duration = Duration::from_secs(3);

/// After an abort, requests are counted for so long; 30 s after it the drain that gates have by
/// default is over, and what is put away then is counted apart.
const AFTERMATH: Duration = Duration::from_secs(29);

impl Bench {
    /// Adds apps with pods and gates up to a number, and waits until all are adopted.
    pub async fn grow(&mut self, to: usize) {
        let new: Vec<App> = (self.apps.len()..to)
            .map(|number| App(format!("app-{number}")))
            .collect();
        apps::create_all(&self.client, new.iter().map(App::objects).collect()).await;
        self.apps.extend(new);
        apps::until_ready(&self.client, to, &[], Duration::from_secs(180)).await;
    }

    /// Adds gates that only rest; or whose Deployments have a new template that is held.
    pub async fn crowd(&mut self, namespace: &str, gates: usize, held: bool) {
        let ready = apps::gates(&self.client).await.iter().filter(apps::is_ready()).count();
        let meta = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        apps::create(&self.client, &meta).await;
        let name = |number| format!("rest-{number}");
        let sets = (0..gates).map(|number| apps::resting(&name(number), namespace, held));
        apps::create_all(&self.client, sets.collect()).await;
        apps::until_ready(&self.client, ready + gates, &[], Duration::from_secs(400)).await;
        if held {
            let names = futures::stream::iter((0..gates).map(name));
            let client = &self.client;
            names
                .for_each_concurrent(AT_ONCE, async |name| {
                    apps::push(client, (namespace, &name), "app:v2").await;
                })
                .await;
            apps::until(client, "hold a template", gates, apps::is(Reason::Suspended)).await;
        }
    }

    /// Watches the operator while nothing happens.
    pub async fn rest(&mut self, what: &str, memory_limit: f64) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let gates = apps::gates(&self.client).await.len() as f64;
        let (start, cpu) = (self.audit.end(), self.operator.cpu());
        tokio::time::sleep(Duration::from_secs(self.rest)).await;
        let requests = self.audit.since(start);
        let minutes = self.rest as f64 / 60.0;
        let name = |figure: &str| format!("{what} at rest: {figure}");
        let report = &mut self.report;
        let caused = count(&requests, &CAUSED) / gates / minutes;
        report.add(
            &name("API requests per gate-minute"),
            caused,
            Wanted::AtMost(0.0),
            "0 | 72",
        );
        let memory = self.operator.memory("VmRSS");
        report.add(
            &name("memory, MiB"),
            memory,
            Wanted::AtMost(memory_limit),
            "176 | 79 at 100",
        );
        let cpu = (self.operator.cpu() - cpu) / minutes;
        report.add(&name("CPU ms per minute"), cpu, Wanted::Nothing, "140 | 3660 at 100");
        let watches = count(&requests, &[Kind::Watch]) / minutes;
        report.add(&name("watches opened anew per minute"), watches, Wanted::Nothing, "");
        report.detail(&format!("{what} at rest, per minute"), by_what(&requests), minutes);
    }

    /// Rolls out as many Deployments without a gate, all at once: what the same cluster on the same
    /// machine takes when nobody stands between a change and its first pod.
    pub async fn roll_out(&mut self, number: usize) {
        let plain: Vec<App> = (0..number).map(|number| App(format!("plain-{number}"))).collect();
        apps::create_all(&self.client, plain.iter().map(App::ungated).collect()).await;
        self.until_pods(&plain, 2).await;
        let triggered = self.trigger("app:v2", &plain).await;
        self.until_pods(&plain, 4).await;
        let firsts = self.first_pods(&triggered);
        let name = format!("{number} rollouts without any gate: trigger to first new pod ready, s, p50");
        self.report.add(&name, quantile(&firsts, 0.5), Wanted::Nothing, "");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    /// Waits until every app has had so many ready pods.
    async fn until_pods(&self, apps: &[App], number: usize) {
        for _ in 0..1200 {
            let ready = self.ready.lock().unwrap().clone();
            let count = |app: &App| ready.get(&app.0).map_or(0, Vec::len);
            if apps.iter().all(|app| count(app) >= number) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not every app had {number} pods within 120 s");
    }

    /// How soon the first pod after the trigger was ready, s.
    fn first_pods(&self, triggered: &[(App, SystemTime)]) -> Vec<f64> {
        let ready = self.ready.lock().unwrap();
        let first = |(app, at): &(App, SystemTime)| {
            let pod = ready.get(&app.0)?.iter().filter(|pod| *pod > at).min()?;
            Some(seconds(*at, *pod))
        };
        triggered.iter().filter_map(first).collect()
    }

    /// Releases everything at once, and waits for the last one.
    pub async fn release(&mut self, what: &str, image: &str) {
        let before = apps::gates(&self.client).await;
        let (start, cpu, queries) = (self.audit.end(), self.operator.cpu(), self.audit.queries().len());
        self.operator.forget_peak();
        let triggered = self.trigger(image, &self.apps).await;
        apps::until_ready(&self.client, self.apps.len(), &before, Duration::from_secs(400)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;

        let apps = self.apps.len() as f64;
        let requests = self.audit.since(start);
        let per_app = |kinds: &[Kind]| count(&requests, kinds) / apps;
        let cpu = (self.operator.cpu() - cpu) / apps;
        let queries = (self.audit.queries().len() - queries) as f64 / apps;
        let peak = self.operator.memory("VmHWM");
        let lost = self
            .operator
            .log()
            .iter()
            .filter(|(_, line)| is_lost_event(line))
            .count() as f64;
        // one release alone shares nothing with others
        let shared = |limit| {
            if apps > 1.0 {
                Wanted::AtMost(limit)
            } else {
                Wanted::Nothing
            }
        };
        let rows = [
            ("API requests", per_app(&CAUSED), shared(40.0), "234 | 172"),
            ("reads", per_app(&[Kind::Read]), shared(5.0), "125 | 151"),
            (
                "writes, events apart",
                per_app(&[Kind::Write, Kind::Route]),
                Wanted::AtMost(30.0),
                "90 | 20",
            ),
            (
                "writes of routes",
                per_app(&[Kind::Route]),
                Wanted::AtMost(7.0),
                "45 | 5",
            ),
            ("events", per_app(&[Kind::Event]), Wanted::AtMost(7.0), "19 | 9"),
            ("queries of Prometheus", queries, shared(1.0), "13.6 | 10"),
            ("CPU ms", cpu, shared(10.0), "291 | 99"),
        ];
        for (name, figure, wanted, peers) in rows {
            self.report.add(&format!("{what}, each: {name}"), figure, wanted, peers);
        }
        let report = &mut self.report;
        report.add(
            &format!("{what}: peak memory, MiB"),
            peak,
            Wanted::AtMost(32.0),
            "176 | 79",
        );
        report.add(&format!("{what}: events lost"), lost, Wanted::AtMost(0.0), "");
        report.detail(&format!("{what}, each"), by_what(&requests), apps);
        self.times(what, &triggered, &requests);
    }

    /// Changes the image of apps, all at once.
    async fn trigger(&self, image: &str, apps: &[App]) -> Vec<(App, SystemTime)> {
        let client = &self.client;
        let triggered = futures::stream::iter(apps.to_vec()).map(|app| async move {
            let at = SystemTime::now();
            app.release(client, image).await;
            (app, at)
        });
        triggered.buffer_unordered(AT_ONCE).collect().await
    }

    /// How soon the gateway saw the first weight, and how late the writes of the others were answered.
    fn times(&mut self, what: &str, triggered: &[(App, SystemTime)], requests: &[Request]) {
        let log = self.operator.log();
        let (mut firsts, mut late, mut whole) = (vec![], vec![], vec![]);
        for (app, at) in triggered {
            let changes = self.changes(app, *at);
            firsts.extend(changes.first().map(|change| seconds(*at, change.at)));
            let end = changes.iter().find(|change| change.weight > 99.0);
            whole.extend(end.map(|change| seconds(*at, change.at)));
            let gate = format!("{0}/{0}", app.0);
            let ours = log
                .iter()
                .filter(|(when, line)| when > at && line_says(line, "gate") == Some(&gate));
            let routes = requests.iter().filter(|request| request.what.kind == Kind::Route);
            let written = routes.filter(|request| request.namespace == app.0);
            let written: Vec<SystemTime> = written.map(|request| request.answered).collect();
            for (opened, _) in ours.filter(|(_, line)| line_says(line, "reason") == Some("MinWindow")) {
                let due = *opened + WINDOW;
                let raise = written.iter().filter(|at| *at > opened).min();
                late.extend(raise.map(|raise| seconds(due, *raise)));
            }
        }
        let pods = self.first_pods(triggered);
        let measured = late.len() as f64;
        let (soon, punctual) = (Wanted::AtMost(2.5), Wanted::AtMost(0.2));
        let rows = [
            (
                "trigger to first canary pod ready, s, p50",
                &pods,
                0.5,
                Wanted::Nothing,
                "",
            ),
            ("trigger to first weight, s, p50", &firsts, 0.5, soon, "8.4 | 21"),
            ("trigger to first weight, s, p95", &firsts, 0.95, Wanted::Nothing, ""),
            ("step lateness, s, p50", &late, 0.5, Wanted::Nothing, "1.1 | 2.1"),
            ("step lateness, s, p95", &late, 0.95, punctual, "4.1 | 2.2"),
            ("trigger to 100 %, s, p50", &whole, 0.5, Wanted::Nothing, "53 | 69"),
        ];
        for (name, times, share, wanted, peers) in rows {
            let figure = quantile(times, share);
            self.report.add(&format!("{what}: {name}"), figure, wanted, peers);
        }
        self.report
            .add(&format!("{what}: steps measured"), measured, Wanted::Nothing, "");
    }

    fn changes(&self, app: &App, since: SystemTime) -> Vec<fakes::Change> {
        let world = self.world.lock().unwrap();
        let flow = world.get(&app.0).expect("the route of the app");
        flow.changes
            .iter()
            .filter(|change| change.at > since)
            .copied()
            .collect()
    }

    /// Releases some, lets all their canaries fail at 25 %, and counts what follows.
    pub async fn abort(&mut self, number: usize) {
        apps::drain_by_default(&self.client, self.apps.get(..number).expect("enough apps")).await;
        let some = self.apps.get(..number).expect("enough apps");
        let triggered = self.trigger("app:v4", some).await;
        self.until_weight(&triggered, |weight| weight > 24.0).await;
        for (app, _) in &triggered {
            self.world.lock().unwrap().get_mut(&app.0).expect("its flow").is_bad = true;
        }
        let start = self.audit.end();
        self.until_weight(&triggered, |weight| weight == 0.0).await;
        apps::until(&self.client, "have put all away", number, apps::is(Reason::Rejected)).await;
        tokio::time::sleep(Duration::from_secs(3)).await;

        let (queries, requests) = (self.audit.queries(), self.audit.since(start));
        let (mut took, mut soon, mut all) = (vec![], vec![], vec![]);
        for (app, at) in &triggered {
            let changes = self.changes(app, *at);
            let zero = changes.iter().rfind(|change| change.weight > 0.0).expect("a weight").at;
            let zero = changes.iter().find(|change| change.at > zero).expect("weight 0").at;
            let canary = format!("{0}-{0}-canary", app.0);
            let samples = queries
                .iter()
                .filter(|(at, query)| *at < zero && query.contains(&canary));
            let sample = samples.map(|(at, _)| *at).max().expect("a query");
            took.push(seconds(sample, zero));
            let ours = requests
                .iter()
                .filter(|request| request.namespace == app.0 && CAUSED.contains(&request.what.kind));
            let following: Vec<&Request> = ours.filter(|request| request.at > zero).collect();
            soon.extend(
                following
                    .iter()
                    .filter(|request| request.at <= zero + AFTERMATH)
                    .copied(),
            );
            all.extend(following);
        }
        let report = &mut self.report;
        let name = "aborts at once: deciding sample to weight 0, s,";
        report.add(
            &format!("{name} p50"),
            quantile(&took, 0.5),
            Wanted::Nothing,
            "0.52 | 12.1",
        );
        report.add(
            &format!("{name} p95"),
            quantile(&took, 0.95),
            Wanted::AtMost(0.15),
            "0.63 | 12.1",
        );
        report.add(&format!("{name} max"), quantile(&took, 1.0), Wanted::Nothing, "");
        let (each, name) = (number as f64, "per abort: API requests in the 30 s after weight 0");
        report.add(name, soon.len() as f64 / each, Wanted::AtMost(5.0), "1200 | 48");
        let name = "per abort: API requests after weight 0, all put away";
        report.add(name, all.len() as f64 / each, Wanted::Nothing, "");
        report.detail("the 30 s after an abort", by_what(soon), each);
        report.detail("an abort after weight 0, to its end", by_what(all), each);
    }

    async fn until_weight(&self, triggered: &[(App, SystemTime)], is_there: fn(f64) -> bool) {
        for _ in 0..2400 {
            let there = triggered.iter().all(|(app, at)| {
                let changes = self.changes(app, *at);
                changes.last().is_some_and(|change| is_there(change.weight))
            });
            if there {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the weights did not come within 120 s");
    }
}

fn is_lost_event(line: &serde_json::Value) -> bool {
    let message = line_says(line, "message").unwrap_or_default();
    message.starts_with("an event was dropped") || message.starts_with("an event could not be published")
}

fn line_says<'a>(line: &'a serde_json::Value, field: &str) -> Option<&'a str> {
    line[field].as_str().or_else(|| line["fields"][field].as_str())
}

/// From one moment to another; negative, when it was the other way round.
fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(time) => time.as_secs_f64(),
        Err(back) => -back.duration().as_secs_f64(),
    }
}
