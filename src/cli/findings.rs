//! What `tollgate lint` found, in every form that somebody reads: people, scripts, GitHub, SARIF.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::paint::{Tone, paint};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// It is accepted, and does not do what its author most likely means.
    Warning,
    /// It is refused when it is applied, or can never decide anything.
    Error,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// How bad it is.
    pub level: Level,
    /// Which rule found it: one of [`RULES`].
    pub rule: &'static str,
    /// Path of the field.
    pub field: String,
    /// What it says.
    pub value: String,
    /// What would be accepted, or what follows from it.
    pub accepted: String,
}

/// Every rule, with what it looks for.
pub const RULES: &[(&str, &str)] = &[
    ("yaml", "The file is YAML"),
    ("invalid", "Every field is known and has a value that is accepted"),
    ("masks-absence", "No expression turns missing data into good data"),
    ("not-a-counter", "Selectors name counters"),
    ("not-a-gauge", "Selectors of gauges name no counters"),
    ("decides-on-luck", "A limit is compared with enough requests"),
    ("grey-zone", "At every ratio either safety or harm can be shown"),
    ("never-safe", "A service without errors can be shown safe"),
    ("unjudged-step", "Every step is compared"),
    ("anonymous", "Every margin and limit has an owner and a rationale"),
    ("window-too-short", "Every step can be decided within its longest stay"),
    ("twice", "A workload has one gate, a cluster one default source"),
];

impl Finding {
    fn message(&self) -> String {
        if self.value.is_empty() {
            format!("{}: {}", self.field, self.accepted)
        } else {
            format!("{}: {}: {}", self.field, self.value, self.accepted)
        }
    }
}

/// For people: `gate.yaml:12: error: spec…: value: what would be accepted [rule]`.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let tone = match finding.level {
            Level::Note => Tone::Faint,
            Level::Warning => Tone::Wait,
            Level::Error => Tone::Bad,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}:{}: {}: {} {}",
            finding.file,
            finding.line,
            paint(tone, finding.level.word()),
            finding.message(),
            paint(Tone::Faint, &format!("[{}]", finding.rule))
        );
    }
    text
}

/// Workflow commands of GitHub Actions: it shows each at its line of a pull request.
#[must_use]
pub fn github(findings: &[Finding]) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let line = |finding: &Finding| {
        let command = match finding.level {
            Level::Note => "notice",
            Level::Warning | Level::Error => finding.level.word(),
        };
        format!(
            "::{command} file={},line={},title={}::{}\n",
            property(&finding.file),
            finding.line,
            property(&format!("tollgate {}", finding.rule)),
            data(&finding.message())
        )
    };
    findings.iter().map(line).collect()
}

/// SARIF 2.1.0, as code scanners exchange it.
#[must_use]
pub fn sarif(findings: &[Finding]) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(id, looks_for)| json!({"id": id, "shortDescription": {"text": looks_for}}))
        .collect();
    let result = |finding: &Finding| {
        json!({
            "ruleId": finding.rule,
            "level": finding.level.word(),
            "message": {"text": finding.message()},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": finding.file},
                "region": {"startLine": finding.line},
            }}],
        })
    };
    let results: Vec<Value> = findings.iter().map(result).collect();
    let driver = json!({"name": "tollgate", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    })
}
