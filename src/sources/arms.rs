//! Which series belongs to which arm of which gate.
//!
//! Arms are told apart by exact names, never by prefixes: `shop` must not count the pods of
//! `shop-api`, nor stable those of the canary. A name that two arms could claim is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::connection::ConnectionSpec;
use super::metric::Identity;
use super::selector::{Comparison, Op, one_of};
use super::subscription::Subscription;

/// The labels of a series.
pub(super) type Labels = BTreeMap<String, String>;

/// The characters of the hashes and random endings in pod names: no vowels, no digits that look
/// like letters (`SafeEncodeString` and `rand.String` of Kubernetes' apimachinery).
const ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";
/// Length of the random ending of a generated name (apiserver's `SimpleNameGenerator`).
const ENDING: usize = 5;
/// What a generated name is cut to before its ending is added (the same place).
const CUT: usize = 58;
/// The hash of a `ReplicaSet` is a 32-bit number in decimal, re-encoded: at most ten characters. Fewer
/// than six are as rare as one in 40,000 and refused, as `db` in `shop-db-x2v4b` is a name.
const HASH: std::ops::RangeInclusive<usize> = 6..=10;

/// Whose requests a series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    Baseline,
    Canary,
}

/// One arm of one gate under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    gate: usize,
    role: Role,
    port: Option<u16>,
    /// Namespace and name of the object that is meant.
    object: (String, String),
}

/// Names, and the arms that claim them.
pub(super) struct Book<'a> {
    identity: Identity,
    connection: &'a ConnectionSpec,
    claims: HashMap<(String, String), Vec<Claim>>,
    /// Gates whose arms cannot be told apart, by their place, with the reason.
    refused: BTreeMap<usize, String>,
}

impl<'a> Book<'a> {
    /// Enters both arms of every subscription.
    pub(super) fn open(identity: Identity, connection: &'a ConnectionSpec, gates: &[Subscription]) -> Self {
        let mut book = Self {
            identity,
            connection,
            claims: HashMap::new(),
            refused: BTreeMap::new(),
        };
        for (gate, subscription) in gates.iter().enumerate() {
            for (role, name) in subscription.arms(identity) {
                book.enter(Claim {
                    gate,
                    role,
                    port: subscription.port,
                    object: (subscription.namespace.clone(), name.to_owned()),
                });
            }
        }
        book
    }

    fn enter(&mut self, claim: Claim) {
        let (namespace, name) = claim.object.clone();
        let key = if self.identity.names_pods() {
            (namespace, name)
        } else {
            (String::new(), traefik_name(&namespace, &name))
        };
        let claims = self.claims.entry(key).or_default();
        for other in claims.iter() {
            if other.object != claim.object || other.role != claim.role {
                let both = format!(
                    "{}/{} and {}/{} cannot be told apart in these metrics",
                    other.object.0, other.object.1, claim.object.0, claim.object.1
                );
                self.refused.insert(other.gate, both.clone());
                self.refused.insert(claim.gate, both);
            }
        }
        claims.push(claim);
    }

    /// Why the arms of this gate cannot be told apart, if so.
    pub(super) fn refusal(&self, gate: usize) -> Option<&str> {
        self.refused.get(&gate).map(String::as_str)
    }

    /// The comparisons that narrow a query to these gates' arms that are read so long ago: wide
    /// enough to miss nothing, as the answer is dealt out by exact names.
    pub(super) fn comparisons(&self, gates: &[&Subscription], ago: i64) -> Vec<Comparison> {
        let names = gates.iter().flat_map(|gate| {
            let read = gate.arms(self.identity).into_iter();
            read.filter(move |(role, _)| gate.ago(*role) == ago)
                .map(|(_, name)| (gate.namespace.as_str(), name))
        });
        if self.identity.names_pods() {
            return self.pod_comparisons(names.collect());
        }
        let names: BTreeSet<String> = names.map(|(namespace, name)| traefik_name(namespace, name)).collect();
        let names = one_of(names.iter().map(String::as_str));
        vec![Comparison {
            label: self.connection.service_label.clone(),
            op: Op::Match,
            value: format!("(?:{names})-[0-9]+@kubernetesgateway"),
        }]
    }

    fn pod_comparisons(&self, names: Vec<(&str, &str)>) -> Vec<Comparison> {
        let (namespaces, workloads): (BTreeSet<&str>, BTreeSet<&str>) = names.into_iter().unzip();
        let namespace = match (namespaces.len(), namespaces.first()) {
            (1, Some(only)) => (Op::Equal, (*only).to_owned()),
            _ => (Op::Match, one_of(namespaces)),
        };
        let comparison = |label: &String, (op, value)| Comparison {
            label: label.clone(),
            op,
            value,
        };
        vec![
            comparison(&self.connection.namespace_label, namespace),
            comparison(
                &self.connection.pod_label,
                (Op::Match, format!("(?:{})-.+", one_of(workloads))),
            ),
        ]
    }

