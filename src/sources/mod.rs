//! Where evidence comes from: one source per file, all of them read-only.
//!
//! [`Plane`] reads one Prometheus for all releases of a turn. It asks few shared questions per tick,
//! deals the answers out to (gate, metric, arm), differences the raw counters itself, and calls
//! everything that is missing or wrong by its name instead of guessing.
//!
//! | file | holds |
//! |---|---|
//! | `connection` | what an administrator writes about a server: address, credential, limits |
//! | `metric` | what a team writes about a metric: presets, selectors, edges |
//! | `count` | the same of events over time, like restarts |
//! | `gauge` | what pods have, like memory |
//! | `selector` | a user's selector, parsed, checked, and rendered with our matchers |
//! | `arms` | which series belongs to which arm of which gate |
//! | `reply` | bytes of an answer to series, with every doubt named |
//! | `counter` | raw samples to increments |
//! | `edges` | which bucket edges a histogram is judged at |
//! | `native` | buckets that come with every sample |
//! | `subscription` | what a gate asks of the plane, and what it gets |
//! | `query` | shared questions: shapes, parts, sending |
//! | `memory` | what is remembered of the series, bounded |
//! | `tally` | the series of one gate's metric to one tick |
//! | `past` | the hour before a release, minute by minute |
//! | `recording` | series in memory that answer as a server would |
//! | `history` | what a server remembers of one gate, read once |
//! | `prometheus` | the plane: one tick for every subscription |
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arms;
mod connection;
mod count;
mod counter;
mod edges;
mod gauge;
mod history;
mod memory;
mod metric;
mod native;
mod past;
mod prometheus;
mod query;
mod recording;
mod reply;
mod selector;
mod subscription;
mod tally;

#[cfg(test)]
mod ago;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod levels;
#[cfg(test)]
mod lifetimes;
#[cfg(test)]
mod stand_in;

pub use connection::{AuthSpec, BasicSpec, ConnectionSpec, HeaderSpec, SecretRef, TlsSpec};
pub use count::{CountPreset, CountSpec, Events};
pub use gauge::{Gauge, GaugePreset};
pub use history::history;
pub use metric::{
    HistogramPreset, HistogramSpec, Measure, MetricQuery, Ratio, RatioPreset, RatioSpec, SpecError, Tails,
};
pub use prometheus::Plane;
pub use recording::{Recording, RecordingError};
pub use selector::{Selector, SelectorDoubt, SelectorError, doubt};
pub use subscription::{Answer, Collected, Costs, Subscription};
