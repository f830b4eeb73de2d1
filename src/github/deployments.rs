//! Deployments and their statuses: found before they are made, and posted only when they say something new.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Call, GitHub};
use super::error::Error;
use super::outbox::Pace;
use super::report::{DESCRIPTION_MAX, Report, ReportState, cut};

/// Deployments on a page of a list, GitHub's greatest.
const PAGE: usize = 100;

/// Pages read to find a deployment. One commit in one environment seldom has a second one.
const PAGES: usize = 5;

/// Statuses read to learn what was last said.
const RECENT: &str = "2";

/// What is known of a deployment without asking.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Its id on GitHub.
    pub(super) id: Option<u64>,
    /// The newest status, when certain.
    pub(super) newest: Option<Said>,
    /// Whether the deployments it replaced were made inactive.
    pub(super) retired: bool,
}

/// A status as far as two of them are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    state: String,
    description: String,
    log_url: Option<String>,
}

/// What was done for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivered {
    /// The deployment; none when there was nothing to take back.
    pub(super) deployment: Option<u64>,
    /// Whether a status was posted.
    pub(super) posted: bool,
}

#[derive(Deserialize)]
struct Deployment {
    id: u64,
    #[serde(default)]
    sha: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    payload: Value,
}

/// States are free text: GitHub sends some, like `waiting`, that its own description does not know.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    state: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    log_url: Option<String>,
}

/// The mark by which our deployments are known again; GitHub keeps it as it is.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Payload {
    tollgate: Mark,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Mark {
    uid: String,
    revision: String,
}

#[derive(Serialize)]
struct NewDeployment<'a> {
    #[serde(rename = "ref")]
    reference: &'a str,
    task: &'static str,
    /// Else GitHub may merge the default branch into ours and create nothing.
    auto_merge: bool,
    /// Else every commit status must be success first, our own pending ones included.
    required_contexts: [&'static str; 0],
    payload: Payload,
    environment: &'a str,
    description: String,
    production_environment: bool,
}

#[derive(Serialize)]
struct NewStatus<'a> {
    state: &'a str,
    description: &'a str,
    environment: &'a str,
    /// Off: GitHub's own clean-up goes by environment, and would also end the deployments of other services there.
    auto_inactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_url: Option<&'a str>,
}

impl GitHub {
    /// Brings GitHub up to a report, with as few writes as possible.
    ///
    /// It may be called again after any failure, also when the reply to a write was lost: what was done is found.
    pub(super) async fn deliver(
        &self,
        report: &Report,
        known: &mut Known,
        pace: &mut Pace,
    ) -> Result<Delivered, Error> {
        let (id, fresh) = match known.id {
            Some(id) => (id, false),
            None => match self.find(report).await? {
                Some(id) => (id, false),
                None if report.state == ReportState::Superseded => {
                    return Ok(Delivered {
                        deployment: None,
                        posted: false,
                    });
                }
                None => (self.create(report, pace).await?, true),
            },
        };
        known.id = Some(id);
        let said = said_by(report);
        let posted = !self.is_said(report, id, &said, known, fresh).await?;
        if posted {
            self.post(&report.repository, id, &report.environment, &said, pace)
                .await?;
        }
        known.newest = Some(said);
        if report.state == ReportState::Completed && !known.retired {
            self.retire_older(report, id, pace).await?;
            known.retired = true;
        }
        Ok(Delivered {
            deployment: Some(id),
            posted,
        })
    }

    /// Finds the deployment of the report's gate and revision.
    async fn find(&self, report: &Report) -> Result<Option<u64>, Error> {
        let filter = [
            ("sha", report.sha.as_str()),
            ("environment", report.environment.as_str()),
        ];
        for page in 1..=PAGES {
            let found = self.list(&report.repository, &filter, page).await?;
            let ours = found.iter().find(|one| {
                one.sha == report.sha && one.environment == report.environment && one.mark() == Some(mark_of(report))
            });
            if let Some(ours) = ours {
                return Ok(Some(ours.id));
            }
            if found.len() < PAGE {
                break;
            }
        }
        Ok(None)
    }

    async fn create(&self, report: &Report, pace: &mut Pace) -> Result<u64, Error> {
        let body = NewDeployment {
            reference: &report.sha,
            task: "deploy",
            auto_merge: false,
            required_contexts: [],
            payload: Payload {
                tollgate: mark_of(report),
            },
            environment: &report.environment,
            description: cut(&format!("{} by Tollgate", report.gate), DESCRIPTION_MAX),
            production_environment: is_production(&report.environment),
        };
        let call = Call::new(Method::POST, format!("/repos/{}/deployments", report.repository)).json(&body)?;
        pace.write().await;
        let created: Deployment = self.call(&report.repository, call, StatusCode::CREATED).await?;
        Ok(created.id)
    }

    /// Whether GitHub's newest status already says it, or said it before an end that others decided.
    async fn is_said(
        &self,
        report: &Report,
        id: u64,
        said: &Said,
        known: &mut Known,
        fresh: bool,
    ) -> Result<bool, Error> {
        // Forgotten first: when the next write gets lost, what is on GitHub is unknown.
        if let Some(newest) = known.newest.take() {
            return Ok(newest == *said);
        }
        if fresh {
            return Ok(false);
        }
        let recent = self.recent(&report.repository, id).await?;
        let (newest, before) = (recent.first(), recent.get(1));
        let ended = newest.is_some_and(|newest| newest.state == "inactive");
        Ok(newest == Some(said) || (ended && before == Some(said)))
    }

