//! Who may do what: the operator's own rights, and the roles that people are given.

use std::fmt::Write as _;

use super::labels::{ACCOUNT, NAMESPACE};
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
        why: "which pods are stable's and which the canary's, and whether there is room for more",
        groups: &[""],
        resources: &["pods", "resourcequotas"],
        verbs: READ,
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
