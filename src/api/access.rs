//! Who may do what: the operator's own rights, and the roles that people are given.

use std::fmt::Write as _;

use super::labels::{ACCOUNT, HOOKS, NAMESPACE};
use crate::routers;

/// One line of a role, with its reason.
struct Rule {
    /// Why it is needed; becomes a comment.
    why: &'static str,
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];

/// What the operator may do in every namespace. It reads no Secrets and no ConfigMaps here.
const OPERATOR: &[Rule] = &[
    Rule {
        why: "gates: read them, and put the finalizer on and off",
        groups: &["tollgate.dev"],
        resources: &["releasegates"],
        verbs: &["get", "list", "watch", "patch"],
    },
    Rule {
        why: "one frozen plan per attempt; old ones are removed",
        groups: &["tollgate.dev"],
        resources: &["canaryanalyses"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Rule {
        why: "what people ask, and where evidence comes from",
        groups: &["tollgate.dev"],
        resources: &["gateactions", "evidencesources"],
        verbs: READ,
    },
    Rule {
        why: "answered requests beyond the newest 20 of a gate are removed, and all of them with their gate",
        groups: &["tollgate.dev"],
        resources: &["gateactions"],
        verbs: &["delete"],
    },
    Rule {
        why: "answers and state",
        groups: &["tollgate.dev"],
        resources: &[
            "releasegates/status",
            "canaryanalyses/status",
            "gateactions/status",
            "evidencesources/status",
        ],
        verbs: &["get", "patch", "update"],
    },
    Rule {
        why: "owner references that block deletion need this where the API server asks for it",
        groups: &["tollgate.dev"],
        resources: &["releasegates/finalizers", "canaryanalyses/finalizers"],
        verbs: &["update"],
    },
    Rule {
        why: "the Deployment on trial, and its canary",
        groups: &["apps"],
        resources: &["deployments"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Rule {
        why: "the canary's Service",
        groups: &[""],
        resources: &["services"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Rule {
        why: "whether the trial would prove anything: volumes that only one pod can use, and what policies see",
        groups: &[""],
        resources: &["persistentvolumeclaims", "namespaces"],
        verbs: &["get", "list"],
    },
    Rule {
        why: "stable does not shrink while a release is in flight",
        groups: &["autoscaling"],
        resources: &["horizontalpodautoscalers"],
        verbs: &["get", "list", "watch", "patch"],
    },
    Rule {
        why: "the same for KEDA",
        groups: &["keda.sh"],
        resources: &["scaledobjects"],
        verbs: &["get", "list", "watch", "patch"],
    },
    Rule {
        why: "what selects stable's pods and would miss the canary",
        groups: &["networking.k8s.io"],
        resources: &["networkpolicies"],
        verbs: &["get", "list"],
    },
    Rule {
        why: "the same for budgets",
        groups: &["policy"],
        resources: &["poddisruptionbudgets"],
        verbs: &["get", "list"],
    },
    Rule {
        why: "the same for monitors",
        groups: &["monitoring.coreos.com"],
        resources: &["podmonitors", "servicemonitors"],
        verbs: &["get", "list"],
    },
    Rule {
        why: "policies attached to the Service, cloned for the canary",
        groups: &["gateway.networking.k8s.io"],
        resources: &["backendtlspolicies"],
        verbs: &["get", "list", "create", "patch", "deletecollection"],
    },
    Rule {
        why: "events",
        groups: &["events.k8s.io"],
        resources: &["events"],
        verbs: &["create", "patch"],
    },
    Rule {
        why: "who asks for a decision, and whether they may",
        groups: &["authentication.k8s.io"],
        resources: &["tokenreviews"],
        verbs: &["create"],
    },
    Rule {
        why: "the same",
        groups: &["authorization.k8s.io"],
        resources: &["subjectaccessreviews"],
        verbs: &["create"],
    },
    Rule {
        why: "whether the hold of the API server is there",
        groups: &["admissionregistration.k8s.io"],
        resources: &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        verbs: &["get"],
    },
];

/// What the operator may do in its own namespace.
const AT_HOME: &[Rule] = &[
    Rule {
        why: "credentials of sources and of GitHub, each read by its name",
        groups: &[""],
        resources: &["secrets"],
        verbs: &["get"],
    },
    Rule {
        why: "who leads",
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        verbs: &["get", "create", "patch", "update"],
    },
];

/// Everybody who may view a namespace sees gates and their story.
const VIEW: &[Rule] = &[Rule {
    why: "read only",
    groups: &["tollgate.dev"],
    resources: &["releasegates", "canaryanalyses", "gateactions"],
    verbs: READ,
}];

/// Whoever may edit a namespace may write gates, but no status, no GateActions and no plans:
/// asking a gate for something is a right of its own.
const EDIT: &[Rule] = &[Rule {
    why: "the policy itself; status is the operator's alone",
    groups: &["tollgate.dev"],
    resources: &["releasegates"],
    verbs: WRITE,
}];

/// Given to people and pipelines by a RoleBinding of one's own: abort, hold, promote.
const ACT: &[Rule] = &[
    Rule {
        why: "ask a gate for something",
        groups: &["tollgate.dev"],
        resources: &["gateactions"],
        verbs: &["create", "get", "list", "watch"],
    },
    Rule {
        why: "see what it is about",
        groups: &["tollgate.dev"],
        resources: &["releasegates", "canaryanalyses"],
        verbs: READ,
    },
];

/// Given to other tools by a RoleBinding of one's own: ask for decisions over HTTPS.
const ASK: &[Rule] = &[Rule {
    why: "nothing but the answers of the hooks",
    groups: &["tollgate.dev"],
    resources: &["releasegates/decision", "canaryanalyses/decision"],
    verbs: &["get"],
}];

/// For those who may edit a namespace and have another tool move its traffic: analyses of their own.
const ANALYSE: &[Rule] = &[Rule {
    why: "how releases are judged that another tool moves; what a gate has frozen cannot be changed either way",
    groups: &["tollgate.dev"],
    resources: &["canaryanalyses"],
    verbs: WRITE,
}];

/// Roles and bindings, as one YAML stream.
#[must_use]
pub fn roles() -> String {
    let view = "rbac.authorization.k8s.io/aggregate-to-view: \"true\"";
    let edit = "rbac.authorization.k8s.io/aggregate-to-edit: \"true\"";
    let admin = "rbac.authorization.k8s.io/aggregate-to-admin: \"true\"";
    [
        cluster_role("tollgate", "The operator's rights in every namespace.", &[], OPERATOR) + &routers_rules(),
        binding("ClusterRole", "tollgate"),
        home_role(),
        binding("Role", "tollgate"),
        certificate(),
        cluster_role(
            "tollgate-view",
            "Added to the roles view, edit and admin.",
            &[view, edit, admin],
            VIEW,
        ),
        cluster_role(
            "tollgate-edit",
            "Added to the roles edit and admin.",
            &[edit, admin],
            EDIT,
        ),
        cluster_role(
            "tollgate-act",
            "For people who may promote, hold and abort: bind it where they may.",
            &[],
            ACT,
        ),
        cluster_role(
            "tollgate-ask",
            "For tools that ask for decisions: bind it where they may.",
            &[],
            ASK,
        ),
        cluster_role(
            "tollgate-analyse",
            "For people whose traffic another tool moves: bind it where they may write analyses.",
            &[],
            ANALYSE,
        ),
    ]
    .join("---\n")
}

fn cluster_role(name: &str, about: &str, labels: &[&str], rules: &[Rule]) -> String {
    let mut text =
        format!("# {about}\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\n");
    if !labels.is_empty() {
        text.push_str("  labels:\n");
    }
    for label in labels {
        let _ = writeln!(text, "    {label}");
    }
    text + &lines(rules)
}

fn home_role() -> String {
    format!(
        "# The operator's rights in its own namespace.\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n\
         metadata:\n  name: tollgate\n  namespace: {NAMESPACE}\n"
    ) + &lines(AT_HOME)
}

/// The certificate of the hooks: made by the operator, kept where it may change this one Secret.
fn certificate() -> String {
    format!(
        "# The certificate that other tools see; the operator fills it in and renews it.\napiVersion: v1\nkind: Secret\n\
         metadata:\n  name: {HOOKS}\n  namespace: {NAMESPACE}\ntype: Opaque\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: {HOOKS}\n  namespace: {NAMESPACE}\n\
         rules:\n- {{apiGroups: [\"\"], resources: [secrets], resourceNames: [{HOOKS}], verbs: [get, update]}}\n---\n"
    ) + &binding("Role", HOOKS)
}

fn binding(kind: &str, name: &str) -> String {
    let place = if kind == "Role" {
        format!("  namespace: {NAMESPACE}\n")
    } else {
        String::new()
    };
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata:\n  name: {name}\n{place}\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name}}}\n\
         subjects:\n- {{kind: ServiceAccount, name: {ACCOUNT}, namespace: {NAMESPACE}}}\n"
    )
}

/// What the routers ask for, each beside its own code.
fn routers_rules() -> String {
    let mut text = "# what the routers need: weights, marks and the way back\n".to_owned();
    for rule in routers::RULES {
        text.push_str(&line(rule.groups, rule.resources, rule.verbs));
    }
    text
}

fn line(groups: &[&str], resources: &[&str], verbs: &[&str]) -> String {
    let list = |words: &[&str]| {
        let quoted = words.iter().map(|word| if word.is_empty() { "\"\"" } else { word });
        quoted.collect::<Vec<_>>().join(", ")
    };
    let (groups, resources, verbs) = (list(groups), list(resources), list(verbs));
    format!("- {{apiGroups: [{groups}], resources: [{resources}], verbs: [{verbs}]}}\n")
}

fn lines(rules: &[Rule]) -> String {
    rules.iter().fold("rules:\n".to_owned(), |text, rule| {
        text + "# " + rule.why + "\n" + &line(rule.groups, rule.resources, rule.verbs)
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};

    use super::*;

    fn rules_of(name: &str) -> Vec<PolicyRule> {
        let text = roles();
        let documents = text
            .split("---\n")
            .filter(|document| document.contains(&format!("\n  name: {name}\n")));
        let role = documents
            .clone()
            .find(|document| document.contains("kind: ClusterRole\n"));
        let role: ClusterRole = serde_saphyr::from_str(role.expect("a role of that name")).expect("a ClusterRole");
        role.rules.unwrap_or_default()
    }

    fn allows(rules: &[PolicyRule], verb: &str, resource: &str) -> bool {
        rules.iter().any(|rule| {
            let resources = rule.resources.iter().flatten();
            rule.verbs.iter().any(|known| known == verb) && resources.clone().any(|known| known == resource)
        })
    }

    #[test]
    fn nobody_is_given_everything() {
        for name in [
            "tollgate",
            "tollgate-view",
            "tollgate-edit",
            "tollgate-act",
            "tollgate-ask",
            "tollgate-analyse",
        ] {
            for rule in rules_of(name) {
                let words = [
                    rule.api_groups.unwrap_or_default(),
                    rule.resources.unwrap_or_default(),
                    rule.verbs,
                ];
                assert!(words.concat().iter().all(|word| word != "*"), "{name}");
            }
        }
    }

    #[test]
    fn secrets_are_read_by_name_in_the_operators_own_namespace_only() {
        let operator = rules_of("tollgate");
        for resource in ["secrets", "configmaps"] {
            for verb in ["get", "list", "watch"] {
                assert!(!allows(&operator, verb, resource), "{verb} {resource}");
            }
        }
        let text = roles();
        let home = text
            .split("---\n")
            .find(|document| document.contains("kind: Role\n"))
            .expect("a Role");
        let home: Role = serde_saphyr::from_str(home).expect("a Role");
        assert_eq!(home.metadata.namespace.as_deref(), Some(NAMESPACE));
        let rules = home.rules.unwrap_or_default();
        assert!(allows(&rules, "get", "secrets"));
        assert!(!allows(&rules, "list", "secrets") && !allows(&rules, "watch", "secrets"));
    }

    #[test]
    fn who_may_edit_writes_gates_but_no_status_no_plans_and_asks_nothing() {
        let edit = rules_of("tollgate-edit");
        assert!(allows(&edit, "patch", "releasegates"));
        for resource in [
            "releasegates/status",
            "canaryanalyses",
            "canaryanalyses/status",
            "gateactions",
            "gateactions/status",
        ] {
            for verb in ["create", "update", "patch"] {
                assert!(!allows(&edit, verb, resource), "{verb} {resource}");
            }
        }
        let act = rules_of("tollgate-act");
        assert!(allows(&act, "create", "gateactions"));
        assert!(!allows(&act, "update", "gateactions") && !allows(&act, "patch", "releasegates"));
    }

    #[test]
    fn the_operator_has_what_its_routers_need() {
        let operator = rules_of("tollgate");
        for rule in routers::RULES {
            for (verb, resource) in rule
                .verbs
                .iter()
                .flat_map(|verb| rule.resources.iter().map(move |resource| (verb, resource)))
            {
                assert!(allows(&operator, verb, resource), "{verb} {resource}");
            }
        }
    }
}
