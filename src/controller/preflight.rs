//! What around a workload would treat its canary unlike stable, found before the first step.
//!
//! The canary's pods carry labels of their own, so what selects stable pods may miss them. A
//! canary that is cut off from its database proves nothing: differences in who may talk to whom
//! block the release. What only watches or protects pods is named and no more.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};
use serde_json::{Value, json};

use super::labels::{self, Labels};

/// What a finding means for the release, the lightest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Told, and nothing more.
    Names,
    /// The trial would prove nothing: the release is held until it is mended.
    Blocks,
    /// No canary can be made that the same rules apply to.
    Refuses,
}

/// One thing that would treat the canary unlike stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it means for the release.
    pub severity: Severity,
    /// Kind, namespace and name: `NetworkPolicy shop/checkout-db`.
    pub object: String,
    /// One sentence that names the object and what misses.
    pub sentence: String,
}

/// Stable and canary as others see them.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// The labels of their namespace.
    pub namespace_labels: &'a Labels,
    /// The labels of stable's pods.
    pub stable: &'a Labels,
    /// The labels of the canary's pods.
    pub canary: &'a Labels,
    /// The user's Service.
    pub service: &'a Value,
    /// The canary's Service.
    pub canary_service: &'a Value,
    /// `spec` of the pod template on trial.
    pub pod_spec: &'a Value,
}

/// The objects to look through. Network policies and monitors may be of other namespaces too;
/// what is left empty is not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// `networking.k8s.io/v1` `NetworkPolicies`.
    pub network_policies: &'a [Value],
    /// `policy/v1` `PodDisruptionBudgets` of the namespace.
    pub disruption_budgets: &'a [Value],
    /// `monitoring.coreos.com/v1` `PodMonitors`.
    pub pod_monitors: &'a [Value],
    /// `monitoring.coreos.com/v1` `ServiceMonitors`.
    pub service_monitors: &'a [Value],
    /// Services of the namespace.
    pub services: &'a [Value],
    /// `PersistentVolumeClaims` of the namespace.
    pub volume_claims: &'a [Value],
}

/// Everything that would treat the canary unlike stable, the gravest first.
#[must_use]
pub fn findings(pair: &Pair, around: &Around) -> Vec<Finding> {
    let mut found = selecting(pair, around.network_policies);
    found.extend(peers(pair, around.network_policies));
    let budgets = around.disruption_budgets.iter();
    found.extend(budgets.filter_map(|budget| {
        by_pods(pair, "PodDisruptionBudget", budget, &budget["spec"]["selector"]).map(|found| found.with("protects"))
    }));
    let monitors = around.pod_monitors.iter().filter(|monitor| watches(pair, monitor));
    found.extend(monitors.filter_map(|monitor| {
        by_pods(pair, "PodMonitor", monitor, &monitor["spec"]["selector"]).map(|found| found.with("watches"))
    }));
    found.extend(
        around
            .service_monitors
            .iter()
            .filter_map(|monitor| service_monitor(pair, monitor)),
    );
    found.extend(
        around
            .services
            .iter()
            .filter_map(|service| other_service(pair, service)),
    );
    found.extend(volumes(pair, around.volume_claims));
    found.extend(host_ports(pair));
    found.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.sentence.cmp(&b.sentence)));
    found.dedup();
    found
}

/// One of two sides is selected, the other is not.
struct Uneven {
    object: String,
    stable: bool,
    /// The parts of the selector that miss the other side.
    parts: String,
    /// What the other side carries instead.
    carries: String,
}

impl Uneven {
    fn with(self, verb: &str) -> Finding {
        self.finding(Severity::Names, verb)
    }

    fn finding(self, severity: Severity, verb: &str) -> Finding {
        let (one, other) = if self.stable {
            ("stable", "canary")
        } else {
            ("canary", "stable")
        };
        let Self {
            object, parts, carries, ..
        } = self;
        let sentence = format!("{object} {verb} {one} pods by {parts}, but {other} pods carry {carries}");
        Finding {
            severity,
            object,
            sentence,
        }
    }
}

