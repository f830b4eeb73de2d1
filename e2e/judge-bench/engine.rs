//! The judge and the words it speaks, from the operator's own source files.
#![expect(clippy::duplicate_mod, reason = "the judge keeps Kayenta's rule to itself")]

#[path = "../../src/decision/mod.rs"]
pub mod decision;
#[path = "../../src/judge/mod.rs"]
pub mod judge;
/// Kayenta's rule, for the peers.
#[path = "../../src/judge/mann_whitney.rs"]
pub mod mann_whitney;
