//! Tells GitHub how a release goes: a deployment per revision, and a status with numbers at each step.
//!
//! [`Reporter::submit`] takes a [`Report`] and returns at once; an [`Outbox`] delivers in the background, and no
//! failure of GitHub's ever reaches the release. What became of a report is in [`Reporter::outcomes`].

mod auth;
mod client;
mod deployments;
mod error;
mod outbox;
mod queue;
mod report;

pub use auth::{Credentials, SecretString};
pub use client::{GitHub, Settings, SettingsError};
pub use error::{Error, Refusal};
pub use outbox::{Counters, Outbox, Outcome, Pacing, Reporter, Told};
pub use report::{DESCRIPTION_MAX, ENVIRONMENT_MAX, InvalidReport, Numbers, Report, ReportState, describe};
