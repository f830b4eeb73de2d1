//! Who Tollgate is to GitHub: a token, or an App with one short-lived token for each owner of repositories.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use octocrab::Octocrab;
use octocrab::models::AppId;
pub use octocrab::secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::client::{Call, SettingsError, exchange};
use super::error::Error;

/// A token is renewed this long before GitHub says it expires, so that none expires on the way.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// What Tollgate signs in with. Nothing of it is ever shown: not in logs, errors or `Debug`.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A personal access token, fine-grained with `Deployments: read and write`, or classic with `repo_deployment`.
    Token(SecretString),
    /// A GitHub App with the permission `Deployments: read and write`.
    App {
        /// The App's id, from its settings page.
        id: u64,
        /// The App's RSA private key in PEM, as GitHub gives it out.
        private_key: SecretString,
        /// The installation; looked up by repository when absent.
        installation: Option<u64>,
    },
}

impl Credentials {
    /// The App's id and the parsed key.
    pub(super) fn app_key(&self) -> Result<Option<(AppId, octocrab::auth::EncodingKey)>, SettingsError> {
        use octocrab::secrecy::ExposeSecret as _;
        let Self::App { id, private_key, .. } = self else {
            return Ok(None);
        };
        match octocrab::auth::EncodingKey::from_rsa_pem(private_key.expose_secret().as_bytes()) {
            Ok(key) => Ok(Some((AppId(*id), key))),
            Err(_) => Err(SettingsError::PrivateKey),
        }
    }
}

/// Hands out clients that are signed in for a repository.
pub(super) struct Auth {
    /// Signed in as the App, or with the token.
    root: Octocrab,
    /// Absent with a token: then `root` does everything.
    app: Option<App>,
    call_timeout: Duration,
}

struct App {
    installation: Option<u64>,
    /// By owner, since an App is installed once for each. Held while a token is made, so that it is made once.
    sessions: Mutex<HashMap<String, Session>>,
}

/// A client with a token, and a number that tells it from its successors.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Octocrab,
    number: u64,
    renew_at: Option<SystemTime>,
}

#[derive(Serialize)]
struct TokenRequest {
    permissions: Permissions,
}

/// The permissions asked for: no token can do more than Tollgate needs, whatever the App was granted.
#[derive(Serialize)]
struct Permissions {
    deployments: &'static str,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
}

/// Has no `Debug`, so that the token cannot be shown.
#[derive(Deserialize)]
struct Token {
    token: String,
    expires_at: jiff::Timestamp,
}

impl Auth {
    pub(super) fn new(root: Octocrab, credentials: &Credentials, call_timeout: Duration) -> Self {
        let app = match credentials {
            Credentials::Token(_) => None,
            Credentials::App { installation, .. } => Some(App {
                installation: *installation,
                sessions: Mutex::new(HashMap::new()),
            }),
        };
        Self {
            root,
            app,
            call_timeout,
        }
    }

    /// A client for the repository (`owner/name`); makes a token when there is none or it expires within a minute.
    pub(super) async fn session(&self, repository: &str) -> Result<Session, Error> {
        let Some(app) = &self.app else {
            return Ok(Session {
                client: self.root.clone(),
                number: 0,
                renew_at: None,
            });
        };
        let owner = owner_of(repository);
        let mut sessions = app.sessions.lock().await;
        let known = sessions.get(&owner);
        if let Some(session) = known.filter(|known| known.renew_at.is_none_or(|at| SystemTime::now() < at)) {
            return Ok(session.clone());
        }
        let number = known.map_or(1, |old| old.number + 1);
        let session = self.sign_in(app, repository, number).await?;
        sessions.insert(owner, session.clone());
        Ok(session)
    }

    /// Throws a refused session away; false when a new one would be the same.
    pub(super) async fn renew(&self, repository: &str, refused: &Session) -> bool {
        let Some(app) = &self.app else { return false };
        if let Some(known) = app.sessions.lock().await.get_mut(&owner_of(repository))
            && known.number == refused.number
        {
            known.renew_at = Some(SystemTime::UNIX_EPOCH);
        }
        true
    }

    async fn sign_in(&self, app: &App, repository: &str, number: u64) -> Result<Session, Error> {
        let installation = if let Some(id) = app.installation {
            id
        } else {
            let call = Call::new(Method::GET, format!("/repos/{repository}/installation"));
            exchange::<Installation>(&self.root, call, StatusCode::OK, self.call_timeout)
                .await?
                .id
        };
        let call = Call::new(Method::POST, format!("/app/installations/{installation}/access_tokens")).json(
            &TokenRequest {
                permissions: Permissions { deployments: "write" },
            },
        )?;
        let token = exchange::<Token>(&self.root, call, StatusCode::CREATED, self.call_timeout).await?;
        let client = self.root.user_access_token(token.token).map_err(Error::away)?;
        let renew_at = SystemTime::from(token.expires_at).checked_sub(RENEW_BEFORE);
        Ok(Session {
            client,
            number,
            renew_at,
        })
    }
}

fn owner_of(repository: &str) -> String {
    repository.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let token = Credentials::Token("ghp_verysecret".into());
        let app = Credentials::App {
            id: 1,
            private_key: "-----BEGIN verysecret".into(),
            installation: None,
        };
        for credentials in [token, app] {
            let shown = format!("{credentials:?}");
            assert!(!shown.contains("verysecret"), "{shown}");
        }
    }

    #[test]
    fn owners_are_the_same_in_any_case() {
        assert_eq!(owner_of("Acme/Shop"), owner_of("acme/other"));
    }
}
