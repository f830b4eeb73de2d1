//! What is told to GitHub about a release, and in which words.

use std::fmt;

use crate::decision::Percent;

/// Longest description of a deployment status, in characters. GitHub's REST documentation of "Create a deployment
/// status" says so; longer ones are refused with 422.
pub const DESCRIPTION_MAX: usize = 140;

/// Longest name of an environment, in characters ("Managing environments for deployment" in GitHub's documentation).
pub const ENVIRONMENT_MAX: usize = 255;

/// Longest link sent to GitHub, in bytes.
const URL_MAX: usize = 2048;

/// Says where a release stands, for one commit in one environment of one repository.
///
/// The pair of `gate_uid` and `revision` identifies the deployment on GitHub: reports that share it go to the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The UID of the `ReleaseGate`.
    pub gate_uid: String,
    /// The gate as `namespace/name`, for people.
    pub gate: String,
    /// The repository as `owner/name`.
    pub repository: String,
    /// The environment's name on GitHub, 1 to 255 characters.
    pub environment: String,
    /// The full commit, 40 lower-case hexadecimal digits.
    pub sha: String,
    /// The revision on trial, Tollgate's own hash.
    pub revision: String,
    /// Where the release stands.
    pub state: ReportState,
    /// One line with numbers, see [`describe`]; cut to 140 characters.
    pub description: String,
    /// Where people can read on, `http` or `https`.
    pub log_url: Option<String>,
}

/// Where a release stands, in the words that matter to GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportState {
    /// The template is held and nothing has begun.
    Held,
    /// The canary is being brought up; it has no traffic.
    Preparing,
    /// The canary has traffic, or holds at a step.
    Stepping,
    /// All steps passed; stable is being brought to the revision.
    Committed,
    /// The release is complete.
    Completed,
    /// The release was aborted; stable has all traffic.
    Aborted,
    /// A newer revision took its place before it was complete.
    Superseded,
}

impl ReportState {
    /// The state's name in GitHub's API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "queued",
            Self::Preparing | Self::Stepping | Self::Committed => "in_progress",
            Self::Completed => "success",
            Self::Aborted => "failure",
            Self::Superseded => "inactive",
        }
    }

    /// Whether no other state is expected after this one.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Aborted | Self::Superseded)
    }
}

/// The numbers that a description can hold; what is absent is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers<'a> {
    /// The canary's share now, or the last one it had.
    pub weight: Option<Percent>,
    /// Requests the canary has answered so far.
    pub requests: Option<u64>,
    /// Canary over baseline, of the metric that decides; finite.
    pub ratio: Option<f64>,
    /// The share of the next step.
    pub next: Option<Percent>,
    /// Why the release holds or ended: a reason word and, if known, the metric or person.
    pub why: &'a str,
}

/// Renders a status description, e.g. `5 % · 1,204 requests · ratio 0.98 · next 25 %`, of at most 140 characters.
///
/// Numbers come before free text, so that cutting never hides them.
#[must_use]
pub fn describe(state: ReportState, numbers: &Numbers<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let weight = numbers.weight.map(|weight| weight.to_string());
    match (state, weight) {
        (ReportState::Held, _) => parts.push("held".into()),
        (ReportState::Preparing, _) => parts.push("preparing the canary".into()),
        (ReportState::Stepping, weight) => parts.push(weight.unwrap_or_else(|| "in progress".into())),
        (ReportState::Committed, _) => parts.push("all steps passed, handing over".into()),
        (ReportState::Completed, _) => parts.push("complete".into()),
        (ReportState::Aborted, Some(weight)) => parts.push(format!("aborted at {weight}")),
        (ReportState::Aborted, None) => parts.push("aborted".into()),
        (ReportState::Superseded, Some(weight)) => parts.push(format!("superseded at {weight}")),
        (ReportState::Superseded, None) => parts.push("superseded".into()),
    }
    if let Some(requests) = numbers.requests {
        let noun = if requests == 1 { "request" } else { "requests" };
        parts.push(format!("{} {noun}", grouped(requests)));
    }
    if let Some(ratio) = numbers.ratio.filter(|ratio| ratio.is_finite()) {
        parts.push(format!("ratio {ratio:.2}"));
    }
    if let Some(next) = numbers.next {
        parts.push(format!("next {next}"));
    }
    let why = one_line(numbers.why);
    if !why.is_empty() {
        parts.push(why);
    }
    cut(&parts.join(" · "), DESCRIPTION_MAX)
}

