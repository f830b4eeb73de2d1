//! How a call to GitHub can fail, and which failures are worth another try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::report::{cut, one_line};

/// Longest text of GitHub's that is passed on, in characters.
const MESSAGE_MAX: usize = 200;

/// Longest wait that an answer can ask for. The limit on the number of calls is reset every hour.
const WAIT_MAX: Duration = Duration::from_mins(61);

/// A call to GitHub that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// GitHub did not answer, or not in a usable way. Trying again later makes sense.
    #[error("GitHub is away: {0}")]
    Away(String),
    /// GitHub asks for patience.
    #[error("GitHub limits the rate of calls: {message}")]
    Limited {
        /// How long it asks to wait; absent when it does not say.
        wait: Option<Duration>,
        /// GitHub's words.
        message: String,
    },
    /// GitHub understood and refused. Only a person can change that.
    #[error("{refusal}: {message}")]
    Refused {
        /// The kind of refusal.
        refusal: Refusal,
        /// GitHub's words, and what would help.
        message: String,
    },
}

/// The kinds of refusal that another try does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// 401: the token, the App's id or its key is no good.
    #[error("GitHub does not accept the credentials; check the token, or the App's id and key")]
    Credentials,
    /// 403: a permission is missing.
    #[error("GitHub forbids the call; grant the permission Deployments: read and write")]
    Forbidden,
    /// 404, 410: no such repository, or it cannot be seen with these credentials.
    #[error("GitHub finds no such repository or deployment; check the name, and that the App is installed there")]
    NotFound,
    /// 422 and every other 4xx: GitHub does not accept what was sent.
    #[error("GitHub does not accept the request")]
    Invalid,
    /// 3xx: the repository has another name now.
    #[error("the repository has moved")]
    Moved,
}

impl Refusal {
    /// One static word, for conditions, events and metric labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Credentials => "GitHubCredentials",
            Self::Forbidden => "GitHubForbidden",
            Self::NotFound => "GitHubNotFound",
            Self::Invalid => "GitHubInvalid",
            Self::Moved => "GitHubMoved",
        }
    }
}

impl Error {
    /// One static word, for conditions, events and metric labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Away(_) => "GitHubAway",
            Self::Limited { .. } => "GitHubLimited",
            Self::Refused { refusal, .. } => refusal.word(),
        }
    }

    /// Whether trying again without a change can succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }

    pub(crate) fn away(what: impl std::fmt::Display) -> Self {
        Self::Away(cut(&one_line(&what.to_string()), MESSAGE_MAX))
    }

    pub(crate) fn moved() -> Self {
        let message = "name the repository as it is called now".to_owned();
        Self::Refused {
            refusal: Refusal::Moved,
            message,
        }
    }

    /// Reads an answer that is not a success.
    ///
    /// The rules for limits are those of "Rate limits for the REST API" in GitHub's documentation: 403 or 429 with
    /// `retry-after`, or with `x-ratelimit-remaining: 0` and `x-ratelimit-reset` in UTC seconds, or with neither.
    pub(crate) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Self {
        let message = words_of(status, body);
        if status.is_redirection() {
            return Self::moved();
        }
        if !status.is_client_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Self::Away(format!("{}: {message}", status.as_u16()));
        }
        if matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
            let wait = asked_wait(headers, now);
            let said = message.to_ascii_lowercase();
            let limited = said.contains("rate limit") || said.contains("abuse detection");
            if wait.is_some() || limited || status == StatusCode::TOO_MANY_REQUESTS {
                return Self::Limited { wait, message };
            }
        }
        let refusal = match status {
            StatusCode::UNAUTHORIZED => Refusal::Credentials,
            StatusCode::FORBIDDEN => Refusal::Forbidden,
            StatusCode::NOT_FOUND | StatusCode::GONE => Refusal::NotFound,
            _ => Refusal::Invalid,
        };
        Self::Refused {
            refusal,
            message: with_permissions(message, headers),
        }
    }
}

/// How long the headers ask to wait.
fn asked_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds).min(WAIT_MAX));
    }
    if number("x-ratelimit-remaining") != Some(0) {
        return None;
    }
    let reset = UNIX_EPOCH.checked_add(Duration::from_secs(number("x-ratelimit-reset")?))?;
    Some(reset.duration_since(now).unwrap_or_default().min(WAIT_MAX))
}

