//! Lists of what stands around a workload, asked for once by many releases.
//!
//! A release that begins alone asks about its own namespace. When many begin at once, those that
//! wait for their turn share one list over all namespaces. Nobody is given an answer to a question
//! that was sent before its own, so this is no cache: nothing is ever older than when it was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, ListParams, TypeMeta};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::Instant;

use super::context::{Error, bounded};

/// With so many waiting, one list over all namespaces is asked for.
const CROWD: usize = 3;

/// The most objects of a kind that one list over all namespaces may hold. Of about 2 KiB each.
const MOST: u32 = 500;

/// A kind of which there are more, or that may not be listed everywhere, is asked for namespace by
/// namespace for so long.
const APART: Duration = Duration::from_secs(600);

/// All kinds.
#[derive(Debug, Default)]
pub struct Lists(Mutex<HashMap<String, Arc<Kind>>>);

/// One kind.
#[derive(Debug, Default)]
struct Kind {
    waiting: AtomicUsize,
    turn: tokio::sync::Mutex<Turn>,
}

/// What is kept while somebody waits.
#[derive(Debug, Default)]
struct Turn {
    /// The newest list over all namespaces, by namespace, and when it was asked for.
    everywhere: Option<(Instant, HashMap<String, Vec<Value>>)>,
    /// Until when nobody tries that again.
    apart: Option<Instant>,
}

impl Lists {
    /// The objects of a kind in a namespace as they are; none, when the kind is unknown. Each says
    /// its kind, which the items of a list leave out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn get(&self, client: &Client, namespace: &str, resource: &ApiResource) -> Result<Vec<Value>, Error> {
        let kind = {
            let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let name = format!("{}.{}", resource.plural, resource.group);
            Arc::clone(kinds.entry(name).or_default())
        };
        let asked = Instant::now();
        kind.waiting.fetch_add(1, Ordering::Relaxed);
        let mut turn = kind.turn.lock().await;
        let waiting = kind.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some((_, all)) = turn.everywhere.as_ref().filter(|(at, _)| *at >= asked) {
            let found = all.get(namespace).cloned().unwrap_or_default();
            if waiting <= 1 {
                turn.everywhere = None;
            }
            return Ok(found);
        }
        turn.everywhere = None;
        if turn.apart.is_some_and(|until| Instant::now() < until) {
            drop(turn);
            return Ok(list(client, Some(namespace), resource).await?.unwrap_or_default());
        }
        if waiting < CROWD {
            return Ok(list(client, Some(namespace), resource).await?.unwrap_or_default());
        }
        let began = Instant::now();
        let Some(all) = list(client, None, resource).await? else {
            turn.apart = Some(began + APART);
            drop(turn);
            return Ok(list(client, Some(namespace), resource).await?.unwrap_or_default());
        };
        let mut by_namespace: HashMap<String, Vec<Value>> = HashMap::new();
        for object in all {
            let at = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            by_namespace.entry(at).or_default().push(object);
        }
        let found = by_namespace.get(namespace).cloned().unwrap_or_default();
        turn.everywhere = Some((began, by_namespace));
        Ok(found)
    }
}

/// Lists objects in one namespace, or in all if that is allowed and they are not too many.
async fn list(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Result<Option<Vec<Value>>, Error> {
    let (api, params): (Api<DynamicObject>, _) = match namespace {
        Some(namespace) => (
            Api::namespaced_with(client.clone(), namespace, resource),
            ListParams::default(),
        ),
        None => (
            Api::all_with(client.clone(), resource),
            ListParams::default().limit(MOST),
        ),
    };
    match bounded("list", api.list(&params)).await {
        Ok(list) if namespace.is_none() && list.metadata.continue_.as_deref().is_some_and(|more| !more.is_empty()) => {
            Ok(None)
        }
        Ok(list) => {
            let whole = list.items.into_iter().map(|mut item| {
                item.types = Some(TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                });
                item
            });
            Ok(Some(whole.filter_map(|item| serde_json::to_value(item).ok()).collect()))
        }
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => Ok(Some(vec![])),
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 403 && namespace.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server with one object in every namespace from `team-0` on. Notes what it is asked,
    /// and answers a request for everything with this code.
    fn api(everywhere: u16, more: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let path = request.uri().path().to_owned();
                log.lock().expect("lock").push(path.clone());
                tokio::time::sleep(Duration::from_millis(10)).await;
                let object = |namespace: &str| json!({"metadata": {"name": "deny", "namespace": namespace}});
                let (code, items) = match path
                    .split("/namespaces/")
                    .nth(1)
                    .and_then(|rest| rest.split('/').next())
                {
                    Some(namespace) => (200, vec![object(namespace)]),
                    None => (everywhere, (0..100).map(|at| object(&format!("team-{at}"))).collect()),
                };
                let body = if code == 200 {
                    let more = if path.contains("/namespaces/") { "" } else { more };
                    json!({"metadata": {"continue": more}, "items": items})
                } else {
                    json!({"kind": "Status", "code": code, "metadata": {}})
                };
                let answer = http::Response::builder().status(code);
                Ok::<_, kube::Error>(
                    answer
                        .body(Body::from(body.to_string().into_bytes()))
                        .expect("an answer"),
                )
            }
        });
        (Client::new(service, "default"), seen)
    }

    fn policies() -> ApiResource {
        ApiResource::erase::<k8s_openapi::api::networking::v1::NetworkPolicy>(&())
    }

    /// So many ask at once, each about its own namespace; how many requests that took.
    async fn ask(lists: &Lists, (client, seen): &(Client, Arc<Mutex<Vec<String>>>), askers: usize) -> Vec<String> {
        let resource = policies();
        let questions = (0..askers).map(|at| {
            let (resource, namespace) = (&resource, format!("team-{at}"));
            async move {
                let found = lists.get(client, &namespace, resource).await.expect("a list");
                assert_eq!(found.len(), 1);
                assert_eq!(found[0]["metadata"]["namespace"], namespace.as_str());
                assert_eq!(found[0]["kind"], "NetworkPolicy");
            }
        });
        futures::future::join_all(questions).await;
        std::mem::take(&mut *seen.lock().expect("lock"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_shares_a_list_and_one_alone_asks_about_its_namespace() {
        let (lists, api) = (Lists::default(), api(200, ""));
        let asked = ask(&lists, &api, 100).await;
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(!asked[1].contains("/namespaces/"), "{asked:?}");
        let asked = ask(&lists, &api, 1).await;
        assert_eq!(asked, ["/apis/networking.k8s.io/v1/namespaces/team-0/networkpolicies"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_earlier_answers_nobody() {
        let (lists, api) = (Lists::default(), api(200, ""));
        ask(&lists, &api, 50).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&lists, &api, 50).await.len(), 2, "asked anew");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_or_not_allowed_everywhere_is_asked_for_apart() {
        for (code, more) in [(200, "there is more"), (403, "")] {
            let (lists, api) = (Lists::default(), api(code, more));
            let everywhere = |asked: &[String]| asked.iter().filter(|path| !path.contains("/namespaces/")).count();
            let asked = ask(&lists, &api, 100).await;
            assert_eq!((everywhere(&asked), asked.len()), (1, 101), "{code}");
            assert_eq!(everywhere(&ask(&lists, &api, 100).await), 0);
            tokio::time::advance(APART).await;
            assert_eq!(everywhere(&ask(&lists, &api, 100).await), 1, "tried again");
        }
    }
}