/// Writes a count with a comma every three digits.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Makes text safe to show on one line: control characters become spaces, and runs of white space one.
pub(crate) fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cuts text to `max` characters, the last of which is then an ellipsis.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(max.saturating_sub(1)).collect();
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

/// A field of a [`Report`] that GitHub would not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}, but must be {accepted}")]
pub struct InvalidReport {
    /// The field's name.
    pub field: &'static str,
    /// The value as given, cut to 80 characters.
    pub value: String,
    /// What would be accepted.
    pub accepted: &'static str,
}

impl Report {
    /// Checks everything that can be known before GitHub is asked.
    ///
    /// # Errors
    /// Names the first field that is not acceptable, its value, and what would be accepted.
    pub fn check(&self) -> Result<(), InvalidReport> {
        let rules: [(&'static str, &str, bool, &'static str); 6] = [
            (
                "gate_uid",
                &self.gate_uid,
                is_plain(&self.gate_uid, 128),
                "1 to 128 characters without control characters",
            ),
            (
                "revision",
                &self.revision,
                is_plain(&self.revision, 128),
                "1 to 128 characters without control characters",
            ),
            (
                "repository",
                &self.repository,
                is_repository(&self.repository),
                "`owner/name` of a GitHub repository",
            ),
            (
                "sha",
                &self.sha,
                is_sha(&self.sha),
                "a full commit: 40 lower-case hexadecimal digits",
            ),
            (
                "environment",
                &self.environment,
                is_plain(&self.environment, ENVIRONMENT_MAX),
                "1 to 255 characters without control characters",
            ),
            (
                "log_url",
                self.log_url.as_deref().unwrap_or_default(),
                self.log_url.as_deref().is_none_or(is_link),
                "an http or https link of at most 2048 bytes",
            ),
        ];
        match rules.into_iter().find(|(_, _, good, _)| !good) {
            None => Ok(()),
            Some((field, value, _, accepted)) => Err(InvalidReport {
                field,
                value: cut(value, 80),
                accepted,
            }),
        }
    }

    /// The repository's owner.
    pub(crate) fn owner(&self) -> &str {
        self.repository.split_once('/').map_or("", |(owner, _)| owner)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} on {}: {}",
            self.gate,
            self.state.word(),
            self.repository,
            self.description
        )
    }
}

/// Whether text is `owner/name`: an account (letters, digits, `-`, and `_` for managed users) and a repository name.
fn is_repository(text: &str) -> bool {
    let Some((owner, name)) = text.split_once('/') else {
        return false;
    };
    let word = |part: &str, max: usize, extra: &str| {
        (1..=max).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    word(owner, 39, "-_") && !owner.starts_with('-') && word(name, 100, "-_.") && name != "." && name != ".."
}

fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control) && text.trim() == text
}

