//! What the counts say: pure statistics from ticks to a verdict.
//!
//! An [`Analysis`] is fed ticks of counts, metric by metric, and says at any moment what they
//! show: harm beyond the abort margin, safety within the promote margin, or neither. Both are
//! e-processes (`e1`), so looking at every tick costs nothing in error rate: over a whole
//! release a canary that is not worse than the abort margin is aborted with probability at most
//! `alpha`, and a step is passed by a canary worse than its promote margin with probability at
//! most `beta`. That holds for requests that fail independently given the past, whatever the
//! rates do over time; `dispersion` says what is done where they come in clumps.
//!
//! No clock, no input or output, no randomness and no logging: the same plan and the same ticks
//! give the same verdict, bit for bit, on every machine. Logarithms and exponentials come from
//! `libm`, because the platform's own differ in the last bit.
//!
//! Read on in this order: `plan` (what is judged), `shape` (how kinds differ), `analysis` (all metrics of an attempt),
//! `metric` (one of them), `margins`, `outcome`, `reading` (its verdict), then the statistics: `e1` and `e2`,
//! `dispersion` and `offsets`, `sample_ratio`, `limit`, `alarm`, `window` and `mann_whitney`, and for people's eyes
//! `interval`, `quantile`, `need` and `words`. `packed` stores numbers, `chain`
//! hashes what was counted.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod alarm;
mod analysis;
mod chain;
mod dispersion;
mod e1;
mod e2;
mod interval;
mod limit;
mod mann_whitney;
mod margins;
mod metric;
mod need;
mod offsets;
mod outcome;
mod packed;
mod plan;
mod quantile;
mod reading;
mod sample_ratio;
mod shape;
mod window;
mod words;

#[cfg(test)]
mod conversions;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod gauges;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod methods;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod releases;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod world;

pub use analysis::Analysis;
pub use need::expected;
pub use plan::{Method, MetricPlan, Past, PlanError, SampleRatioPlan, Settings};
pub use quantile::quantile;
pub use shape::Shape;
pub use words::{amount, count, grouped};
