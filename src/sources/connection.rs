//! What an administrator writes about a Prometheus server.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::{self, Client, Credential, Limits, Secret, Tls};

/// One Prometheus server, or anything that speaks its HTTP API such as Thanos or Mimir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Address of the server, with its path prefix if it has one, for example
    /// `http://prometheus.monitoring.svc:9090`. Credentials do not belong here.
    #[schemars(regex(pattern = "^https?://[^/?#@]+(/[^?#@]*)?$"), length(max = 512))]
    pub url: String,
    /// How the operator proves who it is. Nothing is sent when this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// What is trusted and shown on `https`. The system's authorities when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// How long one query may take in all, in seconds.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u32,
    /// Largest answer that is read, in bytes. A larger one is asked for again namespace by
    /// namespace.
    #[serde(default = "max_body_bytes")]
    #[schemars(range(min = 65_536, max = 67_108_864))]
    pub max_body_bytes: u32,
    /// The label that holds the namespace of a pod's series; every query about pods matches it.
    #[serde(default = "namespace_label")]
    #[schemars(regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"), length(max = 64))]
    pub namespace_label: String,
    /// The label that holds the name of the pod.
    #[serde(default = "pod_label")]
    #[schemars(regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"), length(max = 64))]
    pub pod_label: String,
    /// The label in which the gateway's own metrics name the backend service. Prometheus calls
    /// it `exported_service` when the scrape of the gateway adds a `service` label of its own.
    #[serde(default = "service_label")]
    #[schemars(regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"), length(max = 64))]
    pub service_label: String,
    /// Namespaces whose gates may use this source; `*` stands for any characters. All when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 63)))]
    pub allowed_namespaces: Vec<String>,
    /// How often each release is looked at, in seconds. Releases take turns: with many of them the server
    /// is asked four times as often, about a quarter of them each time.
    #[serde(default = "interval_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub interval_seconds: u32,
    /// How often the server scrapes its targets, in seconds. Evidence is late by up to this much,
    /// and counts as stale when its newest sample is three times as old.
    #[serde(default = "scrape_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub scrape_seconds: u32,
}

/// A key of a Secret in the operator's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret, in the operator's namespace and in no other.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One way of proving who is calling.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.bearer), has(self.basic), has(self.header)].filter(x, x).size() == 1",
    "message": "give exactly one of bearer, basic and header"
}]))]
pub struct AuthSpec {
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretRef>,
    /// User name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicSpec>,
    /// A header of its own, such as `X-Scope-OrgID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderSpec>,
}

/// User name and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicSpec {
    /// The user name.
    pub username: SecretRef,
    /// The password.
    pub password: SecretRef,
}

/// A header whose value is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderSpec {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value.
    pub value: SecretRef,
}

/// What is trusted and shown on `https`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.clientCertificate) == has(self.clientKey)",
    "message": "clientCertificate and clientKey belong together"
}]))]
pub struct TlsSpec {
    /// Certificate authorities to trust instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
    /// Certificate shown to the server, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretRef>,
    /// Private key of that certificate, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<SecretRef>,
}

const fn timeout_seconds() -> u32 {
    10
}
const fn max_body_bytes() -> u32 {
    8 * 1024 * 1024
}
fn namespace_label() -> String {
    "namespace".to_owned()
}
fn pod_label() -> String {
    "pod".to_owned()
}
fn service_label() -> String {
    "service".to_owned()
}
const fn interval_seconds() -> u32 {
    10
}
const fn scrape_seconds() -> u32 {
    15
}

