//! Reads and writes the traffic split: one router per file, each with its RBAC rules.
//!
//! A router edits the user's own object, never a copy. It finds its place in it by backend, keeps
//! everything it does not know, writes weights together with a [`Mark`](crate::decision::Mark) in
//! one compare-and-swap, and at the end puts back what the user wrote. Whether to write at all is
//! not decided here; what is refused here is only what must never happen: a raise against a fence,
//! a write on a route that changed since it was read, a weight that cannot be split exactly.
//!
//! - [`external`]: somebody else moves the traffic; how far it has come;
//! - [`gateway_api`]: `HTTPRoute` and `GRPCRoute`, the calls;
//! - `route`: the same as a pure function from route to route, and `rules` for one rule of it;
//! - `programmed`: what gateways report about it;
//! - `note`: what is kept in the route's annotation; `owners`: who manages its rules.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod external;
pub mod gateway_api;
#[cfg(test)]
mod gateway_api_tests;
mod note;
#[cfg(test)]
mod note_tests;
mod owners;
mod programmed;
mod route;
#[cfg(test)]
mod route_properties;
#[cfg(test)]
mod route_tests;
mod rules;

use sha2::{Digest, Sha256};

pub use external::{Course, Rollout};
pub use gateway_api::{GatewayApi, Written};
pub use note::is_marked;
pub use route::{Ending, Keep, facts, hand_back_due};

/// The field manager of every write of ours.
pub const FIELD_MANAGER: &str = "tollgate";

/// On a route while any gate splits it: what the split policy selects on.
pub const SPLIT_LABEL: &str = "tollgate.dev/split";

/// What every annotation begins with in which a gate keeps its mark on a route; the gate's name
/// follows.
pub const MARK_PREFIX: &str = "traffic.tollgate.dev/";

/// What is appended to the name of a Service and of a Deployment for their canary.
pub const CANARY_SUFFIX: &str = "-canary";

/// The name of the canary's Service: `<service>-canary`. Names of Services have at most 63
/// characters, so a gate takes one of at most 56. Routes and queries name it, so everybody asks here.
#[must_use]
pub fn canary_service(service: &str) -> String {
    format!("{service}{CANARY_SUFFIX}")
}

/// One route, in the gate's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteRef {
    /// What it is.
    pub kind: RouteKind,
    /// Its name.
    pub name: String,
}

/// The kinds of route whose backends carry weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Requests over HTTP.
    Http,
    /// Calls over gRPC.
    Grpc,
}

impl RouteKind {
    /// The kind as it is written in YAML.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }

    /// The name of the kind in the API server's paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Http => "httproutes",
            Self::Grpc => "grpcroutes",
        }
    }
}

/// Whose traffic is split, and for which gate. Every port of the service that a route names is
/// split, and the canary gets the same port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The gate's name: it has its own annotation on the route.
    pub gate: String,
    /// The namespace of gate, route and both Services.
    pub namespace: String,
    /// The user's Service, which serves stable.
    pub service: String,
    /// The canary's Service.
    pub canary: String,
}

impl Pair {
    /// The pair of a gate's service and its canary, `<service>-canary`: the split policy lets an
    /// edit through that sets every backend with this ending to 0.
    #[must_use]
    pub fn new(gate: &str, namespace: &str, service: &str) -> Self {
        Self {
            gate: gate.to_owned(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            canary: canary_service(service),
        }
    }

    /// The annotation in which this gate keeps its mark: `traffic.tollgate.dev/<gate>`.
    #[must_use]
    pub fn annotation(&self) -> String {
        format!("{MARK_PREFIX}{}", shortened(&self.gate, 63))
    }
}

/// The name itself, or its beginning and the start of its SHA-256, at most `limit` bytes. Names of
/// Kubernetes are ASCII; anything else is replaced.
fn shortened(name: &str, limit: usize) -> String {
    const HASH: usize = 10;
    if name.len() <= limit {
        return name.to_owned();
    }
    let begin: String = name
        .chars()
        .take(limit.saturating_sub(HASH + 1))
        .map(|c| if c.is_ascii() { c } else { '-' })
        .collect();
    format!(
        "{}-{}",
        begin.trim_end_matches(['-', '.']),
        format_args!("{:.HASH$x}", Sha256::digest(name))
    )
}

/// What a router may do in the API server: one line of an RBAC rule each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rbac {
    /// API groups.
    pub groups: &'static [&'static str],
    /// Resources of these groups.
    pub resources: &'static [&'static str],
    /// What may be done with them.
    pub verbs: &'static [&'static str],
}

/// What every router together needs.
pub const RULES: &[Rbac] = &[gateway_api::RULES, external::RULES];

/// Why a route was not written. Nothing was changed, except where the variant says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote the route after it was read: read it again and decide again.
    #[error("{0} was changed by somebody else after it was read; it must be read and decided on again")]
    Conflict(String),
    /// The route's mark forbids this write to this writer.
    #[error(
        "attempt {attempt} may not write weight {weight}: the route carries attempt {live}{}; only its safe weight, {safe}, may be written",
        if *.fenced { ", fenced by an abort" } else { "" }
    )]
    Fenced {
        /// The attempt that wanted to write.
        attempt: i64,
        /// What it wanted to write, in percent.
        weight: u8,
        /// The attempt in the route's mark.
        live: i64,
        /// Whether that attempt was aborted.
        fenced: bool,
        /// The only weight that may be written, in percent.
        safe: u8,
    },
    /// No rule sends anything to the service, so there is nothing to split.
    #[error("no rule gives the Service {0:?} a weight above 0")]
    NoService(String),
    /// Another gate splits the same Service on this route.
    #[error("another gate splits the Service {0:?} on this route; a Service has one gate")]
    Taken(String),
    /// A weight of the user's is too large to be split in hundredths.
    #[error(
        "spec.rules[{rule}]: backend {backend:?} has weight {weight}; at most 10000 can be split exactly, because \
         the Gateway API takes no weight above 1000000: write smaller weights in the same proportion"
    )]
    TooHeavy {
        /// The rule's place, from 0.
        rule: usize,
        /// The backend's name.
        backend: String,
        /// Its weight.
        weight: i64,
    },
    /// The route has not the shape of a route.
    #[error("{field} is {found}; expected {expected}")]
    Malformed {
        /// Which field.
        field: String,
        /// What is there.
        found: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The route is not there (any more).
    #[error("{0} does not exist")]
    Gone(String),
    /// The API server did not answer in time. **The write may have happened.**
    #[error("the API server did not answer about {0} within {1} s")]
    Timeout(String, u64),
    /// The API server refused: admission, permission or validation.
    #[error("the API server refused to change {place}: {status} {message}")]
    Refused {
        /// Kind, namespace and name.
        place: String,
        /// The HTTP status.
        status: u16,
        /// Its reason, shortened.
        message: String,
    },
    /// The API server could not be reached, or answered in a form that is not understood. **The
    /// write may have happened.**
    #[error("the API server could not be asked about {place}: {message}")]
    Unreachable {
        /// Kind, namespace and name.
        place: String,
        /// What went wrong, shortened.
        message: String,
    },
}
