//! What is kept of the cluster between passes: little, and only of what a gate speaks about.
//!
//! A gate at rest costs a few hundred bytes here and no request. Deployments are watched by our
//! label and kept without their templates; routes are watched only while they carry a split.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{objects, revision};
use crate::decision::Revision;

/// A Deployment without its template: of that only the hash is kept.
#[derive(Resource, Clone, Debug, Default, Deserialize, Serialize)]
#[resource(inherit = "Deployment")]
pub struct Workload {
    /// Name, labels, annotations, versions.
    #[serde(default, deserialize_with = "objects::metadata")]
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(default)]
    pub spec: WorkloadSpec,
    /// What was seen.
    #[serde(default)]
    pub status: WorkloadStatus,
}

/// The part of a Deployment's spec that is looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Pods asked for; the API server's default is 1.
    #[serde(default)]
    pub replicas: Option<i64>,
    /// Whether template changes wait.
    #[serde(default)]
    pub paused: bool,
    /// Our hash of the template; `None` only where there is none.
    #[serde(default, rename = "template", deserialize_with = "hashed")]
    pub revision: Option<Revision>,
}

/// The part of a Deployment's status that is looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// The generation this status speaks of.
    pub observed_generation: i64,
    /// Pods of any template.
    pub replicas: i64,
    /// Pods of the template that is written.
    pub updated_replicas: i64,
    /// Pods that have been ready for long enough.
    pub available_replicas: i64,
}

fn hashed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Revision>, D::Error> {
    let template = Option::<Value>::deserialize(deserializer)?;
    Ok(template.map(|template| revision::revision(&template)))
}

impl Workload {
    /// The number of pods asked for.
    #[must_use]
    pub fn desired(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Whether every pod runs the template that is written, is available, and none of another
    /// template is left.
    #[must_use]
    pub fn rolled_out(&self) -> bool {
        !self.spec.paused && self.is_complete()
    }

    /// The same, paused or not.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let status = &self.status;
        status.observed_generation >= self.metadata.generation.unwrap_or(0)
            && status.updated_replicas >= self.desired()
            && status.available_replicas >= self.desired()
            && status.replicas == status.updated_replicas
    }

    /// The value of one of its labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The commit in an annotation or label of this name; nothing that is longer than a commit is.
    #[must_use]
    pub fn commit(&self, key: &str) -> Option<String> {
        const LONGEST: usize = 64;
        let annotation = self.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let commit = annotation.map(String::as_str).or_else(|| self.label(key))?;
        (commit.len() <= LONGEST).then(|| commit.to_owned())
    }
}

/// Keeps the parts of an object that no pass reads out of the caches.
pub fn prune<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// Names a route: namespace, kind, name.
pub type RouteKey = (String, String, String);

/// The newest version of each route that is known: from the watch, from our own reads and from
/// the answers to our own writes, so that a pass never sees a route older than what it wrote.
#[derive(Debug, Default)]
pub struct RouteBook(Mutex<HashMap<RouteKey, Arc<Value>>>);

impl RouteBook {
    /// Takes note of a version, unless a newer one is known.
    pub fn note(&self, key: RouteKey, route: Arc<Value>) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = book.get(&key).map_or(0, |known| resource_version(known));
        if resource_version(&route) >= known {
            book.insert(key, route);
        }
    }

    /// The watch does not show a route any more as of a version: it was deleted, or has no split. In
    /// the second case the write that took the split away is often our own; its answer is as new as
    /// the watch, and stays.
    pub fn left(&self, key: &RouteKey, version: &Value) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book
            .get(key)
            .is_some_and(|known| resource_version(known) < resource_version(version))
        {
            book.remove(key);
        }
    }

    /// Forgets a route: no release needs it any more, or what is known of it is too old.
    pub fn forget(&self, key: &RouteKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The newest version known.
    #[must_use]
    pub fn get(&self, key: &RouteKey) -> Option<Arc<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// Resource versions of one resource grow; since Kubernetes 1.35 clients may compare them.
fn resource_version(object: &Value) -> u64 {
    object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(spec: &Value, status: &Value) -> Workload {
        let object = json!({"metadata": {"name": "checkout", "generation": 3}, "spec": spec, "status": status});
        serde_json::from_value(object).expect("a Deployment")
    }

    #[test]
    fn a_deployment_has_rolled_out_only_when_every_pod_runs_the_written_template() {
        let done = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        let cases = [
            ("all done", json!({"replicas": 2}), done.clone(), true),
            ("paused", json!({"replicas": 2, "paused": true}), done.clone(), false),
            ("scaled up, pods missing", json!({"replicas": 3}), done, false),
            (
                "the status is old",
                json!({"replicas": 2}),
                json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}),
                false,
            ),
            (
                "an old pod is left",
                json!({"replicas": 2}),
                json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}),
                false,
            ),
        ];
        for (case, spec, status, expected) in cases {
            assert_eq!(workload(&spec, &status).rolled_out(), expected, "{case}");
        }
    }

    #[test]
    fn a_commit_is_read_from_an_annotation_or_a_label() {
        let long = "0".repeat(65);
        for (metadata, commit) in [
            (
                json!({"annotations": {"from": "aa"}, "labels": {"from": "bb"}}),
                Some("aa"),
            ),
            (json!({"labels": {"from": "bb"}}), Some("bb")),
            (json!({"labels": {"other": "bb"}}), None),
            (json!({"annotations": {"from": long}}), None),
        ] {
            let workload: Workload = serde_json::from_value(json!({"metadata": metadata})).expect("a Deployment");
            assert_eq!(workload.commit("from").as_deref(), commit, "{metadata}");
        }
    }

    #[test]
    fn a_route_is_never_replaced_by_an_older_version() {
        let book = RouteBook::default();
        let key = ("shop".to_owned(), "HTTPRoute".to_owned(), "checkout".to_owned());
        let route = |version: &str| json!({"metadata": {"resourceVersion": version}});
        for (noted, expected) in [("7", "7"), ("9", "9"), ("8", "9"), ("10", "10")] {
            book.note(key.clone(), Arc::new(route(noted)));
            assert_eq!(book.get(&key), Some(Arc::new(route(expected))));
        }
        book.left(&key, &route("10"));
        assert_eq!(
            book.get(&key),
            Some(Arc::new(route("10"))),
            "our own write took the split away"
        );
        book.left(&key, &route("11"));
        assert_eq!(book.get(&key), None, "deleted, or changed by somebody else");
    }
}
