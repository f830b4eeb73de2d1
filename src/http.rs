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
    /// The server ended the connection over the certificate it was shown, or for want of one.
    #[error("{origin} {cause}")]
    Unaccepted {
        /// Scheme, host and port.
        origin: String,
        /// One of two fixed phrases.
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
    shows_certificate: bool,
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
                .ok_or_else(|| refused("tls.ca", "PEM certificates"))?;
            builder = builder.tls_certs_only(trusted);
        }
        if let Some(identity) = &tls.identity {
            let identity = Identity::from_pem(identity.expose().as_bytes()).map_err(|_| {
                refused(
                    "tls.clientCertificate with tls.clientKey",
                    "a PEM certificate and its PEM private key",
                )
            })?;
            builder = builder.identity(identity);
        }
        let inner = builder
            .build()
            .map_err(|_| refused("the TLS settings", "a CA and a client certificate that belong to a key"))?;
        let shows_certificate = tls.identity.is_some();
        Ok(Self {
            inner,
            limits,
            basic,
            shows_certificate,
        })
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
        if refuses_certificate(error) {
            let cause = if self.shows_certificate {
                "does not accept the certificate in tls.clientCertificate"
            } else {
                "asks for a certificate: give tls.clientCertificate and tls.clientKey"
            };
            return Error::Unaccepted { origin, cause };
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

/// Whether the server said, in a TLS alert, that it does not take the certificate it was shown, or
/// that it wants one. Only the alert's name is looked at, which is from a closed list.
fn refuses_certificate(error: &reqwest::Error) -> bool {
    const ALERTS: [&str; 9] = [
        "CertificateRequired",
        "BadCertificate",
        "UnsupportedCertificate",
        "CertificateRevoked",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
        "AccessDenied",
        "DecryptError",
    ];
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |current| current.source()).any(|current| {
        let text = current.to_string();
        let alert = text.strip_prefix("received fatal alert: ");
        alert.is_some_and(|alert| ALERTS.contains(&alert))
    })
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

    use super::*;

    const LIMITS: Limits = Limits {
        connect: Duration::from_secs(5),
        total: Duration::from_secs(10),
        body: 1000,
    };

    fn client(limits: Limits, credential: &Credential) -> Client {
        Client::new(limits, credential, &Tls::default()).expect("a client")
    }

    /// Writes `head`, then `piece` again and again until the peer hangs up.
    async fn dripping(head: &'static str, piece: &'static str, pause: Duration) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a call");
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
        Url::parse(&format!("http://{address}/")).expect("an address")
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_cut_at_the_bound() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let url = dripping(head, "a\r\n0123456789\r\n", Duration::ZERO).await;
        let error = client(LIMITS, &Credential::None)
            .get(url.clone())
            .await
            .expect_err("endless");
        let origin = origin(&url);
        assert_eq!(error, Error::Oversized { origin, limit: 1000 });
    }

    #[tokio::test]
    async fn a_body_that_announces_too_much_is_not_read() {
        let url = dripping(
            "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n",
            "",
            Duration::from_secs(1),
        )
        .await;
        let error = client(LIMITS, &Credential::None).get(url).await.expect_err("too large");
        assert!(matches!(error, Error::Oversized { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_drips_meets_the_total_deadline() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n";
        let url = dripping(head, "x", Duration::from_millis(50)).await;
        let limits = Limits {
            total: Duration::from_millis(400),
            ..LIMITS
        };
        let begun = Instant::now();
        let error = client(limits, &Credential::None).get(url).await.expect_err("too slow");
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "900 bytes would take 45 s");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("http://{}/", listener.local_addr().expect("an address"))).expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a call");
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{}")
                .await;
        });
        let error = client(LIMITS, &Credential::None)
            .get(url)
            .await
            .expect_err("broken off");
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_redirect_is_a_reply_and_the_credential_goes_nowhere_else() {
        let server = MockServer::start().await;
        Mock::given(matchers::path("/from"))
            .respond_with(ResponseTemplate::new(302).insert_header("location", "/to"))
            .mount(&server)
            .await;
        let url = Url::parse(&format!("{}/from", server.uri())).expect("an address");
        let bearer = Credential::Bearer(Secret::new("hunter2"));
        let reply = client(LIMITS, &bearer).get(url).await.expect("a reply");
        assert_eq!(reply.status, 302);
        let calls = server.received_requests().await.expect("recorded");
        assert_eq!(calls.len(), 1);
    }

    #[tokio::test]
    async fn every_credential_is_sent_as_its_kind() {
        let server = MockServer::start().await;
        Mock::given(matchers::any())
            .respond_with(ResponseTemplate::new(200))
            .mount(&server)
            .await;
        let secret = || Secret::new(" hunter2\n");
        for (credential, header, sent) in [
            (Credential::Bearer(secret()), "authorization", "Bearer hunter2"),
            (
                Credential::Basic {
                    username: "user".to_owned(),
                    password: secret(),
                },
                "authorization",
                "Basic dXNlcjpodW50ZXIy",
            ),
            (
                Credential::Header {
                    name: "X-Scope-OrgID".to_owned(),
                    value: secret(),
                },
                "x-scope-orgid",
                "hunter2",
            ),
        ] {
            let url = Url::parse(&server.uri()).expect("an address");
            client(LIMITS, &credential)
                .post_form(url, &[("query", "a b&c")])
                .await
                .expect("a reply");
            let calls = server.received_requests().await.expect("recorded");
            let call = calls.last().expect("a call");
            assert_eq!(
                call.headers.get(header).and_then(|value| value.to_str().ok()),
                Some(sent)
            );
            assert_eq!(call.body, b"query=a+b%26c");
        }
    }

    #[tokio::test]
    async fn errors_tell_neither_query_nor_credential() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let url = Url::parse(&format!("http://{address}/path?token=hunter2")).expect("an address");
        let bearer = Credential::Bearer(Secret::new("hunter2"));
        let error = client(LIMITS, &bearer).get(url).await.expect_err("nobody listens");
        let told = format!("{error} {error:?}");
        assert!(matches!(error, Error::Unreachable { .. }), "{told}");
        assert!(!told.contains("hunter2") && !told.contains("path"), "{told}");
        for credential in [
            Credential::Bearer(Secret::new("hunter2\nx")),
            Credential::Basic {
                username: "hunter2:x".to_owned(),
                password: Secret::new("hunter2"),
            },
        ] {
            let error = Client::new(LIMITS, &credential, &Tls::default())
                .err()
                .expect("refused");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_is_not_trusted_and_of_the_named_one_is() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let config = axum_server::tls_rustls::RustlsConfig::from_pem(certificate.clone().into(), key.into());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let port = listener.local_addr().expect("an address").port();
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "ok" }));
        let server = axum_server::from_tcp_rustls(listener, config.await.expect("usable")).expect("a server");
        tokio::spawn(server.serve(app.into_make_service()));
        let url = Url::parse(&format!("https://localhost:{port}/")).expect("an address");
        let trusting = Tls {
            ca: Some(Secret::new(&certificate)),
            identity: None,
        };
        let client = Client::new(LIMITS, &Credential::None, &trusting).expect("a client");
        assert_eq!(client.get(url.clone()).await.expect("trusted").body, "ok");
        let client = Client::new(LIMITS, &Credential::None, &Tls::default()).expect("a client");
        let error = client.get(url).await.expect_err("not trusted");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_wants_another_certificate_is_told_from_one_that_is_away() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (server, known, unknown) = (made(), made(), made());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(known.cert.der().clone()).expect("an authority");
        let verifier = rustls::server::WebPkiClientVerifier::builder(roots.into());
        let key = rustls::pki_types::PrivateKeyDer::try_from(server.signing_key.serialize_der()).expect("a key");
        for protocol in ["h2", "http/1.1"] {
            let mut config = rustls::ServerConfig::builder()
                .with_client_cert_verifier(verifier.clone().build().expect("a verifier"))
                .with_single_cert(vec![server.cert.der().clone()], key.clone_key())
                .expect("usable");
            config.alpn_protocols = vec![protocol.into()];
            let config = axum_server::tls_rustls::RustlsConfig::from_config(config.into());
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("set");
            let port = listener.local_addr().expect("an address").port();
            let app = axum::Router::new().route("/", axum::routing::get(|| async { "ok" }));
            let serving = axum_server::from_tcp_rustls(listener, config).expect("a server");
            tokio::spawn(serving.serve(app.into_make_service()));
            let url = Url::parse(&format!("https://localhost:{port}/")).expect("an address");
            for (shown, said) in [
                (
                    None,
                    "asks for a certificate: give tls.clientCertificate and tls.clientKey",
                ),
                (
                    Some(&unknown),
                    "does not accept the certificate in tls.clientCertificate",
                ),
            ] {
                let pem = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
                    Secret::new(&format!("{}\n{}", made.cert.pem(), made.signing_key.serialize_pem()))
                };
                let tls = Tls {
                    ca: Some(Secret::new(&server.cert.pem())),
                    identity: shown.map(pem),
                };
                let client = Client::new(LIMITS, &Credential::None, &tls).expect("a client");
                let error = client.get(url.clone()).await.expect_err("refused").to_string();
                assert_eq!(error, format!("https://localhost:{port} {said}"), "{protocol}");
            }
        }
    }

    #[test]
    fn addresses_that_would_leak_or_mislead_are_refused() {
        assert!(address("url", "https://host:9090/prefix").is_ok());
        for text in [
            "",
            "host:9090",
            "/path",
            "file:///etc/passwd",
            "ftp://host",
            "https://user:hunter2@host",
            "https://host/?token=hunter2",
            "https://host/#hunter2",
        ] {
            let error = address("url", text).expect_err(text).to_string();
            assert!(error.starts_with("url:") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_servers_clock_is_read_from_its_date() {
        let reply = |date: &'static str| Reply {
            status: 200,
            headers: HeaderMap::from_iter([(reqwest::header::DATE, HeaderValue::from_static(date))]),
            body: Bytes::new(),
        };
        assert_eq!(reply("Sun, 06 Nov 1994 08:49:37 GMT").date(), Some(784_111_777_000));
        assert_eq!(reply("yesterday").date(), None);
    }
}
