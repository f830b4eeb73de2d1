//! Exit codes, the same for every command that talks to a cluster.

/// Done: granted, reached.
pub const DONE: u8 = 0;
/// Answered otherwise: refused, or the release ended another way.
pub const NOT_DONE: u8 = 1;
/// Wrong usage, or the cluster could not be asked.
pub const NOT_ASKED: u8 = 2;
/// No answer in time.
pub const NO_ANSWER: u8 = 3;
