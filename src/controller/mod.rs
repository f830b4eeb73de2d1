//! The controller: watch, gather, decide, apply, record.
//!
//! The only room that performs effects on the cluster. It raises a weight only as leader; the
//! way to the safe target is open to every live replica.

pub mod attached;
pub mod canary;
pub mod capacity;
pub mod certificate;
pub mod connection;
pub mod context;
pub mod course;
pub mod crash;
pub mod drift;
pub mod events;
pub mod external;
pub mod frozen;
pub mod gatekeeper;
pub mod gather;
pub mod hooks;
pub mod judge;
pub mod labels;
pub mod lease;
pub mod lists;
pub mod memory;
pub mod objects;
pub mod planes;
pub mod precedence;
pub mod preflight;
pub mod record;
pub mod rest;
pub mod revision;
pub mod run;
pub mod start;
pub mod status;
pub mod watch;
pub mod webhook;

mod answers;
mod apply;
mod guard;
mod report;
mod shown;
mod survey;
mod workload;
