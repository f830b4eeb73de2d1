//! One call to GitHub: bounded in time and size, never repeated behind our back, always by path.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use octocrab::Octocrab;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::auth::{Auth, Credentials};
use super::error::{Error, Refusal};

/// Longest answer read, in bytes. A page of a hundred deployments is about 0.5 MB.
const BODY_MAX: usize = 4 << 20;

/// Where GitHub is and how to speak to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise Server.
    pub url: String,
    /// What to sign in with.
    pub credentials: Credentials,
    /// Longest time to connect; 5 s is plenty.
    pub connect_timeout: Duration,
    /// Longest time for a whole call with its answer; GitHub itself gives up after 10 s.
    pub call_timeout: Duration,
}

impl Settings {
    /// Settings for github.com: 5 s to connect, 15 s for a call.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            url: "https://api.github.com".into(),
            credentials,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(15),
        }
    }
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address is not one of an API.
    #[error("url is {0:?}, but must be https://api.github.com or https://HOST/api/v3, without user, query or fragment")]
    Url(String),
    /// The key cannot be read. Its text is not repeated.
    #[error("private_key is not an RSA private key in PEM, as GitHub gives it out (BEGIN RSA PRIVATE KEY)")]
    PrivateKey,
    /// The client cannot be built, e.g. without any root certificate on the machine.
    #[error("the client for GitHub cannot be built: {0}")]
    Client(String),
}

/// A GitHub, signed in.
///
/// Octocrab carries the calls and signs the App's tokens, nothing more. Its retries repeat writes, so that its `retry`
/// feature stays off; with absolute addresses it drops the token on every host but api.github.com, so that calls are
/// made by path alone; its models refuse valid answers, so that answers are read into structures of our own.
pub struct GitHub {
    auth: Auth,
    call_timeout: Duration,
}

impl GitHub {
    /// Prepares a client; nothing is sent yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Names the setting that cannot work. Credentials are never part of the message.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let url = checked_url(&settings.url)?;
        let failed = |error: octocrab::Error| SettingsError::Client(chain(&error));
        let mut builder = Octocrab::builder()
            .base_uri(url)
            .map_err(failed)?
            .set_connect_timeout(Some(settings.connect_timeout))
            .set_read_timeout(Some(settings.call_timeout))
            .set_write_timeout(Some(settings.call_timeout));
        if let Some((id, key)) = settings.credentials.app_key()? {
            builder = builder.app(id, key);
        } else if let Credentials::Token(token) = &settings.credentials {
            builder = builder.user_access_token(token.clone());
        }
        let root = builder.build().map_err(failed)?;
        let auth = Auth::new(root, &settings.credentials, settings.call_timeout);
        Ok(Self {
            auth,
            call_timeout: settings.call_timeout,
        })
    }

    /// Makes a call for a repository (`owner/name`); a refused token is renewed once.
    pub(super) async fn call<T>(&self, repository: &str, call: Call, expected: StatusCode) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        let session = self.auth.session(repository).await?;
        let answer = exchange(&session.client, call.clone(), expected, self.call_timeout).await;
        let refused = matches!(
            answer,
            Err(Error::Refused {
                refusal: Refusal::Credentials,
                ..
            })
        );
        if !refused || !self.auth.renew(repository, &session).await {
            return answer;
        }
        let session = self.auth.session(repository).await?;
        exchange(&session.client, call, expected, self.call_timeout).await
    }
}

/// A call: method, path with query, and a JSON body.
#[derive(Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<serde_json::Value>,
}

impl Call {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            body: None,
        }
    }

    /// Adds a query; values are escaped.
    pub(super) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        self.path = format!("{}?{query}", self.path);
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        self.body = Some(serde_json::to_value(body).map_err(Error::away)?);
        Ok(self)
    }
}

