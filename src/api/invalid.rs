//! What is wrong with an object, in words its author can act on.

/// A field that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} is not accepted; it must be {accepted}")]
pub struct Invalid {
    /// Path of the field, like `spec.steps[2].weight`.
    pub field: String,
    /// What it says, shortened.
    pub value: String,
    /// What would be accepted.
    pub accepted: String,
}

impl Invalid {
    /// Longest quotation of a value, in characters.
    const QUOTED: usize = 120;

    /// Names a field, what it says and what would be accepted.
    pub fn new(field: impl Into<String>, value: impl std::fmt::Display, accepted: impl Into<String>) -> Self {
        let value = value.to_string();
        let value = if value.chars().count() > Self::QUOTED {
            value.chars().take(Self::QUOTED).chain(['…']).collect()
        } else {
            value
        };
        Self {
            field: field.into(),
            value,
            accepted: accepted.into(),
        }
    }
}
