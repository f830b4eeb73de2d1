//! One task per evidence source and turn: wait for the tick, read it for all its releases, hand it to
//! the judge.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use crate::api::EvidenceSource;
use crate::decision::{Evidence, Gap, GapKind};
use crate::http;
use crate::serve::{Metrics, SourceKind};
use crate::sources::{Answer, Collected, ConnectionSpec, Plane, SecretRef};

use super::context::{Context, Error, bounded};
use super::judge::Turn;

/// How often the list of turns is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Runs a task for every turn that a release has, while this process leads.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut tasks: HashMap<Turn, tokio::task::JoinHandle<()>> = HashMap::new();
    while !stop.is_cancelled() {
        tasks.retain(|_, task| !task.is_finished());
        for turn in context.judge.turns() {
            let served = turn.clone();
            tasks
                .entry(turn)
                .or_insert_with(|| tokio::spawn(serve(Arc::clone(&context), served, stop.clone())));
        }
        tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = stop.cancelled() => {} }
    }
    for task in tasks.into_values() {
        task.abort();
    }
}

/// Reads tick after tick from one source until no release has this turn any more.
async fn serve(context: Arc<Context>, turn: Turn, stop: CancellationToken) {
    let mut plane: Option<(String, Plane)> = None;
    while !stop.is_cancelled() {
        let asking = context.judge.subscriptions(&turn);
        if asking.is_empty() {
            return;
        }
        if let Err(gap) = connect(&context, &turn, &mut plane).await {
            for (key, subscription) in &asking {
                context.judge.observe(key, unanswered(subscription.metrics.len(), &gap));
            }
            tokio::select! { () = tokio::time::sleep(Duration::from_secs(5)) => {}, () = stop.cancelled() => {} }
            continue;
        }
        let Some((_, plane)) = &mut plane else { return };
        let wait = u64::try_from((plane.next(context.now()) - context.now()).0).unwrap_or(0);
        tokio::select! { () = tokio::time::sleep(Duration::from_millis(wait)) => {}, () = stop.cancelled() => return }
        let asking = context.judge.subscriptions(&turn);
        let subscriptions: Vec<_> = asking.iter().map(|(_, subscription)| subscription.clone()).collect();
        let collected = plane.collect(context.now(), &subscriptions).await;
        count(&context.metrics, plane);
        hand_over(&context, &asking, collected);
        save(&context).await;
    }
}

/// Counts the queries of a tick by what came of them.
fn count(metrics: &Metrics, plane: &mut Plane) {
    for (gap, times) in plane.outcomes() {
        metrics.queried(SourceKind::Prometheus, gap, times);
    }
}

/// Gives every release its answers.
fn hand_over(
    context: &Context,
    asking: &[(super::memory::GateKey, crate::sources::Subscription)],
    collected: Vec<Collected>,
) {
    let mut by_gate: HashMap<String, Vec<Answer>> = collected
        .into_iter()
        .map(|collected| (collected.gate, collected.metrics))
        .collect();
    for (key, subscription) in asking {
        if let Some(answers) = by_gate.remove(&subscription.gate) {
            if let Some(age) = answers.iter().filter_map(|answer| answer.age).max() {
                context
                    .metrics
                    .judged(Duration::from_millis(u64::try_from(age.0).unwrap_or(0)));
            }
            context.judge.observe(key, answers);
        }
    }
}

/// Saves what has not been saved for too long.
async fn save(context: &Context) {
    for key in context.judge.unsaved(context.now()) {
        if let Err(error) = super::record::save(context, &key, context.judge.judged(&key).as_ref()).await {
            tracing::warn!(gate = %key, %error, "the judge's memory was not saved");
        }
    }
}