/// Sends a call once and reads the answer, all within `timeout`.
pub(super) async fn exchange<T>(
    client: &Octocrab,
    call: Call,
    expected: StatusCode,
    timeout: Duration,
) -> Result<T, Error>
where
    T: DeserializeOwned,
{
    let what = format!("{} {}", call.method, call.path);
    match tokio::time::timeout(timeout, send(client, call, expected)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::away(format!("no answer to {what} within {timeout:?}"))),
    }
}

async fn send<T>(client: &Octocrab, call: Call, expected: StatusCode) -> Result<T, Error>
where
    T: DeserializeOwned,
{
    let failed = |error: octocrab::Error| Error::away(chain(&error));
    let request = http::Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(http::header::ACCEPT, "application/vnd.github+json");
    let request = client.build_request(request, call.body.as_ref()).map_err(failed)?;
    let (parts, body) = client.execute(request).await.map_err(failed)?.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await;
    let body = body
        .map_err(|error| Error::away(format!("the answer broke off: {}", chain(error.as_ref()))))?
        .to_bytes();
    if parts.status != expected {
        return Err(unexpected(&parts, expected, &body));
    }
    // Only the place is told: the text of the error can hold what was read, and that may be a token.
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Error::away(format!(
            "the answer cannot be read ({:?} error at {line}:{column})",
            error.classify()
        ))
    })
}

/// Reads an answer of another status than the call is made for.
fn unexpected(parts: &http::response::Parts, expected: StatusCode, body: &[u8]) -> Error {
    // What GitHub's support asks for first.
    let request_id = parts.headers.get("x-github-request-id").and_then(|id| id.to_str().ok());
    tracing::debug!(status = parts.status.as_u16(), request_id, "GitHub answered");
    // After a 301 the client asks the new address with GET, as browsers do: nothing was created.
    if parts.status == StatusCode::OK && expected == StatusCode::CREATED {
        return Error::moved();
    }
    if parts.status.is_success() {
        let message = format!("answered {} instead of {expected}", parts.status);
        return Error::Refused {
            refusal: Refusal::Invalid,
            message,
        };
    }
    Error::of_answer(parts.status, &parts.headers, body, SystemTime::now())
}

/// An error with its causes: the outermost alone says only "client error".
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    said.join(": ")
}

fn checked_url(text: &str) -> Result<String, SettingsError> {
    let plain = |url: &reqwest::Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match reqwest::Url::parse(text) {
        Ok(url) if plain(&url) => Ok(text.trim_end_matches('/').to_owned()),
        // Whoever writes a password into the address should not find it in a log.
        Ok(url) => Err(SettingsError::Url(url.host_str().unwrap_or_default().to_owned())),
        Err(_) => Err(SettingsError::Url(super::report::cut(text, 80))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_an_api_are_accepted() {
        for (url, expected) in [
            ("https://api.github.com", "https://api.github.com"),
            ("https://api.github.com/", "https://api.github.com"),
            (
                "https://github.example.org/api/v3/",
                "https://github.example.org/api/v3",
            ),
            ("http://127.0.0.1:4020", "http://127.0.0.1:4020"),
        ] {
            assert_eq!(checked_url(url).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn other_addresses_are_refused_without_repeating_a_password() {
        for url in [
            "api.github.com",
            "ftp://api.github.com",
            "https://me:hunter2@github.example.org",
            "https://a/?b=c",
        ] {
            let error = checked_url(url).unwrap_err().to_string();
            assert!(
                error.contains("https://HOST/api/v3") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_key_that_is_none_is_refused_without_repeating_it() {
        let app = Credentials::App {
            id: 1,
            private_key: "not a key".into(),
            installation: None,
        };
        let error = GitHub::new(&Settings::new(app)).err();
        assert_eq!(error, Some(SettingsError::PrivateKey));
        assert!(!SettingsError::PrivateKey.to_string().contains("not a key"));
    }

    #[test]
    fn queries_are_escaped() {
        let call =
            Call::new(Method::GET, "/repos/a/b/deployments".into()).query(&[("environment", "prod/eu west&x=1")]);
        assert_eq!(call.path, "/repos/a/b/deployments?environment=prod%2Feu+west%26x%3D1");
    }
}
