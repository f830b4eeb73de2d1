//! `tollgate watch`: the tree of a gate, live, with the history of its decisions below.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt};
use kube::api::DynamicObject;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};

use super::cluster::{Cluster, Place, Question, Trouble};
use super::explain::decision;
use super::paint::{Tone, paint, print};
use super::snapshot::{Kind, Scope, Snapshot, View};
use super::story::{Story, is_held, story};
use super::tree::{situation, tree};
use super::units::now;
use crate::api::DecisionEntry;
use crate::controller::revision;
use crate::decision::Millis;

/// Times on the screen move on this often; changes show at once.
const REDRAW: Duration = Duration::from_secs(1);
/// Changes that come together are shown together.
const SETTLE: Duration = Duration::from_millis(100);

/// Shows a gate live: redrawn in place on a terminal, one line per change elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tollgate watch checkout -n shop --until-done")]
pub struct Args {
    /// One gate; by default all of the namespace
    gate: Option<String>,
    /// End when nothing is in flight any more
    #[arg(long)]
    until_done: bool,
    #[command(flatten)]
    place: Place,
}

type Changes = SelectAll<BoxStream<'static, Change>>;

/// Something that a watch said.
enum Change {
    /// An object changed.
    Seen,
    /// A kind cannot be watched at the moment; why.
    Failed(Kind, kube::runtime::watcher::Error),
}

impl Args {
    /// Watches until it is stopped, or until nothing is in flight.
    ///
    /// # Errors
    /// When the gates cannot be read.
    pub async fn run(self) -> Result<(), Trouble> {
        let cluster = Cluster::connect(&self.place).await?;
        let scope = Scope {
            namespace: Some(cluster.namespace.clone()),
        };
        // says what is wrong before anything is drawn
        let first = Snapshot::read(&cluster, &scope).await?;
        self.chosen(&first, &cluster)?;
        let (stores, mut changes) = follow(&cluster, &scope);
        let mut troubles = BTreeMap::new();
        let mut screen = Screen::new();
        let mut snapshot = first;
        let mut ticks = tokio::time::interval(REDRAW);
        loop {
            let Ok(views) = self.chosen(&snapshot, &cluster) else {
                return print("the gate is gone\n");
            };
            let now = now();
            let stories: Vec<Story> = views.iter().map(|view| story(view, now)).collect();
            screen.show(&stories, &views, &snapshot.notes, now)?;
            if self.until_done && stories.iter().zip(&views).all(|(story, view)| is_at_rest(story, view)) {
                return screen.leave();
            }
            tokio::select! {
                Some(change) = changes.next() => {
                    note(&mut troubles, change);
                    let settled = tokio::time::sleep(SETTLE);
                    tokio::pin!(settled);
                    loop {
                        tokio::select! {
                            Some(change) = changes.next() => note(&mut troubles, change),
                            () = &mut settled => break,
                        }
                    }
                }
                _ = ticks.tick() => {}
            }
            if let Some(next) = taken(&cluster, &stores, &troubles) {
                snapshot = next;
            }
        }
    }

    fn chosen(&self, snapshot: &Snapshot, cluster: &Cluster) -> Result<Vec<View>, Trouble> {
        match &self.gate {
            None => Ok(snapshot.views()),
            Some(name) => match snapshot.find(name) {
                Some(view) => Ok(vec![view]),
                None => Err(Trouble::NoSuchGate {
                    name: name.clone(),
                    namespace: cluster.namespace.clone(),
                    known: snapshot.gates(),
                }),
            },
        }
    }
}

/// Nothing in flight: completed, refused, or never begun. A held template that is not the refused
/// one is about to begin.
#[must_use]
pub fn is_at_rest(story: &Story, view: &View) -> bool {
    let refused = match &story.release {
        Some(release) if release.stage != "Rejected" => return false,
        release => release.as_ref().map(|release| release.revision.as_str()),
    };
    match view.stable.as_ref().filter(|workload| is_held(workload)) {
        Some(workload) => workload
            .pointer("/spec/template")
            .is_none_or(|template| Some(revision::revision(template).0.as_str()) == refused),
        None => true,
    }
}

fn note(troubles: &mut BTreeMap<Kind, watcher::Error>, change: Change) {
    match change {
        Change::Seen => {}
        Change::Failed(kind, error) => {
            troubles.insert(kind, error);
        }
    }
}

fn follow(cluster: &Cluster, scope: &Scope) -> (BTreeMap<Kind, Store<DynamicObject>>, Changes) {
    let mut stores = BTreeMap::new();
    let mut changes = SelectAll::new();
    for kind in Kind::ALL {
        let config = kind.selector().map_or_else(watcher::Config::default, |selector| {
            watcher::Config::default().labels(&selector)
        });
        let writer = reflector::store::Writer::new(kind.resource());
        stores.insert(kind, writer.as_reader());
        let stream = watcher(scope.api(cluster, kind), config)
            .default_backoff()
            .reflect(writer)
            .map_ok(|_| Change::Seen)
            .map(move |seen| seen.unwrap_or_else(|error| Change::Failed(kind, error)));
        changes.push(stream.boxed());
    }
    (stores, changes)
}