    async fn recent(&self, repository: &str, id: u64) -> Result<Vec<Said>, Error> {
        let call = Call::new(Method::GET, format!("/repos/{repository}/deployments/{id}/statuses"))
            .query(&[("per_page", RECENT)]);
        let statuses: Vec<Status> = self.call(repository, call, StatusCode::OK).await?;
        let said = |status: Status| Said {
            state: status.state,
            description: status.description.unwrap_or_default(),
            log_url: status.log_url.filter(|url| !url.is_empty()),
        };
        Ok(statuses.into_iter().map(said).collect())
    }

    async fn post(
        &self,
        repository: &str,
        id: u64,
        environment: &str,
        said: &Said,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let body = NewStatus {
            state: &said.state,
            description: &said.description,
            environment,
            auto_inactive: false,
            log_url: said.log_url.as_deref(),
        };
        let call = Call::new(Method::POST, format!("/repos/{repository}/deployments/{id}/statuses")).json(&body)?;
        pace.write().await;
        self.call::<serde::de::IgnoredAny>(repository, call, StatusCode::CREATED)
            .await?;
        Ok(())
    }

    /// Makes the gate's older deployments in this environment inactive, newest first, up to one that already is.
    ///
    /// Looks at the environment's hundred newest: an older one is left over only in an environment that many share.
    async fn retire_older(&self, report: &Report, id: u64, pace: &mut Pace) -> Result<(), Error> {
        let filter = [("environment", report.environment.as_str())];
        let all = self.list(&report.repository, &filter, 1).await?;
        let ours = |one: &&Deployment| one.id < id && one.mark().is_some_and(|mark| mark.uid == report.gate_uid);
        for older in all.iter().filter(ours) {
            let newest = self.recent(&report.repository, older.id).await?.into_iter().next();
            match newest.as_ref().map(|newest| newest.state.as_str()) {
                Some("inactive") => break,
                Some("failure" | "error") => {}
                _ => {
                    let description = cut(&format!("replaced by {}", report.revision), DESCRIPTION_MAX);
                    let said = Said {
                        state: "inactive".into(),
                        description,
                        log_url: report.log_url.clone(),
                    };
                    self.post(&report.repository, older.id, &report.environment, &said, pace)
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn list(&self, repository: &str, filter: &[(&str, &str)], page: usize) -> Result<Vec<Deployment>, Error> {
        let (size, page) = (PAGE.to_string(), page.to_string());
        let query = [filter, &[("per_page", size.as_str()), ("page", page.as_str())]].concat();
        let call = Call::new(Method::GET, format!("/repos/{repository}/deployments")).query(&query);
        self.call(repository, call, StatusCode::OK).await
    }
}

impl Deployment {
    /// Our mark, if the deployment is ours. Payloads come back as objects or as text, as they were sent.
    fn mark(&self) -> Option<Mark> {
        let payload: Option<Payload> = match &self.payload {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Payload::deserialize(other).ok(),
        };
        payload.map(|payload| payload.tollgate)
    }
}

fn mark_of(report: &Report) -> Mark {
    Mark {
        uid: report.gate_uid.clone(),
        revision: report.revision.clone(),
    }
}

fn said_by(report: &Report) -> Said {
    Said {
        state: report.state.word().to_owned(),
        description: cut(&super::report::one_line(&report.description), DESCRIPTION_MAX),
        log_url: report.log_url.clone(),
    }
}

/// Whether people would call the environment production: its first word is `prod` or `production`, in any case.
///
/// GitHub itself takes only the exact name `production` for one.
fn is_production(environment: &str) -> bool {
    let first = environment
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    ["prod", "production"]
        .iter()
        .any(|word| first.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_objects_and_in_text_and_nowhere_else() {
        let mark = |payload: Value| {
            let one = Deployment {
                id: 1,
                sha: String::new(),
                environment: String::new(),
                payload,
            };
            one.mark().map(|mark| (mark.uid, mark.revision))
        };
        let ours = Some(("u".to_owned(), "r".to_owned()));
        let object = serde_json::json!({"tollgate": {"uid": "u", "revision": "r"}, "more": 1});
        let table = [
            (object.clone(), ours.clone()),
            (Value::String(object.to_string()), ours),
            (Value::Null, None),
            (Value::String(String::new()), None),
            (serde_json::json!({"tollgate": {"uid": "u"}}), None),
            (serde_json::json!([1]), None),
        ];
        for (payload, expected) in table {
            assert_eq!(mark(payload.clone()), expected, "{payload}");
        }
    }

    #[test]
    fn environments_are_production_by_their_first_word() {
        for name in [
            "production",
            "Production",
            "prod",
            "prod-eu",
            "production/eu",
            "PROD west",
        ] {
            assert!(is_production(name), "{name}");
        }
        for name in ["staging", "preprod", "non-prod", "products", "pr-12", ""] {
            assert!(!is_production(name), "{name}");
        }
    }

    #[test]
    fn answers_may_lack_what_is_not_needed_and_hold_what_is_unknown() {
        let one: Deployment = serde_json::from_str(r#"{"id": 7, "creator": null, "task": 3}"#).unwrap();
        assert_eq!((one.id, one.mark().is_none()), (7, true));
        let status: Status = serde_json::from_str(r#"{"state": "waiting", "description": null}"#).unwrap();
        assert_eq!((status.state.as_str(), status.description), ("waiting", None));
    }
}