impl ConnectionSpec {
    /// A connection with every default.
    #[must_use]
    pub fn to(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            auth: None,
            tls: None,
            timeout_seconds: timeout_seconds(),
            max_body_bytes: max_body_bytes(),
            namespace_label: namespace_label(),
            pod_label: pod_label(),
            service_label: service_label(),
            allowed_namespaces: Vec::new(),
            interval_seconds: interval_seconds(),
            scrape_seconds: scrape_seconds(),
        }
    }

    /// The keys of Secrets that [`ConnectionSpec::client`] needs, each with the field that names it.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, SecretRef)> {
        let auth = self.auth.as_ref();
        let basic = auth.and_then(|auth| auth.basic.as_ref());
        let header = auth.and_then(|auth| auth.header.as_ref());
        let tls = self.tls.as_ref();
        [
            ("auth.bearer", auth.and_then(|auth| auth.bearer.as_ref())),
            ("auth.basic.username", basic.map(|basic| &basic.username)),
            ("auth.basic.password", basic.map(|basic| &basic.password)),
            ("auth.header.value", header.map(|header| &header.value)),
            ("tls.ca", tls.and_then(|tls| tls.ca.as_ref())),
            (
                "tls.clientCertificate",
                tls.and_then(|tls| tls.client_certificate.as_ref()),
            ),
            ("tls.clientKey", tls.and_then(|tls| tls.client_key.as_ref())),
        ]
        .into_iter()
        .filter_map(|(field, reference)| Some((field, reference?.clone())))
        .collect()
    }

    /// Makes the client with all bounds of this connection from the values of its Secrets.
    ///
    /// # Errors
    /// [`http::Error::Credential`] naming the Secret and key that is missing or unusable.
    pub fn client(&self, values: &BTreeMap<SecretRef, Secret>) -> Result<Client, http::Error> {
        let value = |wanted: &SecretRef| {
            values.get(wanted).cloned().ok_or_else(|| {
                let SecretRef { secret_name, key } = wanted;
                http::Error::Credential(format!(
                    "Secret {secret_name} in the operator's namespace has no key {key}"
                ))
            })
        };
        let total = Duration::from_secs(u64::from(self.timeout_seconds.clamp(1, 60)));
        let limits = Limits {
            connect: total.min(Duration::from_secs(5)),
            total,
            body: usize::try_from(self.max_body_bytes).unwrap_or(usize::MAX),
        };
        let credential = match &self.auth {
            None => Credential::None,
            Some(AuthSpec {
                bearer: Some(token),
                basic: None,
                header: None,
            }) => Credential::Bearer(value(token)?),
            Some(AuthSpec {
                bearer: None,
                basic: Some(basic),
                header: None,
            }) => Credential::Basic {
                username: value(&basic.username)?.expose().to_owned(),
                password: value(&basic.password)?,
            },
            Some(AuthSpec {
                bearer: None,
                basic: None,
                header: Some(header),
            }) => Credential::Header {
                name: header.name.clone(),
                value: value(&header.value)?,
            },
            Some(_) => {
                return Err(http::Error::Credential(
                    "auth: give exactly one of bearer, basic and header".to_owned(),
                ));
            }
        };
        let tls = match &self.tls {
            None => Tls::default(),
            Some(spec) => Tls {
                ca: spec.ca.as_ref().map(&value).transpose()?,
                identity: match (&spec.client_certificate, &spec.client_key) {
                    (None, None) => None,
                    (Some(certificate), Some(key)) => {
                        let (certificate, key) = (value(certificate)?, value(key)?);
                        Some(Secret::new(&format!("{}\n{}\n", certificate.expose(), key.expose())))
                    }
                    _ => {
                        return Err(http::Error::Credential(
                            "tls: clientCertificate and clientKey belong together".to_owned(),
                        ));
                    }
                },
            },
        };
        Client::new(limits, &credential, &tls)
    }

    /// Whether gates of this namespace may use the source.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        self.allowed_namespaces.is_empty() || self.allowed_namespaces.iter().any(|glob| matches(glob, namespace))
    }
}

/// Whether a name matches a pattern in which `*` stands for any run of characters.
fn matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str) -> SecretRef {
        SecretRef {
            secret_name: name.to_owned(),
            key: "value".to_owned(),
        }
    }

    fn read(yaml: &str) -> ConnectionSpec {
        serde_saphyr::from_str(yaml).expect("a connection")
    }

    #[test]
    fn an_address_alone_has_defaults_worth_keeping() {
        let spec = read("url: http://prometheus:9090");
        assert_eq!(spec, ConnectionSpec::to("http://prometheus:9090"));
        assert_eq!((spec.timeout_seconds, spec.max_body_bytes), (10, 8 << 20));
        assert_eq!((spec.interval_seconds, spec.scrape_seconds), (10, 15));
        assert!(spec.allows("any-namespace"));
        assert!(serde_saphyr::from_str::<ConnectionSpec>("{url: http://p, tiemout: 3}").is_err());
    }

    #[test]
    fn namespaces_are_allowed_by_name_or_pattern() {
        for (glob, name, allowed) in [
            ("shop", "shop", true),
            ("shop", "shop-api", false),
            ("team-*", "team-a", true),
            ("team-*", "steam-a", false),
            ("*-prod", "a-prod", true),
            ("*-prod", "a-prod-b", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(glob, name), allowed, "{glob} {name}");
        }
    }

    #[test]
    fn a_missing_secret_is_named_and_its_neighbours_are_not_shown() {
        let spec = read(
            "{url: https://p, auth: {basic: {username: {secretName: a, key: value}, password: {secretName: b, key: value}}}}",
        );
        assert_eq!(
            spec.secrets(),
            [
                ("auth.basic.username", reference("a")),
                ("auth.basic.password", reference("b"))
            ]
        );
        let values = BTreeMap::from([(reference("a"), Secret::new("hunter2"))]);
        let error = spec.client(&values).err().expect("one is missing").to_string();
        assert!(error.contains("Secret b") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let one = "{secretName: a, key: value}";
        for yaml in [
            "{url: https://p, auth: {}}".to_owned(),
            format!("{{url: https://p, auth: {{bearer: {one}, header: {{name: x, value: {one}}}}}}}"),
            format!("{{url: https://p, tls: {{clientKey: {one}}}}}"),
            format!("{{url: https://p, tls: {{ca: {one}}}}}"),
            format!("{{url: https://p, auth: {{header: {{name: 'no name', value: {one}}}}}}}"),
        ] {
            let values = BTreeMap::from([(reference("a"), Secret::new("hunter2"))]);
            let error = read(&yaml).client(&values).err().expect(&yaml).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