/// Adds the permission that would have been accepted, which GitHub names in a header.
fn with_permissions(message: String, headers: &HeaderMap) -> String {
    match headers
        .get("x-accepted-github-permissions")
        .and_then(|value| value.to_str().ok())
    {
        Some(permissions) if !permissions.is_empty() => {
            format!(
                "{message} (accepted permissions: {})",
                cut(&one_line(permissions), MESSAGE_MAX)
            )
        }
        _ => message,
    }
}

/// GitHub's own words, made safe to show; never more than 200 characters.
fn words_of(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }
    let said = serde_json::from_slice::<Body>(body)
        .map(|body| one_line(&body.message))
        .unwrap_or_default();
    match said.as_str() {
        "" => status.canonical_reason().unwrap_or("an unknown status").to_owned(),
        said => cut(said, MESSAGE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Error {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        Error::of_answer(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes(), now)
    }

    /// Status, headers, body, and the wait of a limit if it is one.
    type Row<'a> = (
        u16,
        &'a [(&'static str, &'static str)],
        &'a str,
        Option<Option<Duration>>,
    );

    #[test]
    fn limits_are_told_from_refusals() {
        let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
        let forbidden = r#"{"message":"Resource not accessible by integration"}"#;
        let reset = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030")];
        let passed = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "900")];
        let far = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999")];
        let plenty = [("x-ratelimit-remaining", "12"), ("x-ratelimit-reset", "1030")];
        let seconds = |s| Some(Some(Duration::from_secs(s)));
        let table: [Row<'_>; 12] = [
            (403, &[("retry-after", "7")], secondary, seconds(7)),
            (429, &[("retry-after", "7")], "", seconds(7)),
            (403, &[("retry-after", "999999")], secondary, seconds(3660)),
            (403, &[], secondary, Some(None)),
            (429, &[], "", Some(None)),
            (429, &[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], "", Some(None)),
            (403, &reset, forbidden, seconds(30)),
            (429, &reset, "", seconds(30)),
            (403, &passed, forbidden, seconds(0)),
            (403, &far, forbidden, seconds(3660)),
            (403, &plenty, forbidden, None),
            (403, &[], forbidden, None),
        ];
        for (status, headers, body, expected) in table {
            let error = read(status, headers, body);
            let wait = match &error {
                Error::Limited { wait, .. } => Some(*wait),
                _ => None,
            };
            assert_eq!(wait, expected, "{status} {headers:?} {error}");
        }
    }

    #[test]
    fn refusals_are_typed_and_everything_else_is_away() {
        let table = [
            (400, "GitHubInvalid"),
            (401, "GitHubCredentials"),
            (403, "GitHubForbidden"),
            (404, "GitHubNotFound"),
            (408, "GitHubAway"),
            (409, "GitHubInvalid"),
            (410, "GitHubNotFound"),
            (422, "GitHubInvalid"),
            (301, "GitHubMoved"),
            (307, "GitHubMoved"),
            (500, "GitHubAway"),
            (502, "GitHubAway"),
            (503, "GitHubAway"),
        ];
        for (status, word) in table {
            let error = read(status, &[], "");
            assert_eq!(error.word(), word, "{status}");
            assert_eq!(error.is_transient(), word == "GitHubAway", "{status}");
        }
    }

    #[test]
    fn foreign_words_are_bounded_and_on_one_line() {
        let html = format!("<html>{}</html>", "x".repeat(100_000));
        assert_eq!(read(502, &[], &html).to_string(), "GitHub is away: 502: Bad Gateway");
        let long = format!("{{\"message\":\"a\\nb {}\"}}", "y".repeat(500));
        let text = read(422, &[], &long).to_string();
        assert!(text.contains("a b y") && text.chars().count() < 300, "{text}");
        let expected = "GitHub forbids the call; grant the permission Deployments: read and write: \
                        Forbidden (accepted permissions: deployments=write)";
        let hint = read(403, &[("x-accepted-github-permissions", "deployments=write")], "").to_string();
        assert_eq!(hint, expected);
    }
}