pub(super) fn titled(kind: &str, object: &Value) -> String {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or("?").to_owned();
    format!("{kind} {}/{}", part("namespace"), part("name"))
}

fn by_pods(pair: &Pair, kind: &str, object: &Value, selector: &Value) -> Option<Uneven> {
    uneven(
        &titled(kind, object),
        &labels::selector(selector).ok()?,
        pair.stable,
        pair.canary,
    )
}

fn uneven(object: &str, selector: &Selector, stable: &Labels, canary: &Labels) -> Option<Uneven> {
    let (by_stable, by_canary) = (selector.matches(stable), selector.matches(canary));
    if by_stable == by_canary {
        return None;
    }
    let other = if by_stable { canary } else { stable };
    let missed: Vec<Expression> = selector
        .clone()
        .into_iter()
        .filter(|part| !part.matches(other))
        .collect();
    let carried = missed.iter().map(|part| match other.get_key_value(key(part)) {
        Some((key, value)) => format!("{key}={value}"),
        None => format!("no {}", key(part)),
    });
    Some(Uneven {
        object: object.to_owned(),
        stable: by_stable,
        carries: carried.collect::<Vec<_>>().join(", "),
        parts: missed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    })
}

const fn key(part: &Expression) -> &String {
    match part {
        Expression::In(key, _)
        | Expression::NotIn(key, _)
        | Expression::Equal(key, _)
        | Expression::NotEqual(key, _)
        | Expression::Exists(key)
        | Expression::DoesNotExist(key) => key,
    }
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// Policies that restrict one side only, unless another one says the same of the other side.
fn selecting(pair: &Pair, policies: &[Value]) -> Vec<Finding> {
    let own = || policies.iter().filter(|policy| namespace(policy) == pair.namespace);
    let effect = |policy: &Value| {
        let spec = &policy["spec"];
        json!([spec["policyTypes"], spec["ingress"], spec["egress"]])
    };
    let selects = |policy: &Value, pods: &Labels| {
        labels::selector(&policy["spec"]["podSelector"]).is_ok_and(|selector| selector.matches(pods))
    };
    own()
        .filter_map(|policy| {
            let found = by_pods(pair, "NetworkPolicy", policy, &policy["spec"]["podSelector"])?;
            let missed = if found.stable { pair.canary } else { pair.stable };
            let twin = own().any(|other| selects(other, missed) && effect(other) == effect(policy));
            (!twin).then(|| found.finding(Severity::Blocks, "applies to"))
        })
        .collect()
}

/// Which sides the rules for the same pods, direction and ports let through.
#[derive(Default)]
struct Grant {
    stable: bool,
    canary: bool,
    /// The first peer that lets only one of them through.
    one_sided: Option<Uneven>,
}

/// Policies, of any namespace, that let pods talk to one side only.
fn peers(pair: &Pair, policies: &[Value]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (direction, side, verb) in [("ingress", "from", "admits"), ("egress", "to", "leads to")] {
        let mut grants: BTreeMap<String, Grant> = BTreeMap::new();
        for policy in policies {
            for rule in policy["spec"][direction].as_array().into_iter().flatten() {
                let key = json!([namespace(policy), policy["spec"]["podSelector"], rule["ports"]]).to_string();
                grants.entry(key).or_default().add(pair, policy, &rule[side]);
            }
        }
        let uneven = grants.into_values().filter(|grant| grant.stable != grant.canary);
        found.extend(uneven.filter_map(|grant| Some(grant.one_sided?.finding(Severity::Blocks, verb))));
    }
    found
}

impl Grant {
    fn add(&mut self, pair: &Pair, policy: &Value, peers: &Value) {
        let Some(peers) = peers.as_array().filter(|peers| !peers.is_empty()) else {
            // No peers at all means everybody.
            (self.stable, self.canary) = (true, true);
            return;
        };
        for peer in peers.iter().filter(|peer| speaks_of(pair, policy, peer)) {
            let selector = match &peer["podSelector"] {
                Value::Null => Selector::default(),
                given => match labels::selector(given) {
                    Ok(selector) => selector,
                    Err(_) => continue,
                },
            };
            self.stable |= selector.matches(pair.stable);
            self.canary |= selector.matches(pair.canary);
            let title = titled("NetworkPolicy", policy);
            self.one_sided = self
                .one_sided
                .take()
                .or_else(|| uneven(&title, &selector, pair.stable, pair.canary));
        }
    }
}

/// Whether a peer means pods of the pair's namespace.
fn speaks_of(pair: &Pair, policy: &Value, peer: &Value) -> bool {
    if !peer["ipBlock"].is_null() {
        return false;
    }
    match &peer["namespaceSelector"] {
        Value::Null => namespace(policy) == pair.namespace,
        given => labels::selector(given).is_ok_and(|selector| selector.matches(pair.namespace_labels)),
    }
}

/// Whether a monitor looks into the pair's namespace.
fn watches(pair: &Pair, monitor: &Value) -> bool {
    let namespaces = &monitor["spec"]["namespaceSelector"];
    match namespaces["matchNames"].as_array().filter(|names| !names.is_empty()) {
        _ if namespaces["any"] == true => true,
        Some(names) => names.iter().any(|name| name == pair.namespace),
        None => namespace(monitor) == pair.namespace,
    }
}

fn service_monitor(pair: &Pair, monitor: &Value) -> Option<Finding> {
    let selector = labels::selector(&monitor["spec"]["selector"]).ok()?;
    let [stable, canary] = [pair.service, pair.canary_service].map(|service| labels::at(service, "/metadata/labels"));
    let found = uneven(&titled("ServiceMonitor", monitor), &selector, &stable, &canary)?;
    watches(pair, monitor).then(|| found.with("watches the Service of"))
}

/// Services beside the pair's own: what sends to the canary past the route, or never sends to it.
fn other_service(pair: &Pair, service: &Value) -> Option<Finding> {
    let name = &service["metadata"]["name"];
    let ours = [pair.service, pair.canary_service];
    let selector = labels::service_selector(service);
    if ours.iter().any(|own| own["metadata"]["name"] == *name) || selector.selects_all() {
        return None;
    }
    let object = titled("Service", service);
    if !selector.matches(pair.canary) {
        return uneven(&object, &selector, pair.stable, pair.canary).map(|found| found.with("serves"));
    }
    Some(Finding {
        severity: Severity::Names,
        sentence: format!("{object} sends traffic to canary pods past the route: it selects them by {selector}"),
        object,
    })
}

/// Volumes that pods of both sides cannot have at the same time.
fn volumes(pair: &Pair, claims: &[Value]) -> Vec<Finding> {
    let volumes = pair.pod_spec["volumes"].as_array().into_iter().flatten();
    let claimed = volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str());
    let found = claimed.filter_map(|name| {
        let claim = claims.iter().find(|claim| claim["metadata"]["name"] == name)?;
        let modes: Vec<&str> = claim["spec"]["accessModes"]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let object = titled("PersistentVolumeClaim", claim);
        let (severity, says) = if modes == ["ReadWriteOncePod"] {
            (
                Severity::Blocks,
                "can be mounted by a single pod only (ReadWriteOncePod): the canary's would not start",
            )
        } else if modes == ["ReadWriteOnce"] {
            (
                Severity::Names,
                "can be mounted on a single node only (ReadWriteOnce): the canary's pods have to fit there",
            )
        } else {
            return None;
        };
        Some(Finding {
            severity,
            sentence: format!("{object} {says}"),
            object,
        })
    });
    found.collect()
}

