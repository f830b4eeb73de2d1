//! Who may ask: a bearer token is shown to the API server, and its account's rights are asked for.
//!
//! What the API server says is kept for a few seconds, under the hash of the token, never the token
//! itself; nobody is let in because the API server did not answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::api::labels;

/// The longest wait for one answer of the API server.
const CALL: Duration = Duration::from_secs(2);
/// How long a yes holds: so long an account whose right was taken can still ask.
const YES: Duration = Duration::from_secs(10);
/// How long a no holds.
const NO: Duration = Duration::from_secs(2);
/// Most answers that are kept.
const KEPT: usize = 1024;
/// The longest token, in bytes.
const TOKEN: usize = 16 * 1024;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The decision of a gate.
    Gate,
    /// The decision of an analysis.
    Analysis,
}

impl Resource {
    /// The resource as roles name it, with its subresource.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Gate => "releasegates/decision",
            Self::Analysis => "canaryanalyses/decision",
        }
    }

    fn parts(self) -> (String, String) {
        let (resource, subresource) = self.words().split_once('/').unwrap_or_default();
        (resource.to_owned(), subresource.to_owned())
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The token is nobody's, or not good any more.
    Stranger,
    /// The account has not the right.
    Forbidden,
    /// The API server did not say.
    Unsure,
}

/// One question: the hash of the token, and what it is about.
type Question = ([u8; 32], Resource, String, String);

/// What the API server said, and until when that holds.
type Said = (Instant, Result<(), Denied>);

/// Asks the API server, and remembers for a moment what it said.
pub struct Callers {
    client: Client,
    known: Mutex<HashMap<Question, Said>>,
}

impl Callers {
    /// Asks through this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
        }
    }

    /// Whether the token's account may get this resource: namespace and name.
    ///
    /// # Errors
    /// Why not.
    pub async fn may_ask(
        &self,
        token: &str,
        resource: Resource,
        (namespace, name): (&str, &str),
    ) -> Result<(), Denied> {
        if token.len() > TOKEN {
            return Err(Denied::Stranger);
        }
        let hash = Sha256::digest(token.as_bytes()).into();
        let question = (hash, resource, namespace.to_owned(), name.to_owned());
        if let Some(known) = self.recall(&question) {
            return known;
        }
        let said = self.ask(token, resource, (namespace, name)).await;
        self.keep(question, said);
        said
    }

    async fn ask(&self, token: &str, resource: Resource, (namespace, name): (&str, &str)) -> Result<(), Denied> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviewed = self.create(&review).await?.status.unwrap_or_default();
        if reviewed.authenticated != Some(true) {
            return Err(Denied::Stranger);
        }
        let user = reviewed.user.ok_or(Denied::Stranger)?;
        let (resource, subresource) = resource.parts();
        let attributes = ResourceAttributes {
            group: Some(labels::GROUP.to_owned()),
            resource: Some(resource),
            subresource: Some(subresource),
            verb: Some("get".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: about(user, attributes),
            ..SubjectAccessReview::default()
        };
        let reviewed = self.create(&review).await?.status.unwrap_or_default();
        if reviewed.allowed && reviewed.denied != Some(true) {
            Ok(())
        } else {
            Err(Denied::Forbidden)
        }
    }

    async fn create<K>(&self, review: &K) -> Result<K, Denied>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let params = PostParams::default();
        match tokio::time::timeout(CALL, api.create(&params, review)).await {
            Ok(Ok(reviewed)) => Ok(reviewed),
            Ok(Err(error)) => {
                tracing::warn!(kind = %K::kind(&()), %error, "who asks cannot be found out");
                Err(Denied::Unsure)
            }
            Err(_elapsed) => Err(Denied::Unsure),
        }
    }

    fn recall(&self, question: &Question) -> Option<Result<(), Denied>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, said) = known.get(question)?;
        (Instant::now() < *until).then_some(*said)
    }

    fn keep(&self, question: Question, said: Result<(), Denied>) {
        let holds = match said {
            Ok(()) => YES,
            Err(Denied::Unsure) => return,
            Err(Denied::Stranger | Denied::Forbidden) => NO,
        };
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < KEPT {
            known.insert(question, (now + holds, said));
        }
    }
}

fn about(user: UserInfo, attributes: ResourceAttributes) -> SubjectAccessReviewSpec {
    let extra: Option<BTreeMap<_, _>> = user.extra;
    SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra,
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}