/// Connects to a source, again when its object has changed.
async fn connect(context: &Context, turn: &Turn, plane: &mut Option<(String, Plane)>) -> Result<(), Gap> {
    let name = &turn.source;
    let gap = |kind, detail| Gap { kind, detail };
    let Some(source) = context.sources.get(&ObjectRef::<EvidenceSource>::new(name)) else {
        *plane = None;
        let detail = format!("EvidenceSource {name:?} does not exist");
        return Err(gap(GapKind::Unreachable, detail));
    };
    let version = source.metadata.resource_version.clone().unwrap_or_default();
    if plane.as_ref().is_some_and(|(known, _)| *known == version) {
        return Ok(());
    }
    let Some(connection) = source.spec.prometheus.clone() else {
        let detail = format!("EvidenceSource {name:?} names no prometheus");
        return Err(gap(GapKind::Unreachable, detail));
    };
    let refused = |error: http::Error| gap(GapKind::Unauthorized, format!("EvidenceSource {name}: {error}"));
    let secrets = secrets(context, &connection).await.map_err(|error| match error {
        Error::Refused(why) => gap(GapKind::Unauthorized, format!("EvidenceSource {name}: {why}")),
        other => gap(GapKind::Unreachable, other.to_string()),
    })?;
    let client = connection.client(&secrets).map_err(refused)?;
    let made =
        Plane::new(connection, client, turn.offset).map_err(|error| gap(GapKind::Unreachable, error.to_string()))?;
    *plane = Some((version, made));
    Ok(())
}

/// Credentials come from the operator's own namespace and from nowhere else.
async fn secrets(context: &Context, connection: &ConnectionSpec) -> Result<BTreeMap<SecretRef, http::Secret>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.namespace);
    let mut values = BTreeMap::new();
    for (field, reference) in connection.secrets() {
        let refused = |why: &str| {
            let SecretRef { secret_name, key } = &reference;
            let namespace = &context.namespace;
            Error::Refused(format!("{field}: Secret {namespace}/{secret_name}, key {key}, {why}"))
        };
        let secret = bounded("read Secret", api.get_opt(&reference.secret_name)).await?;
        let secret = secret.ok_or_else(|| refused("does not exist"))?;
        let value = secret.data.as_ref().and_then(|data| data.get(&reference.key));
        let Some(value) = value.and_then(|value| std::str::from_utf8(&value.0).ok()) else {
            return Err(refused("is missing or is not text"));
        };
        values.insert(reference, http::Secret::new(value));
    }
    Ok(values)
}

/// The same gap for every metric: the source itself cannot be asked.
fn unanswered(metrics: usize, gap: &Gap) -> Vec<Answer> {
    let gap = Answer {
        evidence: Evidence::missing(gap.kind, &gap.detail),
        edges: None,
        age: None,
        past: Vec::new(),
    };
    vec![gap; metrics]
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::any;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::decision::Millis;
    use crate::sources::{MetricQuery, RatioPreset, RatioSpec, Subscription};

    fn subscription() -> Subscription {
        let errors = RatioSpec {
            preset: Some(RatioPreset::HttpErrors),
            ..RatioSpec::default()
        };
        Subscription {
            gate: "shop/checkout".into(),
            namespace: "shop".into(),
            workload: "checkout".into(),
            canary_workload: "checkout-canary".into(),
            service: "checkout".into(),
            canary_service: "checkout-canary".into(),
            port: None,
            ago: Millis(0),
            metrics: vec![MetricQuery {
                name: "errors".into(),
                measure: errors.measure().expect("a preset"),
            }],
            unknown: std::collections::BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn queries_are_counted_by_source_and_outcome() {
        let server = MockServer::start().await;
        let good = json!({"status": "success", "data": {"resultType": "matrix", "result": []}});
        let answers = [
            ResponseTemplate::new(200).set_body_json(good),
            ResponseTemplate::new(401),
        ];
        for answer in answers {
            Mock::given(any())
                .respond_with(answer)
                .up_to_n_times(1)
                .mount(&server)
                .await;
        }
        let connection: ConnectionSpec = serde_json::from_value(json!({"url": server.uri()})).expect("a connection");
        let client = connection.client(&BTreeMap::new()).expect("a client");
        let mut plane = Plane::new(connection, client, Millis(0)).expect("a plane");
        let metrics = Metrics::new();
        let now = Millis(jiff::Timestamp::now().as_millisecond());
        for later in [0, 10, 20] {
            plane.collect(now + Millis::from_secs(later), &[subscription()]).await;
            count(&metrics, &mut plane);
        }
        let text = metrics.encode().expect("text");
        for (result, times) in [("ok", 1), ("Unauthorized", 1), ("QueryError", 1)] {
            let line = format!(r#"tollgate_source_queries_total{{source="prometheus",result="{result}"}} {times}"#);
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