/// Ports of the node, of which stable's pods may have taken every one.
fn host_ports(pair: &Pair) -> Option<Finding> {
    let containers = pair.pod_spec["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = ports.find_map(|port| port["hostPort"].as_i64().filter(|port| *port != 0));
    let what = match port {
        _ if pair.pod_spec["hostNetwork"] == true => "the network of its node (hostNetwork)".to_owned(),
        Some(port) => format!("port {port} of its node (hostPort)"),
        None => return None,
    };
    let object = format!("Pod template {}", pair.namespace);
    Some(Finding {
        severity: Severity::Names,
        sentence: format!("the pod template asks for {what}: canary pods need nodes where no stable pod runs"),
        object,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "builders of JSON read better so")]

    use super::*;

    fn labels_of(value: &Value) -> Labels {
        labels::at(value, "")
    }

    /// What is found for `app=checkout, tier=web` and its canary `app=checkout-canary, tier=web`.
    fn found(around: &Around, pod_spec: &Value) -> Vec<Finding> {
        let service = |name: &str, labels: Value| json!({"metadata": {"name": name, "namespace": "shop", "labels": labels}, "spec": {"selector": {"app": name}}});
        let pair = Pair {
            namespace: "shop",
            namespace_labels: &labels_of(&json!({"kubernetes.io/metadata.name": "shop", "team": "pay"})),
            stable: &labels_of(&json!({"app": "checkout", "tier": "web"})),
            canary: &labels_of(&json!({"app": "checkout-canary", "tier": "web", "tollgate.dev/role": "canary"})),
            service: &service("checkout", json!({"a": "b"})),
            canary_service: &service("checkout-canary", json!({"a": "b", "tollgate.dev/role": "canary"})),
            pod_spec,
        };
        findings(&pair, around)
    }

    fn policy(name: &str, spec: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    }

    fn app(name: &str) -> Value {
        json!({"matchLabels": {"app": name}})
    }

    fn by_policies(policies: &[Value]) -> Vec<String> {
        let around = Around {
            network_policies: policies,
            ..Around::default()
        };
        let found = found(&around, &json!({}));
        assert!(
            found.iter().all(|finding| finding.severity == Severity::Blocks),
            "{found:?}"
        );
        found.into_iter().map(|finding| finding.sentence).collect()
    }

    #[test]
    fn a_policy_that_applies_to_one_side_only_blocks_and_names_the_label() {
        let open = json!([{}]);
        for (selector, expected) in [
            (
                app("checkout"),
                Some(
                    "NetworkPolicy shop/p applies to stable pods by app=checkout, but canary pods carry app=checkout-canary",
                ),
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["checkout", "cart"]}]}),
                Some(
                    "NetworkPolicy shop/p applies to stable pods by app in (cart,checkout), \
                      but canary pods carry app=checkout-canary",
                ),
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["checkout"]}]}),
                Some(
                    "NetworkPolicy shop/p applies to canary pods by app notin (checkout), \
                      but stable pods carry app=checkout",
                ),
            ),
            (
                json!({"matchExpressions": [{"key": "tollgate.dev/role", "operator": "Exists"}]}),
                Some(
                    "NetworkPolicy shop/p applies to canary pods by tollgate.dev/role, \
                      but stable pods carry no tollgate.dev/role",
                ),
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["checkout", "checkout-canary"]}]}),
                None,
            ),
            (json!({"matchLabels": {"tier": "web"}}), None),
            (json!({}), None),
            (app("cart"), None),
        ] {
            let policy = policy(
                "p",
                json!({"podSelector": selector, "egress": open, "policyTypes": ["Egress"]}),
            );
            let found = by_policies(std::slice::from_ref(&policy));
            assert_eq!(
                found,
                expected.map(ToOwned::to_owned).into_iter().collect::<Vec<_>>(),
                "{selector}"
            );
        }
    }

    #[test]
    fn a_second_policy_that_says_the_same_of_the_canary_settles_it() {
        let stable = policy(
            "stable",
            json!({"podSelector": app("checkout"), "ingress": [{"ports": [{"port": 80}]}]}),
        );
        let canary = |port: i64| {
            policy(
                "canary",
                json!({"podSelector": app("checkout-canary"), "ingress": [{"ports": [{"port": port}]}]}),
            )
        };
        assert_eq!(by_policies(&[stable.clone(), canary(80)]), Vec::<String>::new());
        assert_eq!(by_policies(&[stable.clone(), canary(81)]).len(), 2);
        let mut elsewhere = stable;
        elsewhere["metadata"]["namespace"] = json!("other");
        assert_eq!(
            by_policies(&[elsewhere]),
            Vec::<String>::new(),
            "policies of other namespaces select none of ours"
        );
    }

    #[test]
    fn a_policy_that_lets_others_talk_to_one_side_only_blocks() {
        let peer = |name: &str| json!({"podSelector": app(name)});
        let here = json!({"podSelector": app("checkout"), "namespaceSelector": {"matchLabels": {"team": "pay"}}});
        let there = json!({"podSelector": app("checkout"), "namespaceSelector": {"matchLabels": {"team": "ads"}}});
        let db = |spec: Value| {
            let mut spec = spec;
            spec["podSelector"] = app("db");
            policy("db", spec)
        };
        let admits =
            "NetworkPolicy shop/db admits stable pods by app=checkout, but canary pods carry app=checkout-canary";
        let leads =
            "NetworkPolicy shop/db leads to stable pods by app=checkout, but canary pods carry app=checkout-canary";
        for (spec, expected) in [
            (json!({"ingress": [{"from": [peer("checkout")]}]}), Some(admits)),
            (json!({"egress": [{"to": [peer("checkout")]}]}), Some(leads)),
            (json!({"ingress": [{"from": [here]}]}), Some(admits)),
            (json!({"ingress": [{"from": [there]}]}), None),
            (
                json!({"ingress": [{"from": [peer("checkout"), peer("checkout-canary")]}]}),
                None,
            ),
            (
                json!({"ingress": [{"from": [peer("checkout")]}, {"from": [peer("checkout-canary")]}]}),
                None,
            ),
            (
                json!({"ingress": [{"from": [peer("checkout")], "ports": [{"port": 1}]},
                    {"from": [peer("checkout-canary")], "ports": [{"port": 1}]}]}),
                None,
            ),
            (
                json!({"ingress": [{"from": [peer("checkout"), {"podSelector": {}}]}]}),
                None,
            ),
            (json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}), None),
            (
                json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
                None,
            ),
            (json!({"ingress": [{}]}), None),
            (json!({"ingress": [{"from": [peer("cart")]}]}), None),
        ] {
            let found = by_policies(&[db(spec.clone())]);
            assert_eq!(
                found,
                expected.map(ToOwned::to_owned).into_iter().collect::<Vec<_>>(),
                "{spec}"
            );
        }
        let other_port = json!({"ingress": [{"from": [peer("checkout")], "ports": [{"port": 1}]},
            {"from": [peer("checkout-canary")], "ports": [{"port": 2}]}]});
        assert_eq!(
            by_policies(&[db(other_port)]).len(),
            2,
            "each side has a port of its own"
        );

        let mut elsewhere = db(json!({"ingress": [{"from": [here]}]}));
        elsewhere["metadata"]["namespace"] = json!("data");
        assert_eq!(by_policies(&[elsewhere])[0], admits.replace("shop/db", "data/db"));
    }

    #[test]
    fn what_only_watches_or_protects_is_named() {
        let object = |name: &str, spec: Value| [policy(name, spec)];
        let budget = object("b", json!({"selector": app("checkout")}));
        let any = object(
            "m",
            json!({"selector": app("checkout"), "namespaceSelector": {"any": true}}),
        );
        let named = object(
            "m",
            json!({"selector": app("checkout"), "namespaceSelector": {"matchNames": ["ads"]}}),
        );
        let copied = object("s", json!({"selector": {"matchLabels": {"a": "b"}}}));
        let excluding = object(
            "s",
            json!({"selector": {"matchExpressions": [{"key": "tollgate.dev/role", "operator": "DoesNotExist"}]}}),
        );
        let metrics = object("metrics", json!({"selector": {"app": "checkout"}}));
        let broad = object("web", json!({"selector": {"tier": "web"}}));
        let own = object("checkout", json!({"selector": {"app": "checkout"}}));
        let none = Around::default();
        for (around, expected) in [
            (
                Around {
                    disruption_budgets: &budget,
                    ..none
                },
                Some(
                    "PodDisruptionBudget shop/b protects stable pods by app=checkout, \
                      but canary pods carry app=checkout-canary",
                ),
            ),
            (
                Around {
                    pod_monitors: &any,
                    ..none
                },
                Some(
                    "PodMonitor shop/m watches stable pods by app=checkout, but canary pods carry app=checkout-canary",
                ),
            ),
            (
                Around {
                    pod_monitors: &named,
                    ..none
                },
                None,
            ),
            (
                Around {
                    service_monitors: &copied,
                    ..none
                },
                None,
            ),
            (
                Around {
                    service_monitors: &excluding,
                    ..none
                },
                Some(
                    "ServiceMonitor shop/s watches the Service of stable pods by !tollgate.dev/role, \
                      but canary pods carry tollgate.dev/role=canary",
                ),
            ),
            (
                Around {
                    services: &metrics,
                    ..none
                },
                Some(
                    "Service shop/metrics serves stable pods by app=checkout, \
                      but canary pods carry app=checkout-canary",
                ),
            ),
            (
                Around {
                    services: &broad,
                    ..none
                },
                Some("Service shop/web sends traffic to canary pods past the route: it selects them by tier=web"),
            ),
            (Around { services: &own, ..none }, None),
        ] {
            let found = found(&around, &json!({}));
            assert!(
                found.iter().all(|finding| finding.severity == Severity::Names),
                "{found:?}"
            );
            let sentences: Vec<&str> = found.iter().map(|finding| finding.sentence.as_str()).collect();
            assert_eq!(sentences, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn volumes_and_node_ports_that_both_sides_want_are_found() {
        let claim = |modes: Value| [policy("data", json!({"accessModes": modes}))];
        let volume = json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "t"}]});
        let port = |port: i64| json!({"containers": [{"name": "a"}, {"name": "b", "ports": [{"hostPort": port}]}]});
        for (claims, spec, expected) in [
            (
                claim(json!(["ReadWriteOncePod"])),
                &volume,
                Some((Severity::Blocks, "a single pod only")),
            ),
            (
                claim(json!(["ReadWriteOnce"])),
                &volume,
                Some((Severity::Names, "a single node only")),
            ),
            (claim(json!(["ReadWriteOnce", "ReadWriteMany"])), &volume, None),
            (claim(json!(["ReadWriteMany"])), &volume, None),
            (claim(json!(["ReadWriteOncePod"])), &json!({}), None),
            (
                claim(json!([])),
                &port(8080),
                Some((Severity::Names, "port 8080 of its node (hostPort)")),
            ),
            (claim(json!([])), &port(0), None),
            (
                claim(json!([])),
                &json!({"hostNetwork": true}),
                Some((Severity::Names, "(hostNetwork)")),
            ),
        ] {
            let found = found(
                &Around {
                    volume_claims: &claims,
                    ..Around::default()
                },
                spec,
            );
            match (expected, found.as_slice()) {
                (None, []) => {}
                (Some((severity, says)), [one]) => {
                    assert_eq!(one.severity, severity);
                    assert!(one.sentence.contains(says), "{}", one.sentence);
                }
                other => panic!("{other:?} for {spec}"),
            }
        }
    }

    #[test]
    fn the_gravest_comes_first_and_nothing_twice() {
        let policies = [policy("p", json!({"podSelector": app("checkout")}))];
        let twice = [policies[0].clone(), policies[0].clone()];
        let budgets = [policy("b", json!({"selector": app("checkout")}))];
        let around = Around {
            network_policies: &twice,
            disruption_budgets: &budgets,
            ..Around::default()
        };
        let severities: Vec<Severity> = found(&around, &json!({}))
            .iter()
            .map(|finding| finding.severity)
            .collect();
        assert_eq!(severities, [Severity::Blocks, Severity::Names]);
    }
}
