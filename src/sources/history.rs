//! What a server still remembers of one gate's metrics, read once for a whole span of time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::arms::Book;
use super::connection::ConnectionSpec;
use super::metric::Identity;
use super::recording::Recording;
use super::reply::{Series, decode, failed, gap};
use super::selector::{Comparison, Op, Selector, one_of};
use super::subscription::Subscription;
use crate::decision::{Gap, GapKind, Millis};
use crate::http::{self, Client};

/// Longest part that is asked for in one query, milliseconds.
const PART: i64 = 30 * 60 * 1000;

/// Reads all series of both arms from `from` to `to`, each arm of the time that its gate reads it of,
/// and the start times of their processes: what a plane would have been given at the ticks of that
/// time.
///
/// # Errors
/// [`Gap`] saying what the server answered instead.
pub async fn history(
    connection: &ConnectionSpec,
    client: &Client,
    gate: &Subscription,
    (from, to): (Millis, Millis),
) -> Result<Recording, Gap> {
    let reader = |ago: i64| Reader {
        connection,
        client,
        span: (from.0 - ago, to.0 - ago),
    };
    let gates = std::slice::from_ref(gate);
    let mut recording = Recording::default();
    let mut instances: BTreeMap<(Identity, i64), BTreeSet<String>> = BTreeMap::new();
    let shapes: BTreeSet<_> = gate
        .metrics
        .iter()
        .flat_map(|metric| gate.shapes(&metric.measure))
        .collect();
    for shape in shapes {
        let book = Book::open(shape.identity, connection, gates);
        let selector = render(&shape.selector, &book.comparisons(&[gate], shape.ago))?;
        let mut series = reader(shape.ago).read(&selector).await?;
        series.retain(|series| !book.owners(&series.labels).is_empty());
        let names = series
            .iter()
            .filter_map(|series| series.labels.get("instance").cloned());
        instances.entry((shape.identity, shape.ago)).or_default().extend(names);
        join(&mut recording, series)?;
    }
    let instances = instances.into_iter().filter(|(_, instances)| !instances.is_empty());
    for ((_, ago), instances) in instances {
        let only = Comparison {
            label: "instance".to_owned(),
            op: Op::Match,
            value: one_of(instances.iter().map(String::as_str)),
        };
        let selector = render(&Selector::of("process_start_time_seconds"), &[only])?;
        join(&mut recording, reader(ago).read(&selector).await?)?;
    }
    Ok(recording)
}

fn render(selector: &Selector, added: &[Comparison]) -> Result<String, Gap> {
    let rendered = selector.render(added);
    rendered.map_err(|error| gap(GapKind::QueryError, &error.to_string()))
}

fn join(recording: &mut Recording, series: Vec<Series>) -> Result<(), Gap> {
    let joined = recording.join(series);
    joined.map_err(|error| gap(GapKind::Disagree, &error.to_string()))
}

struct Reader<'a> {
    connection: &'a ConnectionSpec,
    client: &'a Client,
    span: (i64, i64),
}

impl Reader<'_> {
    /// All samples of a selector, part by part.
    async fn read(&self, selector: &str) -> Result<Vec<Series>, Gap> {
        let (from, to) = self.span;
        let base = http::address("url", self.connection.url.trim_end_matches('/')).map_err(|error| failed(&error))?;
        let mut url = base.clone();
        url.set_path(&format!("{}/api/v1/query", base.path().trim_end_matches('/')));
        let timeout = format!("{}s", self.connection.timeout_seconds);
        let mut all = Vec::new();
        let mut begun = from;
        while begun < to {
            let end = (begun + PART).min(to);
            let mut query = selector.to_owned();
            // Writing to a String cannot fail.
            let _ = write!(query, "[{}ms]", end - begun);
            let time = format!("{}.{:03}", end.div_euclid(1000), end.rem_euclid(1000));
            let form = [
                ("query", query.as_str()),
                ("time", time.as_str()),
                ("timeout", timeout.as_str()),
            ];
            let reply = self
                .client
                .post_form(url.clone(), &form)
                .await
                .map_err(|error| failed(&error))?;
            all.extend(decode(reply.status, &reply.body)?);
            begun = end;
        }
        Ok(all)
    }
}