fn is_link(text: &str) -> bool {
    text.len() <= URL_MAX
        && reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(share: i64) -> Percent {
        Percent::try_from(share).unwrap()
    }

    pub(crate) fn report() -> Report {
        Report {
            gate_uid: "uid-1".into(),
            gate: "shop/checkout".into(),
            repository: "acme/shop".into(),
            environment: "production".into(),
            sha: "0123456789abcdef0123456789abcdef01234567".into(),
            revision: "7d9f".into(),
            state: ReportState::Stepping,
            description: "5 %".into(),
            log_url: None,
        }
    }

    #[test]
    fn descriptions_hold_the_numbers_that_are_known() {
        let all = Numbers {
            weight: Some(percent(5)),
            requests: Some(1204),
            ratio: Some(0.98),
            next: Some(percent(25)),
            why: "",
        };
        let none = Numbers::default();
        let because = |why| Numbers {
            weight: Some(percent(5)),
            why,
            ..Numbers::default()
        };
        let table = [
            (
                ReportState::Stepping,
                all.clone(),
                "5 % · 1,204 requests · ratio 0.98 · next 25 %",
            ),
            (ReportState::Stepping, none.clone(), "in progress"),
            (
                ReportState::Stepping,
                Numbers {
                    requests: Some(1),
                    ..none.clone()
                },
                "in progress · 1 request",
            ),
            (ReportState::Stepping, because("NoEvidence"), "5 % · NoEvidence"),
            (ReportState::Held, none.clone(), "held"),
            (ReportState::Preparing, none.clone(), "preparing the canary"),
            (ReportState::Committed, none.clone(), "all steps passed, handing over"),
            (
                ReportState::Completed,
                Numbers {
                    next: None,
                    ..all.clone()
                },
                "complete · 1,204 requests · ratio 0.98",
            ),
            (
                ReportState::Aborted,
                because("Harm: error rate"),
                "aborted at 5 % · Harm: error rate",
            ),
            (ReportState::Aborted, none.clone(), "aborted"),
            (ReportState::Superseded, because(""), "superseded at 5 %"),
            (ReportState::Superseded, none.clone(), "superseded"),
            (
                ReportState::Stepping,
                Numbers {
                    ratio: Some(f64::NAN),
                    weight: Some(percent(1)),
                    ..none.clone()
                },
                "1 %",
            ),
            (
                ReportState::Stepping,
                because("two\nlines\u{1b}[31m"),
                "5 % · two lines [31m",
            ),
        ];
        for (state, numbers, expected) in table {
            assert_eq!(describe(state, &numbers), expected, "{state:?} {numbers:?}");
        }
    }

    #[test]
    fn descriptions_are_cut_at_140_characters_whatever_their_bytes() {
        for letter in ["x", "é", "ü·", "日本", "🚀", "👩\u{200d}💻"] {
            let why = letter.repeat(200);
            let numbers = Numbers {
                weight: Some(percent(50)),
                requests: Some(u64::MAX),
                why: &why,
                ..Numbers::default()
            };
            let text = describe(ReportState::Stepping, &numbers);
            assert_eq!(text.chars().count(), DESCRIPTION_MAX, "{text}");
            assert!(
                text.starts_with("50 % · 18,446,744,073,709,551,615 requests · "),
                "{text}"
            );
            assert!(text.ends_with('…'), "{text}");
        }
        assert_eq!(cut(&"x".repeat(140), 140), "x".repeat(140));
        assert_eq!(cut("abc def", 5), "abc…");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (48_120, "48,120"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(count), expected);
        }
    }

    #[test]
    fn every_state_has_a_word_of_github() {
        let table = [
            (ReportState::Held, "queued", false),
            (ReportState::Preparing, "in_progress", false),
            (ReportState::Stepping, "in_progress", false),
            (ReportState::Committed, "in_progress", false),
            (ReportState::Completed, "success", true),
            (ReportState::Aborted, "failure", true),
            (ReportState::Superseded, "inactive", true),
        ];
        for (state, word, last) in table {
            assert_eq!((state.word(), state.is_final()), (word, last), "{state:?}");
        }
    }

    #[test]
    fn a_report_names_the_field_that_is_wrong() {
        type Change = fn(&mut Report);
        let table: [(&str, Change); 16] = [
            ("repository", |r| r.repository = "acme".into()),
            ("repository", |r| r.repository = "acme/".into()),
            ("repository", |r| r.repository = "/shop".into()),
            ("repository", |r| r.repository = "acme/shop/x".into()),
            ("repository", |r| r.repository = "acme/..".into()),
            ("repository", |r| r.repository = "acme/sh?p".into()),
            ("repository", |r| r.repository = "https://github.com/acme/shop".into()),
            ("sha", |r| r.sha = "main".into()),
            ("sha", |r| r.sha = "0123456".into()),
            ("sha", |r| r.sha = "0123456789ABCDEF0123456789ABCDEF01234567".into()),
            ("environment", |r| r.environment = String::new()),
            ("environment", |r| r.environment = "ö".repeat(256)),
            ("environment", |r| r.environment = "pro\nduction".into()),
            ("gate_uid", |r| r.gate_uid = String::new()),
            ("log_url", |r| r.log_url = Some("javascript:alert(1)".into())),
            ("log_url", |r| r.log_url = Some("/runs/1".into())),
        ];
        for (field, change) in table {
            let mut wrong = report();
            change(&mut wrong);
            let error = wrong.check().unwrap_err();
            assert_eq!(error.field, field, "{error}");
            assert!(error.to_string().contains("but must be"), "{error}");
        }
    }

    #[test]
    fn a_report_is_accepted_with_everything_github_allows() {
        let mut good = report();
        for repository in ["a/b", "acme-2/shop.api_v2", "jane_corp/.github", "Acme/Shop"] {
            good.repository = repository.into();
            assert_eq!(good.check(), Ok(()), "{repository}");
        }
        good.environment = "ö".repeat(255);
        good.log_url = Some("https://tollgate.example/shop/checkout?run=1#top".into());
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.owner(), "Acme");
    }
}
