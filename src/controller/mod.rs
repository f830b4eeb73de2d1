//! The controller: watch, gather, decide, apply, record.
//!
//! The only room that performs effects on the cluster. It raises a weight only as leader; the
//! way to the safe target is open to every live replica.

pub mod crash;
pub mod events;
pub mod lease;
