//! Starts and stops the controller: caches, queue, judge, lease, server.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, Predicate, WatchStreamExt, controller, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::Value;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::api::{EvidenceSource, GateAction, labels};
use crate::routers::{self, RouteKind};

use super::context::Context;
use super::gatekeeper;
use super::lease::Leadership;
use super::memory::GateKey;
use super::objects::Gate;
use super::watch::{RouteKey, Workload, prune};

/// Passes at the same time. Each waits for the API server most of its time. With fewer than a turn of
/// a hundred releases has, the last raise waits for the first; with more, releases that begin at one
/// moment hinder each other at the API server, and the first is no sooner than the last.
const CONCURRENCY: u16 = 32;

/// A watch that says nothing for so long is opened anew, so that a dead connection is noticed.
const WATCH: u32 = 60;

/// Where the operator looks for gates.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only this namespace; all when absent.
    pub namespace: Option<String>,
}

impl Scope {
    pub(super) fn api<K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>>(
        &self,
        client: &Client,
    ) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }

    fn routes(&self, client: &Client, kind: &ApiResource) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
            None => Api::all_with(client.clone(), kind),
        }
    }
}

pub(super) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH).page_size(250)
}

/// The caches and what keeps them fresh.
pub struct Caches {
    /// Gates as they are, the ones that cannot be understood included.
    pub gates: Store<Gate>,
    /// Deployments with our label.
    pub workloads: Store<Workload>,
    /// Requests.
    pub actions: Store<GateAction>,
    /// Evidence sources.
    pub sources: Store<EvidenceSource>,
    streams: Streams,
    filled: Vec<CancellationToken>,
}

/// What a watch tells of.
pub(super) type Watched<K> = futures::stream::BoxStream<'static, Result<K, watcher::Error>>;

struct Streams {
    gates: Watched<Gate>,
    workloads: Watched<Workload>,
    actions: Watched<GateAction>,
    sources: Watched<EvidenceSource>,
}

/// Prepares the watches; they begin when they are polled.
#[must_use]
pub fn caches(client: &Client, scope: &Scope) -> Caches {
    let adopted = config().labels(labels::GATE);
    let (gates, gate_stream, gates_filled) = cache(scope.api::<Gate>(client), config());
    let (workloads, workload_stream, workloads_filled) = cache(scope.api::<Workload>(client), adopted);
    let (actions, action_stream, actions_filled) = cache(scope.api::<GateAction>(client), config());
    let (sources, source_stream, sources_filled) = cache(Api::<EvidenceSource>::all(client.clone()), config());
    let streams = Streams {
        gates: gate_stream,
        workloads: workload_stream,
        actions: action_stream,
        sources: source_stream,
    };
    Caches {
        gates,
        workloads,
        actions,
        sources,
        streams,
        filled: vec![gates_filled, workloads_filled, actions_filled, sources_filled],
    }
}

/// One watch and its cache. Deletions are passed on too.
pub(super) fn cache<K>(api: Api<K>, config: watcher::Config) -> (Store<K>, Watched<K>, CancellationToken)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let filled = CancellationToken::new();
    let done = filled.clone();
    let stream = watcher(api, config).default_backoff().modify(prune).reflect(writer);
    let stream = stream.inspect(move |event| {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            done.cancel();
        }
    });
    (store, stream.touched_objects().boxed(), filled)
}

impl Caches {
    /// Waits until every cache has been filled once. They fill while the controller runs.
    ///
    /// Not by asking the stores: each wakes only the last one that waits for it, and that must be
    /// the controller.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let filled = self.filled.clone();
        async move {
            for cache in filled {
                cache.cancelled().await;
            }
        }
    }
}

/// Runs passes until it is told to stop, and finishes those that have begun.
pub async fn run(
    context: Arc<Context>,
    caches: Caches,
    scope: Scope,
    woken: tokio::sync::mpsc::UnboundedReceiver<GateKey>,
    stop: CancellationToken,
) {
    let Caches { gates, streams, .. } = caches;
    let routes = routes(&context, &scope, &gates);
    let changed = streams.gates.predicate_filter(
        predicates::generation.combine(predicates::finalizers).combine(deletion),
        kube::runtime::PredicateConfig::default(),
    );
    let mut sources = streams.sources;
    let background = {
        let context = Arc::clone(&context);
        let stop = stop.clone();
        async move {
            tokio::join!(super::planes::run(context, stop.clone()), async {
                loop {
                    tokio::select! { next = sources.next() => if next.is_none() { break }, () = stop.cancelled() => break }
                }
            });
        }
    };
    let passes = Controller::for_stream(changed, gates)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .watches_stream(streams.workloads, |workload: Workload| by_label(&workload))
        .watches_stream(streams.actions, |action: GateAction| {
            let namespace = action.namespace().unwrap_or_default();
            [ObjectRef::new(&action.spec.gate).within(&namespace)]
        })
        .reconcile_on(routes)
        .reconcile_on(UnboundedReceiverStream::new(woken).map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
        .reconcile_all_on(leading(context.leadership.clone()))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(gatekeeper::reconcile, gatekeeper::on_error, context)
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "queue");
            }
        });
    tokio::join!(passes, background);
}

