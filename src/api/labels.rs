//! Every label, annotation, finalizer and name of ours that is written to the cluster.

pub use crate::routers::{CANARY_SUFFIX, MARK_PREFIX, SPLIT_LABEL as SPLIT};

/// What our labels and annotations begin with, those on routes apart.
pub const PREFIX: &str = "tollgate.dev/";
/// Group of all our kinds.
pub const GROUP: &str = "tollgate.dev";
/// Version of all our kinds.
pub const VERSION: &str = "v1alpha1";

/// Label of an adopted Deployment; its value is the gate's name. The hold policy matches by it.
pub const GATE: &str = "tollgate.dev/gate";
/// Label of a Deployment whose changed template is held; its value is the gate's name.
pub const HELD: &str = "tollgate.dev/held";
/// Label of a Deployment that we keep paused at rest, where that is the hold; its value is the
/// revision that ran when it was paused. A paused template of another revision waits to be proven.
pub const PAUSED: &str = "tollgate.dev/paused";
/// Label of what we made: `canary` on the canary's Deployment, Service and pods.
pub const ROLE: &str = "tollgate.dev/role";
/// Label of a Deployment that is being brought to a proven revision; until the time in its value
/// (whole seconds since 1970) template changes by others are refused. A label, because an
/// annotation can be taken off through the status subresource.
pub const HANDOVER: &str = "tollgate.dev/handover";
/// Annotation of a Deployment whose gate was deleted before its template was proven: it says so. It means
/// something only while the Deployment is paused; the next gate that adopts the Deployment takes it off.
pub const LEFT_PAUSED: &str = "tollgate.dev/left-paused";
/// Label of the canary's Deployment and pods: the revision they carry.
pub const REVISION: &str = "tollgate.dev/revision";
/// Finalizer of a gate: the route goes back to what the user wrote before the gate is gone.
pub const FINALIZER: &str = "tollgate.dev/route";
/// Annotation of a Deployment that names the commit its template was made from.
pub const COMMIT: &str = "tollgate.dev/commit";

/// Value of [`ROLE`] on what carries the revision on trial.
pub const ROLE_CANARY: &str = "canary";

/// Where the operator runs; its Secrets are read there and nowhere else.
pub const NAMESPACE: &str = "tollgate-system";
/// The operator's service account, and its field manager.
pub const ACCOUNT: &str = "tollgate";
/// The operator as the API server knows it: the one user that the policies let through.
pub const OPERATOR_USER: &str = "system:serviceaccount:tollgate-system:tollgate";

/// Name of the policy that holds, and of the webhook that does so where the API server has none.
pub const HOLD: &str = "hold.tollgate.dev";
/// Name of the webhook's Service, and of the Secret with its certificate.
pub const WEBHOOK: &str = "tollgate-webhook";
/// Name of the Service where other tools ask for decisions, and of the Secret with its certificate.
pub const HOOKS: &str = "tollgate-hooks";
