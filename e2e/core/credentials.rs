//! A real Prometheus that answers only those whose certificate it knows.

use std::net::TcpListener;
use std::process::Stdio;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{at_weight, lingering};
use crate::support::directory;
use crate::support::objects::{source, with};
use crate::support::space::{Space, played};

/// An authority, and what it signs.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { certificate, issuer }
    }

    fn signs(&self, name: &str) -> Pair {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Starts a Prometheus that reads this namespace's traffic, shows `pair` and asks for a certificate
/// that `authority` signed.
fn guarded(space: &Space, pair: &Pair, authority: &Authority) -> (Child, String) {
    let home = space.logs.join("prometheus");
    std::fs::create_dir_all(&home).unwrap();
    let write = |name: &str, text: &str| {
        let path = home.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let targets = directory("TOLLGATE_E2E_TARGETS").join(format!("{}.json", space.name));
    let config = json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{
            "job_name": "files",
            "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
            "fallback_scrape_protocol": "PrometheusText0.0.4",
        }],
    });
    let web = json!({"tls_server_config": {
        "cert_file": write("server.crt", &pair.certificate),
        "key_file": write("server.key", &pair.key),
        "client_ca_file": write("clients.crt", &authority.certificate),
        "client_auth_type": "RequireAndVerifyClientCert",
    }});
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = std::fs::File::create(home.join("log")).unwrap();
    // JSON is YAML
    let child = Command::new("prometheus")
        .arg("--config.file")
        .arg(write("prometheus.yaml", &config.to_string()))
        .arg("--web.config.file")
        .arg(write("web.yaml", &web.to_string()))
        .arg("--storage.tsdb.path")
        .arg(home.join("data"))
        .args(["--web.listen-address", &format!("127.0.0.1:{port}")])
        .arg("--scrape.discovery-reload-interval=1s")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the rig's prometheus on the PATH");
    (child, format!("https://127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_asks_for_a_certificate_gets_it_and_says_what_is_wrong_with_another() {
    played("mutual", async |space| {
        let (ours, strangers) = (Authority::named("ours"), Authority::named("strangers"));
        let (known, unknown) = (ours.signs("tollgate"), strangers.signs("tollgate"));
        let (_prometheus, url) = guarded(space, &ours.signs("127.0.0.1"), &ours);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": space.name},
            "stringData": {
                "ca.crt": ours.certificate, "tls.crt": known.certificate, "tls.key": known.key,
                "other.crt": unknown.certificate, "other.key": unknown.key,
            },
        });
        let secrets: Api<Secret> = Api::namespaced(space.client.clone(), "tollgate-system");
        let secret: Secret = serde_json::from_value(secret).unwrap();
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        let key = |key: &str| json!({"secretName": space.name, "key": key});
        let showing = |certificate: &str, private: &str| {
            json!({"ca": key("ca.crt"), "clientCertificate": key(certificate), "clientKey": key(private)})
        };
        let secured = |tls: Value| with(source(&space.name, &url), &json!({"spec": {"prometheus": {"tls": tls}}}));

        space.team(2).await;
        space.apply(&secured(showing("tls.crt", "tls.key"))).await;
        let _operator = space.operator().await;
        let patient = json!({"spec": {"policy": {"onNoEvidence": {"hold": "10m"}}}});
        space.adopted(&with(lingering(space), &patient)).await;
        space.push("v2").await;
        at_weight(space, 25).await; // a step was passed on what it answered

        let missing = format!("tls.clientKey: Secret tollgate-system/{}, key nobody.key, is missing", space.name);
        for (tls, words) in [
            (json!({"ca": key("ca.crt")}), "asks for a certificate: give tls.clientCertificate"),
            (showing("other.crt", "other.key"), "does not accept the certificate in tls.clientCertificate"),
            (showing("tls.crt", "nobody.key"), missing.as_str()),
            (showing("tls.crt", "tls.crt"), "tls.clientCertificate with tls.clientKey cannot be used"),
        ] {
            space.apply(&secured(tls)).await;
            let says = |status: &Value| {
                let message = status["message"].as_str().unwrap_or_default();
                status["reason"] == "NoEvidence" && message.contains("Unauthorized: ") && message.contains(words)
            };
            let status = space.until_gate(&format!("held, and it says: {words}"), says).await;
            assert_eq!(status["weight"], 25, "{status}");
            assert!(!status.to_string().contains("PRIVATE KEY"), "{status}");
        }
        space.apply(&secured(showing("tls.crt", "tls.key"))).await;
        let sees = |status: &Value| status["reason"] != "NoEvidence";
        space.until_gate("it sees again", sees).await;
        secrets.delete(&space.name, &DeleteParams::default()).await.unwrap();
    })
    .await;
}