/// Deletion changes neither generation nor finalizers.
fn deletion(gate: &Gate) -> Option<u64> {
    gate.meta()
        .deletion_timestamp
        .as_ref()
        .map(|time| time.0.as_millisecond().unsigned_abs())
}

fn by_label(workload: &Workload) -> Option<ObjectRef<Gate>> {
    let gate = workload.label(labels::GATE)?;
    Some(ObjectRef::new(gate).within(workload.metadata.namespace.as_deref()?))
}

/// A wake-up of all gates whenever this process begins to lead.
pub(super) fn leading(leadership: Leadership) -> impl Stream<Item = ()> + Send + 'static {
    futures::stream::unfold((leadership, false), |(leadership, led)| async move {
        if led {
            leadership.lost().await;
        }
        leadership.wait_until_leader().await;
        Some(((), (leadership, true)))
    })
}

/// Watches the routes that carry a split, of every kind that the cluster serves, and names the
/// gates they concern.
fn routes(
    context: &Arc<Context>,
    scope: &Scope,
    gates: &Store<Gate>,
) -> impl Stream<Item = ObjectRef<Gate>> + Send + 'static {
    let kinds = [RouteKind::Http, RouteKind::Grpc];
    futures::stream::select_all(kinds.map(|kind| watch_kind(Arc::clone(context), scope, gates.clone(), kind)))
}

fn watch_kind(
    context: Arc<Context>,
    scope: &Scope,
    gates: Store<Gate>,
    kind: RouteKind,
) -> futures::stream::BoxStream<'static, ObjectRef<Gate>> {
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind.word());
    let api = scope.routes(&context.client, &ApiResource::from_gvk_with_plural(&gvk, kind.plural()));
    let client = context.client.clone();
    futures::stream::once(async move { until_served(&client, &gvk).await })
        .flat_map(move |()| watcher(api.clone(), config().labels(routers::SPLIT_LABEL)).default_backoff())
        .map(move |event| match event {
            Ok(watcher::Event::Apply(route) | watcher::Event::InitApply(route)) => {
                let key = key(kind, &route);
                if let Some(route) = whole(route) {
                    context.routes.note(key.clone(), Arc::new(route));
                }
                concerned(&gates, &key)
            }
            Ok(watcher::Event::Delete(route)) => {
                let key = key(kind, &route);
                match whole(route) {
                    Some(route) => context.routes.left(&key, &route),
                    None => context.routes.forget(&key),
                }
                concerned(&gates, &key)
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => vec![],
            Err(error) => {
                tracing::debug!(%error, kind = kind.word(), "route watch");
                vec![]
            }
        })
        .flat_map(futures::stream::iter)
        .boxed()
}

/// An object as it came over the wire.
fn whole(object: DynamicObject) -> Option<Value> {
    let (types, metadata, mut value) = (object.types?, object.metadata, object.data);
    let fields = value.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), types.api_version.into());
    fields.insert("kind".to_owned(), types.kind.into());
    fields.insert("metadata".to_owned(), serde_json::to_value(metadata).ok()?);
    Some(value)
}

/// Waits until the cluster serves a kind: asked once a minute.
pub(super) async fn until_served(client: &Client, gvk: &GroupVersionKind) {
    while kube::discovery::pinned_kind(client, gvk).await.is_err() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

fn key(kind: RouteKind, route: &DynamicObject) -> RouteKey {
    (
        route.namespace().unwrap_or_default(),
        kind.word().to_owned(),
        route.name_any(),
    )
}

/// Gates that name a route.
fn concerned(gates: &Store<Gate>, (namespace, kind, name): &RouteKey) -> Vec<ObjectRef<Gate>> {
    let names = |gate: &Gate| {
        gate.meta().namespace.as_ref() == Some(namespace)
            && gate.0.as_ref().is_ok_and(|gate| {
                gate.spec
                    .routes()
                    .iter()
                    .any(|route| route.kind.word() == kind && route.name == *name)
            })
    };
    gates
        .state_filter(|gate| names(gate))
        .iter()
        .map(|gate| ObjectRef::from_obj(&**gate))
        .collect()
}
