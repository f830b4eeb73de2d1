//! What is kept in a route's annotation, one annotation per gate.
//!
//! Others can write annotations too, so what is read back is bounded and checked; what cannot be
//! read counts as absent, never as an error.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MARK_PREFIX, Pair};
use crate::decision::{Mark, Revision};

/// The longest annotation that is read, in bytes. A route of 16 rules with 16 backends each, the
/// most the Gateway API takes, needs about 6 KiB.
const LONGEST: usize = 32 * 1024;

/// Everything one gate keeps on a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// What was written last, and why.
    pub mark: Mark,
    /// Present while the canary is, or was last, named in the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Kept>,
    /// Who managed the rules before our first write; empty once it was handed back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
}

/// What is needed to put a route back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    /// The user's Service.
    pub service: String,
    /// The canary's.
    pub canary: String,
    /// What the user wrote, for every rule that was split.
    #[serde(default)]
    pub original: Vec<Original>,
}

/// The weights that the user wrote in one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Original {
    /// Hash of the rule without weights and canaries: rules have no lasting index, and rarely a name.
    pub rule: String,
    /// In the order of the rule's backends; `null` where the user left the weight out.
    pub weights: Vec<Option<i64>>,
}

/// A field manager that owned the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    /// Its name.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// The API version in which it owned them.
    pub api_version: String,
}

/// Whether the route carries this gate's annotation, be it one that can be read or not.
#[must_use]
pub fn is_marked(route: &Value, pair: &Pair) -> bool {
    let annotations = route.get("metadata").and_then(|metadata| metadata.get("annotations"));
    annotations.and_then(|all| all.get(pair.annotation())).is_some()
}

impl Note {
    /// Reads the pair's own note from a route.
    pub fn of(route: &Value, pair: &Pair) -> Option<Self> {
        Self::parse(route.get("metadata")?.get("annotations")?.get(pair.annotation())?)
    }

    /// Every other gate's note on the route that can be read.
    pub fn others(route: &Value, pair: &Pair) -> Vec<Self> {
        let own = pair.annotation();
        let annotations = route
            .get("metadata")
            .and_then(|m| m.get("annotations"))
            .and_then(Value::as_object);
        annotations
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.starts_with(MARK_PREFIX) && **key != own)
            .filter_map(|(_, text)| Self::parse(text))
            .collect()
    }

    fn parse(text: &Value) -> Option<Self> {
        let text = text.as_str().filter(|t| t.len() <= LONGEST)?;
        serde_json::from_str(text).ok()
    }

    /// The annotation's value. Texts are clipped to their bounds; should it still be too long to be
    /// read back, the originals are left out, which [`rules`](super::rules) can do without.
    pub fn print(&self) -> String {
        let mut note = self.clone();
        clip_mark(&mut note.mark);
        let text = serde_json::to_string(&note).unwrap_or_default();
        if text.len() <= LONGEST {
            return text;
        }
        if let Some(kept) = note.split.as_mut() {
            kept.original.clear();
        }
        serde_json::to_string(&note).unwrap_or_default()
    }
}

/// Keeps the record within 2 KiB: its rule is the only text that may be long.
fn clip_mark(mark: &mut Mark) {
    let record = &mut mark.record;
    let Revision(revision) = &mut record.revision;
    let by = record.by.iter_mut();
    for text in [
        &mut record.id,
        revision,
        &mut record.evidence_hash,
        &mut record.policy_hash,
    ]
    .into_iter()
    .chain(by)
    {
        clip(text, 128);
    }
    clip(&mut record.rule, 1024);
}

/// Shortens a text to at most `limit` bytes, between characters, and says so by an ellipsis.
pub(super) fn clip(text: &mut String, limit: usize) {
    const ELLIPSIS: &str = "…";
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len())));
        text.push_str(ELLIPSIS);
    }
}
