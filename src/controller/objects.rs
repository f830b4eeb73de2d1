//! Objects as they come over the wire, without what no pass reads.
//!
//! The managed fields of an object are often half of it, and a tree of thousands of small
//! allocations when they are read. They are skipped here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use kube::{Client, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::api::{ReleaseGate, form};

/// Reads metadata without managed fields.
///
/// # Errors
/// When a field is not of its type.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        finalizers: Option<Vec<String>>,
        owner_references: Option<Vec<OwnerReference>>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
    }
    let read = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        labels: read.labels,
        annotations: read.annotations,
        finalizers: read.finalizers,
        owner_references: read.owner_references,
        creation_timestamp: read.creation_timestamp,
        deletion_timestamp: read.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

/// What is looked at of the answer to a write: its metadata.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// Name and versions.
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
}

impl Resource for Answer {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Writes to objects of a known kind in a namespace.
#[must_use]
pub fn writes<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> kube::Api<Answer> {
    kube::Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// A gate, or why it cannot be understood: one malformed object never hides the others.
#[derive(Clone, Debug)]
pub struct Gate(pub Result<ReleaseGate, Malformed>);

/// A gate that cannot be understood.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// Its name and versions.
    pub metadata: ObjectMeta,
    /// What is wrong with it.
    pub error: String,
}

impl<'de> Deserialize<'de> for Gate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default, deserialize_with = "metadata")]
            metadata: ObjectMeta,
            #[serde(default)]
            spec: Value,
            #[serde(default)]
            status: Value,
        }
        let Whole { metadata, spec, status } = Whole::deserialize(deserializer)?;
        let parts = form("spec", &spec).and_then(|spec| Ok((spec, form("status", &status)?)));
        Ok(Self(match parts {
            Ok((spec, status)) => Ok(ReleaseGate { metadata, spec, status }),
            Err(error) => Err(Malformed {
                metadata,
                error: error.to_string(),
            }),
        }))
    }
}

impl Resource for Gate {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ReleaseGate::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ReleaseGate::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ReleaseGate::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ReleaseGate::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(gate) => &gate.metadata,
            Err(malformed) => &malformed.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(gate) => &mut gate.metadata,
            Err(malformed) => &mut malformed.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gate_is_read_whole_or_says_what_is_wrong_with_it() {
        let spec = json!({"target": {"workload": {"name": "checkout"}, "service": "checkout"},
            "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}}});
        for (spec, status, wrong) in [
            (spec.clone(), json!(null), None),
            (spec.clone(), json!({"observedGeneration": 3}), None),
            (json!({"target": "checkout"}), json!(null), Some("checkout")),
            (json!(null), json!(null), Some("null")),
            (spec, json!({"observedGeneration": "three"}), Some("three")),
        ] {
            let metadata = json!({"name": "checkout", "namespace": "shop", "resourceVersion": "7", "generation": 3,
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]});
            let object = json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
                "metadata": metadata, "spec": spec, "status": status});
            let gate: Gate = serde_json::from_value(object).expect("an object");
            assert_eq!(gate.name_any(), "checkout");
            assert_eq!(gate.resource_version().as_deref(), Some("7"));
            assert!(gate.managed_fields().is_empty());
            match (gate.0, wrong) {
                (Ok(gate), None) => assert_eq!(gate.spec.target.service, "checkout"),
                (Err(malformed), Some(wrong)) => assert!(malformed.error.contains(wrong), "{}", malformed.error),
                (read, _) => panic!("{read:?} of {spec} and {status}"),
            }
        }
    }
}
