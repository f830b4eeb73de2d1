//! The one outbound client: every call has a connect and a total deadline and a bounded body.
//!
//! Redirects are never followed (a credential must not travel to an address nobody configured),
//! compressed bodies are not asked for, proxies of the environment are not read, and no error
//! carries a header, a body or a query string. A [`Secret`] can be handed to a [`Client`] and
//! to nobody else by accident: it has no `Debug`, `Display` or `Serialize`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Url};

/// A credential. It shows itself only to whoever calls [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value; white space around it is dropped, as files and editors add it.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.trim().to_owned())
    }

    /// The value, for the one place that puts it on the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// How every call of a client proves who is calling.
#[derive(Clone)]
pub enum Credential {
    /// Nothing is sent.
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// The user name; it must not contain a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A header of its own, as some gateways and tenants of shared systems ask for.
    Header {
        /// The header's name.
        name: String,
        /// The header's value.
        value: Secret,
    },
}

/// What a client trusts and shows on TLS connections.
#[derive(Clone, Default)]
pub struct Tls {
    /// PEM certificates to trust instead of the system's.
    pub ca: Option<Secret>,
    /// PEM certificate chain and private key, concatenated, shown to the server.
    pub identity: Option<Secret>,
}

/// The bounds of every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For name resolution, TCP and TLS together.
    pub connect: Duration,
    /// For the whole call, to the last byte of the body, however slowly it drips.
    pub total: Duration,
    /// Largest body that is read, in bytes.
    pub body: usize,
}

/// Why a call gave no usable reply. None of the texts contains a credential, a body or a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("{0}")]
    Address(String),
    /// A credential cannot be used; its value is not shown.
    #[error("{0}")]
    Credential(String),
    /// No connection: name, network or TLS.
    #[error("{origin} cannot be reached: {cause}")]
    Unreachable {
        /// Scheme, host and port.
        origin: String,
        /// One of a few fixed phrases.
        cause: &'static str,
    },
    /// The deadline passed.
    #[error("{origin} gave no full answer within {seconds} s")]
    Timeout {
        /// Scheme, host and port.
        origin: String,
        /// The deadline.
        seconds: u64,
    },
    /// The body is larger than allowed.
    #[error("the answer of {origin} is larger than {limit} bytes")]
    Oversized {
        /// Scheme, host and port.
        origin: String,
        /// The bound that was passed.
        limit: usize,
    },
    /// The connection broke or what came was not HTTP.
    #[error("{origin} broke off its answer")]
    Broken {
        /// Scheme, host and port.
        origin: String,
    },
}

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status. A redirect arrives here as what it is.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within the bound.
    pub body: Bytes,
}

impl Reply {
    /// The server's clock in milliseconds since 1970, when it sent a readable `Date`.
    #[must_use]
    pub fn date(&self) -> Option<i64> {
        let text = self.headers.get("date")?.to_str().ok()?;
        let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(parsed.timestamp().as_millisecond())
    }
}

