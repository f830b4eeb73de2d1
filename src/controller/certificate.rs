//! The certificate of the hold's webhook, and how it is kept in a Secret.
//!
//! One authority signs one certificate, and its key is thrown away: whoever reads the Secret can
//! pass for the webhook, but cannot make others. The authority before stays trusted, so a replica
//! that still shows the old certificate goes on being believed while a new one is brought in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a certificate is good.
const GOOD_FOR: Duration = DAY.saturating_mul(365);

/// When it is replaced: early enough that an operator who is away for a season changes nothing.
const RENEWED_AFTER: Duration = DAY.saturating_mul(240);

/// How far the API server's clock may be behind ours.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// Where a certificate ends in PEM.
const END: &str = "-----END CERTIFICATE-----\n";

/// A certificate with its key and whom to trust for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Authorities in PEM: the one that signed this certificate, then the one before.
    pub trusted: String,
    /// The certificate in PEM.
    pub chain: String,
    /// Its private key in PEM.
    pub key: String,
    /// The host name or address that it speaks for.
    pub host: String,
    /// When the next one is made, in seconds since 1970.
    pub renew: u64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, renew, .. } = self;
        write!(f, "Certificate {{ host: {host:?}, renew: {renew}, key: *** }}")
    }
}

impl Certificate {
    /// Makes one for a host name or address. `before` is what was trusted until now.
    ///
    /// # Errors
    /// When the host can stand in no certificate.
    pub fn make(host: &str, now: SystemTime, before: Option<&Self>) -> Result<Self, rcgen::Error> {
        let mut authority = params(vec![], "tollgate webhook authority", now)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let signer = KeyPair::generate()?;
        let mut trusted = authority.self_signed(&signer)?.pem();
        if let Some(newest) = before.and_then(|before| before.trusted.split_inclusive(END).next()) {
            trusted.push_str(newest);
        }
        let mut leaf = params(vec![host.to_owned()], "tollgate webhook", now)?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Self {
            chain: leaf.signed_by(&key, &Issuer::from_params(&authority, &signer))?.pem(),
            key: key.serialize_pem(),
            trusted,
            host: host.to_owned(),
            renew: seconds(now + RENEWED_AFTER),
        })
    }

    /// Reads what a Secret holds; `None` when it is empty or not whole.
    #[must_use]
    pub fn read(secret: &Secret) -> Option<Self> {
        let text = |key: &str| {
            let value = secret.data.as_ref()?.get(key)?;
            String::from_utf8(value.0.clone()).ok()
        };
        Some(Self {
            trusted: text("ca.crt")?,
            chain: text("tls.crt")?,
            key: text("tls.key")?,
            host: text("host")?,
            renew: text("renew")?.parse().ok()?,
        })
    }

    /// The Secret's data.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let entries = [
            ("ca.crt", self.trusted.clone()),
            ("tls.crt", self.chain.clone()),
            ("tls.key", self.key.clone()),
            ("host", self.host.clone()),
            ("renew", self.renew.to_string()),
        ];
        entries
            .into_iter()
            .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
            .collect()
    }

    /// Whether it may go on being used for a host.
    #[must_use]
    pub fn serves(&self, host: &str, now: SystemTime) -> bool {
        self.host == host && seconds(now) < self.renew
    }
}

fn params(names: Vec<String>, name: &str, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - SKEW).into();
    params.not_after = (now + GOOD_FOR).into();
    Ok(params)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    const HOST: &str = "tollgate-webhook.tollgate-system.svc";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Whether a client that trusts `trusted` believes the certificate at that time.
    fn believed(certificate: &Certificate, trusted: &str, host: &str, at: SystemTime) -> bool {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
            roots.add(authority.expect("PEM")).expect("an authority");
        }
        let verifier = WebPkiServerVerifier::builder(roots.into()).build().expect("a verifier");
        let leaf = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).expect("PEM");
        let host = ServerName::try_from(host.to_owned()).expect("a name");
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds(at)));
        verifier.verify_server_cert(&leaf, &[], &host, &[], at).is_ok()
    }

    #[test]
    fn it_is_believed_for_its_host_while_it_is_good() {
        for host in [HOST, "198.18.0.1"] {
            let certificate = Certificate::make(host, now(), None).expect("made");
            let believed = |host, at| believed(&certificate, &certificate.trusted, host, at);
            assert!(believed(host, now()), "{host}");
            assert!(believed(host, now() - SKEW / 2), "{host}: a clock that is behind");
            assert!(
                believed(host, now() + RENEWED_AFTER),
                "{host}: until long after it is renewed"
            );
            assert!(!believed("other.svc", now()), "{host}: for another");
            assert!(!believed(host, now() + GOOD_FOR + DAY), "{host}: too late");
        }
    }

    #[test]
    fn while_it_is_renewed_the_old_and_the_new_one_are_both_believed() {
        let (mut old, mut time) = (None, now());
        for round in 0..3 {
            let new = Certificate::make(HOST, time, old.as_ref()).expect("made");
            let known = new.trusted.matches(END).count();
            assert_eq!(known, if round == 0 { 1 } else { 2 }, "never more than two");
            assert!(believed(&new, &new.trusted, HOST, time));
            if let Some(old) = &old {
                assert!(believed(old, &new.trusted, HOST, time), "round {round}");
                assert!(
                    !believed(&new, &old.trusted, HOST, time),
                    "the new one was not known before"
                );
            }
            old = Some(new);
            time += RENEWED_AFTER;
        }
    }

    #[test]
    fn a_secret_gives_back_what_was_put_into_it_and_nothing_when_it_is_not_whole() {
        let made = Certificate::make(HOST, now(), None).expect("made");
        let with = |data| Secret {
            data: Some(data),
            ..Secret::default()
        };
        assert_eq!(Certificate::read(&with(made.data())).as_ref(), Some(&made));
        assert_eq!(Certificate::read(&Secret::default()), None);
        for key in made.data().keys() {
            let mut data = made.data();
            data.remove(key);
            assert_eq!(Certificate::read(&with(data)), None, "without {key}");
        }
    }

    #[test]
    fn it_is_used_for_its_host_until_it_is_due() {
        let made = Certificate::make(HOST, now(), None).expect("made");
        assert!(made.serves(HOST, now() + RENEWED_AFTER - DAY));
        assert!(!made.serves(HOST, now() + RENEWED_AFTER));
        assert!(!made.serves("other.svc", now()));
    }

    #[test]
    fn its_key_is_never_shown() {
        let made = Certificate::make(HOST, now(), None).expect("made");
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
