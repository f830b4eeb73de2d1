//! Routes of the Gateway API in the API server: `HTTPRoute` and `GRPCRoute`.
//!
//! Every write is one JSON patch that first tests the resourceVersion of the route as it was read,
//! so it happens on exactly that version or not at all. Nothing is repeated here: after a conflict
//! the caller reads again and decides again. Only the hand-back of the rules, which moves no
//! traffic, reads again by itself, because gateways write the route's status in that moment.

use std::time::Duration;

use json_patch::{PatchOperation, TestOperation};
use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams};
use serde_json::Value;

use super::note::clip;
use super::{Ending, Error, FIELD_MANAGER, Keep, Pair, Rbac, RouteKind, RouteRef, route};
use crate::decision::Mark;

/// What this router needs.
pub(super) const RULES: Rbac = Rbac {
    groups: &["gateway.networking.k8s.io"],
    resources: &["httproutes", "grpcroutes"],
    verbs: &["get", "list", "watch", "patch"],
};

/// The longest a call may take.
const CALL: Duration = Duration::from_secs(5);

/// How often the hand-back is tried when somebody else writes the route meanwhile.
const TRIES: usize = 5;

/// How long gateways are given to report about the restored route before the rules are handed back:
/// a write at once would meet their report, fail, and have to be made again.
const REPORTS: Duration = Duration::from_millis(250);

/// The longest answer of the API server's that an error quotes, in bytes.
const QUOTED: usize = 512;

/// Reads and writes the routes of one namespace.
#[derive(Clone)]
pub struct GatewayApi {
    client: Client,
    namespace: String,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The route afterwards.
    pub route: Value,
    /// Writes that were needed: 0 when the route already said what was wanted.
    pub writes: usize,
}

impl GatewayApi {
    /// A router for the routes of `namespace`. The client must be one that does not retry by
    /// itself: it would repeat a write that has to be decided on again.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// The route as the API server has it now, or `None` when there is none.
    ///
    /// # Errors
    /// When the API server could not be asked, or refused.
    pub async fn read(&self, at: &RouteRef) -> Result<Option<Value>, Error> {
        let request = self.path(at.kind).get(&at.name, &GetParams::default());
        match self.call(at, request).await {
            Ok(route) => Ok(Some(route)),
            Err(Error::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the mark and its weight on `route`, which must be as [`read`](Self::read) gave it:
    /// whole, with its managed fields. One request, or none when the route says so already.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the route changed since; [`Error::Fenced`] when its mark forbids the
    /// write; see [`Error`] for the rest.
    pub async fn apply(&self, at: &RouteRef, route: &Value, pair: &Pair, mark: &Mark) -> Result<Written, Error> {
        let wanted = route::split_at(route, pair, mark)?;
        self.write(at, route, wanted).await
    }

    /// Takes the pair out of `route`: one request, or none when that was done before. What
    /// [`hand_back_due`](super::hand_back_due) says of the answer is to be done next; where the rules'
    /// only former manager was one that updates, this is written in its name, and nothing is due.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn restore(&self, at: &RouteRef, route: &Value, pair: &Pair, ending: Ending) -> Result<Written, Error> {
        let wanted = route::restored(route, pair, ending)?;
        if let Some((manager, whole)) = route::in_their_name(route, &wanted, pair, ending.keep) {
            return self.write_as(at, (route, whole), &manager).await;
        }
        self.write(at, route, wanted).await
    }

    /// Hands the rules of a restored route back to their former manager: a read and a write in health,
    /// nothing when it is not due.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), after a conflict only when others wrote the route five times in a row.
    pub async fn hand_back(&self, at: &RouteRef, route: &Value, pair: &Pair, keep: Keep) -> Result<Written, Error> {
        let mut route = route.clone();
        for tried in 1.. {
            if route::handed_back(&route, pair, keep).is_none() {
                break;
            }
            tokio::time::sleep(REPORTS).await;
            route = self.read(at).await?.ok_or_else(|| Error::Gone(self.place(at)))?;
            let Some(wanted) = route::handed_back(&route, pair, keep) else {
                break;
            };
            match self.write(at, &route, wanted).await {
                Err(Error::Conflict(_)) if tried < TRIES => {}
                written => return written,
            }
        }
        Ok(Written { route, writes: 0 })
    }

    async fn write(&self, at: &RouteRef, from: &Value, to: Value) -> Result<Written, Error> {
        self.write_as(at, (from, to), FIELD_MANAGER).await
    }

    async fn write_as(&self, at: &RouteRef, (from, to): (&Value, Value), manager: &str) -> Result<Written, Error> {
        let changes = json_patch::diff(from, &to);
        if changes.0.is_empty() {
            return Ok(Written { route: to, writes: 0 });
        }
        let version = from
            .get("metadata")
            .and_then(|m| m.get("resourceVersion"))
            .filter(|v| v.is_string());
        let Some(version) = version else {
            return Err(Error::Malformed {
                field: format!("metadata.resourceVersion of {}", self.place(at)),
                found: "missing".to_owned(),
                expected: "the version that was read",
            });
        };
        let pointer = json_patch::jsonptr::PointerBuf::from_tokens(["metadata", "resourceVersion"]);
        let mut operations = vec![PatchOperation::Test(TestOperation {
            path: pointer,
            value: version.clone(),
        })];
        operations.extend(changes.0);
        let request = self.path(at.kind).patch(
            &at.name,
            &PatchParams {
                field_manager: Some(manager.to_owned()),
                ..PatchParams::default()
            },
            &Patch::<()>::Json(json_patch::Patch(operations)),
        );
        Ok(Written {
            route: self.call(at, request).await?,
            writes: 1,
        })
    }

    fn path(&self, kind: RouteKind) -> Request {
        let group = "/apis/gateway.networking.k8s.io/v1";
        Request::new(format!("{group}/namespaces/{}/{}", self.namespace, kind.plural()))
    }

    fn place(&self, at: &RouteRef) -> String {
        format!("{} {}/{}", at.kind.word(), self.namespace, at.name)
    }

    async fn call(
        &self,
        at: &RouteRef,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, Error> {
        let request = request.map_err(|e| self.unreachable(at, &e.to_string()))?;
        match tokio::time::timeout(CALL, self.client.request::<Value>(request)).await {
            Err(_) => Err(Error::Timeout(self.place(at), CALL.as_secs())),
            Ok(Ok(route)) => Ok(route),
            Ok(Err(kube::Error::Api(status))) => Err(self.answered(at, &status)),
            Ok(Err(error)) => Err(self.unreachable(at, &error.to_string())),
        }
    }

    /// A failed test of a JSON patch is 422 without causes; what validation refuses names causes.
    fn answered(&self, at: &RouteRef, status: &kube::core::Status) -> Error {
        let caused = status.details.as_ref().is_some_and(|d| !d.causes.is_empty());
        match status.code {
            404 => Error::Gone(self.place(at)),
            409 => Error::Conflict(self.place(at)),
            422 if !caused => Error::Conflict(self.place(at)),
            code => {
                let mut message = status.message.clone();
                clip(&mut message, QUOTED);
                Error::Refused {
                    place: self.place(at),
                    status: code,
                    message,
                }
            }
        }
    }

    fn unreachable(&self, at: &RouteRef, message: &str) -> Error {
        let mut message = message.to_owned();
        clip(&mut message, QUOTED);
        Error::Unreachable {
            place: self.place(at),
            message,
        }
    }
}