/// The picture of this moment; nothing until the gates have been listed.
fn taken(
    cluster: &Cluster,
    stores: &BTreeMap<Kind, Store<DynamicObject>>,
    troubles: &BTreeMap<Kind, watcher::Error>,
) -> Option<Snapshot> {
    use futures::FutureExt as _;
    let mut snapshot = Snapshot::default();
    for (kind, store) in stores {
        let listed = store
            .wait_until_ready()
            .now_or_never()
            .is_some_and(|ready| ready.is_ok());
        match (listed, troubles.get(kind)) {
            (true, _) => {
                let objects: Vec<DynamicObject> = store.state().iter().map(|object| (**object).clone()).collect();
                snapshot.insert(*kind, &objects);
            }
            (false, None) => return None,
            (false, Some(_)) if *kind == Kind::Gate => return None,
            (false, Some(error)) => snapshot.missing(*kind, &meaning(cluster, *kind, error)),
        }
    }
    Some(snapshot)
}

fn meaning(cluster: &Cluster, kind: Kind, error: &watcher::Error) -> Trouble {
    let resource = kind.resource();
    let question = Question {
        verb: "watch",
        resource: &resource.plural,
        namespace: &cluster.namespace,
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => cluster.trouble(question, error),
        error => Trouble::Other(error.to_string()),
    }
}

/// What is on the screen.
struct Screen {
    terminal: bool,
    /// Lines drawn last.
    lines: usize,
    /// What was said last of each gate, where lines are appended.
    said: BTreeMap<String, String>,
}

impl Screen {
    fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            lines: 0,
            said: BTreeMap::new(),
        }
    }

    fn show(&mut self, stories: &[Story], views: &[View], notes: &[String], now: Millis) -> Result<(), Trouble> {
        if !self.terminal {
            for (story, view) in stories.iter().zip(views) {
                self.append(story, view, now)?;
            }
            return Ok(());
        }
        let rows = terminal_size::terminal_size().map_or(24, |(_, rows)| usize::from(rows.0));
        let frame = frame(stories, views, notes, now);
        let shown: Vec<&str> = frame.lines().take(rows.saturating_sub(1)).collect();
        print(&redraw(&shown, self.lines))?;
        self.lines = shown.len();
        Ok(())
    }

    /// One line for whatever is new.
    fn append(&mut self, story: &Story, view: &View, now: Millis) -> Result<(), Trouble> {
        let line = plain(story, now);
        let key = format!("{}/{}", story.head.namespace, story.head.gate);
        // how long it has been so is nothing new
        let news = plain_without_time(story);
        if self.said.get(&key) == Some(&news) {
            return Ok(());
        }
        self.said.insert(key, news);
        let last = history(view).last().map(|entry| decision(entry, now));
        let mut text = line;
        if let Some(last) = last {
            let _ = write!(text, "  | {last}");
        }
        print(&(text + "\n"))
    }

    fn leave(&mut self) -> Result<(), Trouble> {
        self.lines = 0;
        print("")
    }
}

fn plain(story: &Story, now: Millis) -> String {
    format!(
        "{}  {}/{}  {}",
        super::units::clock(now, now),
        story.head.namespace,
        story.head.gate,
        situation(story, now)
    )
}

fn plain_without_time(story: &Story) -> String {
    let mut still = story.clone();
    if let Some(release) = &mut still.release {
        release.since.clear();
    }
    situation(&still, Millis(0))
}

fn history(view: &View) -> &[DecisionEntry] {
    let status = view.analysis.as_ref().and_then(|analysis| analysis.status.as_ref());
    status.map_or(&[], |status| &status.decisions)
}

/// Everything that is drawn: trees, then the decisions, newest first.
#[must_use]
pub fn frame(stories: &[Story], views: &[View], notes: &[String], now: Millis) -> String {
    let trees: Vec<String> = stories.iter().map(|story| tree(story, now)).collect();
    let mut text = trees.join("\n");
    for (story, view) in stories.iter().zip(views) {
        let decisions = history(view);
        if decisions.is_empty() {
            continue;
        }
        let of = if stories.len() > 1 {
            format!(" of {}", story.head.gate)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "\n{}",
            paint(Tone::Strong, &format!("Decisions{of}, newest first"))
        );
        for entry in decisions.iter().rev() {
            let _ = writeln!(text, "  {}", decision(entry, now));
        }
    }
    for note in notes {
        let _ = writeln!(text, "{}", paint(Tone::Faint, &format!("note: {note}")));
    }
    text
}

/// Draws over what was drawn last. Lines that are too long are cut by the terminal: a wrapped line
/// would make the next redraw miss its place.
#[must_use]
fn redraw(lines: &[&str], before: usize) -> String {
    let mut text = String::from("\x1b[?7l");
    if before > 0 {
        let _ = write!(text, "\x1b[{before}A\r");
    }
    for line in lines {
        let _ = writeln!(text, "{line}\x1b[K");
    }
    text.push_str("\x1b[J\x1b[?7h");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_drawn_over_the_one_before() {
        assert_eq!(redraw(&["a", "b"], 0), "\x1b[?7la\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
        assert_eq!(redraw(&["c"], 2), "\x1b[?7l\x1b[2A\rc\x1b[K\n\x1b[J\x1b[?7h");
    }
}