    /// The arms that this series counts for.
    pub(super) fn owners(&self, labels: &Labels) -> Vec<(usize, Role)> {
        if self.identity.names_pods() {
            self.pod_owners(labels)
        } else {
            self.traefik_owners(labels)
        }
    }

    fn pod_owners(&self, labels: &Labels) -> Vec<(usize, Role)> {
        let (Some(namespace), Some(pod)) = (
            labels.get(&self.connection.namespace_label),
            labels.get(&self.connection.pod_label),
        ) else {
            return Vec::new();
        };
        let mut owners = self.claimed(namespace, pod);
        owners.extend(self.replica_set_owners(namespace, pod));
        owners
    }

    /// The arms whose Deployment a pod belongs to.
    fn claimed(&self, namespace: &str, pod: &str) -> Vec<(usize, Role)> {
        let claims = match workload_of(pod) {
            Some(workload) => self.claims.get(&(namespace.to_owned(), workload.to_owned())),
            None => self
                .claims
                .iter()
                .find(|((place, workload), _)| place == namespace && is_cut_pod(pod, workload))
                .map(|(_, claims)| claims),
        };
        claims
            .into_iter()
            .flatten()
            .map(|claim| (claim.gate, claim.role))
            .collect()
    }

    /// The arms that are a ReplicaSet, where a pod belongs to one: both revisions of a Rollout are
    /// pods of the same workload. Names that had to be cut are not told apart, so they count for none.
    fn replica_set_owners(&self, namespace: &str, pod: &str) -> impl Iterator<Item = (usize, Role)> {
        let set = replica_set_of(pod).map(|set| (namespace.to_owned(), set.to_owned()));
        let claims = set.and_then(|set| self.claims.get(&set));
        claims.into_iter().flatten().map(|claim| (claim.gate, claim.role))
    }

    fn traefik_owners(&self, labels: &Labels) -> Vec<(usize, Role)> {
        let parsed = labels
            .get(&self.connection.service_label)
            .and_then(|label| label.strip_suffix("@kubernetesgateway"))
            .and_then(|label| label.rsplit_once('-'))
            .and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
        let Some((name, port)) = parsed else {
            return Vec::new();
        };
        self.claims
            .get(&(String::new(), name.to_owned()))
            .into_iter()
            .flatten()
            .filter(|claim| claim.port.is_none_or(|wanted| wanted == port))
            .map(|claim| (claim.gate, claim.role))
            .collect()
    }
}

/// The name of a backend service in Traefik's metrics, without its port: namespace, name and
/// `http`, in which every run of other characters than letters and digits is one dash.
fn traefik_name(namespace: &str, service: &str) -> String {
    let joined = format!("{namespace}-{service}-http");
    let parts: Vec<&str> = joined
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("-")
}

fn is_encoded(text: &str) -> bool {
    text.chars().all(|c| ALPHABET.contains(c))
}

/// The Deployment of a pod by the pod's name: `<deployment>-<hash>-<five characters>`.
fn workload_of(pod: &str) -> Option<&str> {
    let (rest, ending) = pod.rsplit_once('-')?;
    let (workload, hash) = rest.rsplit_once('-')?;
    let named = ending.len() == ENDING && is_encoded(ending) && HASH.contains(&hash.len()) && is_encoded(hash);
    named.then_some(workload)
}

/// The ReplicaSet of a pod by the pod's name: `<workload>-<hash>-<five characters>` without the last.
fn replica_set_of(pod: &str) -> Option<&str> {
    workload_of(pod)?;
    pod.rsplit_once('-').map(|(set, _)| set)
}