/// A client for one peer: bounds, trust and credential are fixed when it is made.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    limits: Limits,
    basic: Option<(String, Secret)>,
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// [`Error::Credential`] when a certificate, key, user name or header cannot be used; the
    /// message names which, never its value.
    pub fn new(limits: Limits, credential: &Credential, tls: &Tls) -> Result<Self, Error> {
        let basic = match credential {
            Credential::Basic { username, .. } if username.contains(':') => {
                return Err(refused("the user name", "a name without a colon"));
            }
            Credential::Basic { username, password } => Some((username.clone(), password.clone())),
            _ => None,
        };
        let mut builder = reqwest::Client::builder()
            .connect_timeout(limits.connect)
            .timeout(limits.total)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(credential)?);
        if let Some(ca) = &tls.ca {
            let trusted = Certificate::from_pem_bundle(ca.expose().as_bytes())
                .ok()
                .filter(|found| !found.is_empty())
                .ok_or_else(|| refused("the CA", "PEM certificates"))?;
            builder = builder.tls_certs_only(trusted);
        }
        if let Some(identity) = &tls.identity {
            let identity = Identity::from_pem(identity.expose().as_bytes())
                .map_err(|_| refused("the client certificate", "a PEM certificate and its PEM private key"))?;
            builder = builder.identity(identity);
        }
        let inner = builder
            .build()
            .map_err(|_| refused("the TLS settings", "a CA and a client certificate that belong to a key"))?;
        Ok(Self { inner, limits, basic })
    }

    /// Fetches an address.
    ///
    /// # Errors
    /// See [`Error`]; any HTTP status is a reply, not an error.
    pub async fn get(&self, url: Url) -> Result<Reply, Error> {
        self.send(&origin(&url), self.inner.get(url)).await
    }

    /// Posts a form: the pairs travel in the body, so that no length limit of addresses applies.
    ///
    /// # Errors
    /// See [`Error`]; any HTTP status is a reply, not an error.
    pub async fn post_form(&self, url: Url, pairs: &[(&str, &str)]) -> Result<Reply, Error> {
        let mut form = url.clone();
        form.query_pairs_mut().clear().extend_pairs(pairs);
        let body = form.query().unwrap_or_default().to_owned();
        let request = self
            .inner
            .post(url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.send(&origin(&url), request).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// See [`Error`]; any HTTP status is a reply, not an error.
    pub async fn post_json(&self, url: Url, body: Vec<u8>) -> Result<Reply, Error> {
        let request = self
            .inner
            .post(url.clone())
            .header("content-type", "application/json")
            .body(body);
        self.send(&origin(&url), request).await
    }

    async fn send(&self, origin: &str, request: reqwest::RequestBuilder) -> Result<Reply, Error> {
        let request = match &self.basic {
            Some((username, password)) => request.basic_auth(username, Some(password.expose())),
            None => request,
        };
        let mut response = request.send().await.map_err(|error| self.cause(origin, &error))?;
        let limit = self.limits.body;
        let oversized = || Error::Oversized {
            origin: origin.to_owned(),
            limit,
        };
        if response
            .content_length()
            .is_some_and(|announced| usize::try_from(announced).map_or(true, |announced| announced > limit))
        {
            return Err(oversized());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.cause(origin, &error))? {
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(oversized());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: body.freeze(),
        })
    }

    fn cause(&self, origin: &str, error: &reqwest::Error) -> Error {
        let origin = origin.to_owned();
        if error.is_timeout() {
            let seconds = self.limits.total.as_secs();
            return Error::Timeout { origin, seconds };
        }
        if error.is_connect() {
            let cause = connect_cause(error);
            return Error::Unreachable { origin, cause };
        }
        Error::Broken { origin }
    }
}

/// Reads an address that an administrator wrote.
///
/// # Errors
/// [`Error::Address`] when it is not an absolute `http` or `https` address, or carries a user
/// name, a password, a query or a fragment: what is in an address ends up in logs.
pub fn address(field: &str, text: &str) -> Result<Url, Error> {
    let wrong = |why: &str| {
        Error::Address(format!(
            "{field}: {why}; give an address such as https://host:port/path"
        ))
    };
    let url = Url::parse(text).map_err(|_| wrong("this is not an address"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("only http and https can be used"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "credentials do not belong into an address, name a Secret instead",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("a query or fragment cannot be used"));
    }
    Ok(url)
}

/// Scheme, host and port: as much of an address as may be told.
#[must_use]
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn refused(what: &str, wanted: &str) -> Error {
    Error::Credential(format!("{what} cannot be used: {wanted} expected"))
}

fn headers(credential: &Credential) -> Result<HeaderMap, Error> {
    let (name, value) = match credential {
        Credential::None | Credential::Basic { .. } => return Ok(HeaderMap::new()),
        Credential::Bearer(token) => (AUTHORIZATION, format!("Bearer {}", token.expose())),
        Credential::Header { name, value } => {
            let parsed = HeaderName::try_from(name.as_str()).map_err(|_| refused("the header", "a header name"))?;
            (parsed, value.expose().to_owned())
        }
    };
    let mut value = HeaderValue::try_from(value).map_err(|_| refused("the credential", "one line of visible text"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(name, value)]))
}

/// The innermost cause in one word. The texts of TLS and resolver errors are not passed on: they
/// may quote what the peer sent.
fn connect_cause(error: &reqwest::Error) -> &'static str {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut cause = "no connection";
    while let Some(current) = next {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            cause = match io.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused",
                std::io::ErrorKind::InvalidData => "TLS was refused",
                _ => cause,
            };
        }
        let text = current.to_string();
        if text.contains("dns error") {
            cause = "its name cannot be resolved";
        } else if text.contains("certificate") {
            cause = "its certificate is not trusted";
        }
        next = current.source();
    }
    cause
}