/// Whether a pod whose name had to be cut belongs to this Deployment.
fn is_cut_pod(pod: &str, workload: &str) -> bool {
    if pod.len() != CUT + ENDING {
        return false;
    }
    let (Some(body), Some(ending)) = (pod.get(..CUT), pod.get(CUT..)) else {
        return false;
    };
    let Some(hash) = body.strip_prefix(workload).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let hash = hash.strip_suffix('-').unwrap_or(hash);
    is_encoded(ending) && is_encoded(hash) && hash.len() <= *HASH.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_belongs_to_the_deployment_that_its_whole_name_says() {
        for (pod, expected) in [
            ("shop-7d9f8b6c5d-x2x4b", Some("shop")),
            ("shop-api-7d9f8b6c5d-x2x4b", Some("shop-api")),
            ("shop-canary-7d9f8b6c5d-x2x4b", Some("shop-canary")),
            ("a.b-7d9f8b6c5d-x2x4b", Some("a.b")),
            ("shop-7d9f8b-x2x4b", Some("shop")),
            ("shop-db-x2x4b", None),
            ("shop-0", None),
            ("shop-7d9f8b6c5d", None),
            ("shop-7d9f8b6c5d-x2x4", None),
            ("shop-7d9f8b6c5d-x2x4a", None),
            ("shop-7d9f8b6c5d7-x2x4b", None),
            ("shop-canary-x2x4b", None),
            ("", None),
        ] {
            assert_eq!(workload_of(pod), expected, "{pod}");
        }
    }

    #[test]
    fn a_pod_belongs_to_the_replica_set_that_is_an_arm_and_to_no_other() {
        let subscription = Subscription {
            gate: "shop/analysis/checkout".to_owned(),
            namespace: "shop".to_owned(),
            workload: "checkout-7d9f8b6c5d".to_owned(),
            canary_workload: "checkout-64f5b9c8d7".to_owned(),
            service: String::new(),
            canary_service: String::new(),
            port: None,
            ago: crate::decision::Millis(0),
            metrics: Vec::new(),
            unknown: std::collections::BTreeSet::new(),
        };
        let connection = ConnectionSpec::to("http://prometheus");
        let gates = [subscription];
        let book = Book::open(Identity::Pod, &connection, &gates);
        for (pod, expected) in [
            ("checkout-7d9f8b6c5d-x2x4b", vec![Role::Baseline]),
            ("checkout-64f5b9c8d7-x2x4b", vec![Role::Canary]),
            ("checkout-5b5b5b5b5b-x2x4b", vec![]),
            ("checkout-7d9f8b6c5d", vec![]),
            ("checkout-7d9f8b6c5d-7d9f8b6c5d-x2x4b", vec![Role::Baseline]),
            ("my-checkout-7d9f8b6c5d-x2x4b", vec![]),
        ] {
            let labels = [("namespace", "shop"), ("pod", pod)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let owners = book.owners(&Labels::from(labels));
            assert_eq!(
                owners.into_iter().map(|(_, role)| role).collect::<Vec<_>>(),
                expected,
                "{pod}"
            );
        }
    }

    #[test]
    fn a_pod_with_a_cut_name_belongs_to_one_arm_only() {
        let stable = "a-deployment-whose-name-is-so-long-that-pods-get-it-cut";
        let canary = format!("{stable}-c");
        let cut = |workload: &str| format!("{}x2x4b", &format!("{workload}-7d9f8b6c5d-")[..CUT]);
        assert!(is_cut_pod(&cut(stable), stable));
        assert!(!is_cut_pod(&cut(stable), &canary));
        assert!(is_cut_pod(&cut(&canary), &canary));
        for name in ["a-deployment", "another", stable, &format!("{stable}-canary")] {
            assert!(!is_cut_pod("a-deployment-7d9f8b6c5d-x2x4b", name), "{name}");
        }
    }

    #[test]
    fn a_backend_is_named_as_the_gateway_names_it() {
        for (namespace, service, expected) in [
            ("shop", "checkout", "shop-checkout-http"),
            ("shop", "checkout-canary", "shop-checkout-canary-http"),
            ("shop", "a--b", "shop-a-b-http"),
        ] {
            assert_eq!(traefik_name(namespace, service), expected);
        }
    }

    #[test]
    fn a_backend_is_an_arm_by_its_whole_name_and_port() {
        let connection = ConnectionSpec::to("http://prometheus");
        let subscription = |port| Subscription {
            gate: "shop/checkout".to_owned(),
            namespace: "shop".to_owned(),
            workload: "checkout".to_owned(),
            canary_workload: "checkout-canary".to_owned(),
            service: "checkout".to_owned(),
            canary_service: "checkout-canary".to_owned(),
            port,
            ago: crate::decision::Millis(0),
            metrics: Vec::new(),
            unknown: std::collections::BTreeSet::new(),
        };
        let owners = |port, label: &str| {
            let gates = [subscription(port)];
            let labels = Labels::from([("service".to_owned(), label.to_owned())]);
            let owners = Book::open(Identity::Traefik, &connection, &gates).owners(&labels);
            owners.into_iter().map(|(_, role)| role).collect::<Vec<_>>()
        };
        for (port, label, expected) in [
            (
                Some(80),
                "shop-checkout-http-80@kubernetesgateway",
                vec![Role::Baseline],
            ),
            (
                Some(80),
                "shop-checkout-canary-http-80@kubernetesgateway",
                vec![Role::Canary],
            ),
            (Some(80), "shop-checkout-http-8080@kubernetesgateway", vec![]),
            (None, "shop-checkout-http-8080@kubernetesgateway", vec![Role::Baseline]),
            (None, "shop-checkout-api-http-80@kubernetesgateway", vec![]),
            (None, "my-shop-checkout-http-80@kubernetesgateway", vec![]),
            (None, "shop-checkout-http-80-http-80@kubernetesgateway", vec![]),
            (None, "shop-checkout-http-80@file", vec![]),
            (None, "shop-checkout-http-99999@kubernetesgateway", vec![]),
        ] {
            assert_eq!(owners(port, label), expected, "{port:?} {label}");
        }
    }
}
