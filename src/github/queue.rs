//! The outbox's memory: reports that wait, the latest of each deployment, in the order they came.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::report::Report;

/// Reports that wait, at most `capacity` of them, and the owners of repositories that must be left alone for a while.
///
/// GitHub's limits and permissions are those of an installation, of which each owner has one: hence the lanes.
pub(super) struct Queue {
    capacity: usize,
    waiting: VecDeque<Report>,
    closed: HashMap<String, Instant>,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Deliver this one; it is no longer in the queue.
    Report(Box<Report>),
    /// Look again then, or when something new has come.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

/// What became of a report that was put in.
#[derive(Debug, PartialEq)]
pub(super) enum Put {
    /// It waits behind the others.
    Added,
    /// It took the place of an older report on the same deployment.
    Replaced,
    /// It waits, and this one was dropped because the queue was full.
    Dropped(Box<Report>),
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            waiting: VecDeque::new(),
            closed: HashMap::new(),
        }
    }

    /// Adds a report; a waiting one on the same deployment gives it its place.
    pub(super) fn put(&mut self, report: Report) -> Put {
        if let Some(older) = self.waiting.iter_mut().find(|older| same_deployment(older, &report)) {
            *older = report;
            return Put::Replaced;
        }
        self.waiting.push_back(report);
        if self.waiting.len() <= self.capacity {
            return Put::Added;
        }
        // Final states outlive the others: they are what people find on GitHub for years.
        let victim = self.waiting.iter().position(|one| !one.state.is_final()).unwrap_or(0);
        match self.waiting.remove(victim) {
            Some(dropped) => Put::Dropped(Box::new(dropped)),
            None => Put::Added,
        }
    }

    /// Puts a report back that could not be delivered, at the end; a newer one on the same deployment wins.
    pub(super) fn put_back(&mut self, report: Report) -> Put {
        if self.waiting.iter().any(|newer| same_deployment(newer, &report)) {
            return Put::Replaced;
        }
        self.put(report)
    }

    /// The first report whose owner is not closed.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.closed.retain(|_, until| *until > now);
        let open = self
            .waiting
            .iter()
            .position(|one| !self.closed.contains_key(one.owner()));
        if let Some(report) = open.and_then(|index| self.waiting.remove(index)) {
            return Next::Report(Box::new(report));
        }
        let soonest = self.waiting.iter().filter_map(|one| self.closed.get(one.owner())).min();
        soonest.map_or(Next::Nothing, |at| Next::At(*at))
    }

    /// Leaves an owner's repositories alone until then.
    pub(super) fn close(&mut self, owner: &str, until: Instant) {
        self.closed.insert(owner.to_owned(), until);
    }

    /// How many reports wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Whether two reports speak of one deployment.
pub(super) fn same_deployment(one: &Report, other: &Report) -> bool {
    key(one) == key(other)
}

/// What identifies a deployment, cheap to compare.
pub(super) fn key(report: &Report) -> [&str; 5] {
    [
        &report.gate_uid,
        &report.revision,
        &report.repository,
        &report.environment,
        &report.sha,
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::github::ReportState;

    fn report(owner: &str, revision: &str, state: ReportState) -> Report {
        Report {
            gate_uid: "uid".into(),
            gate: "ns/name".into(),
            repository: format!("{owner}/shop"),
            environment: "production".into(),
            sha: "0".repeat(40),
            revision: revision.into(),
            state,
            description: String::new(),
            log_url: None,
        }
    }

    fn step(owner: &str, revision: &str) -> Report {
        report(owner, revision, ReportState::Stepping)
    }

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| match queue.next(now) {
            Next::Report(one) => Some(format!("{}/{}:{}", one.owner(), one.revision, one.state.word())),
            _ => None,
        })
        .collect()
    }

    #[tokio::test]
    async fn the_latest_report_of_a_deployment_takes_the_place_of_the_older() {
        let mut queue = Queue::new(10);
        assert_eq!(queue.put(step("a", "1")), Put::Added);
        assert_eq!(queue.put(step("a", "2")), Put::Added);
        assert_eq!(queue.put(report("a", "1", ReportState::Completed)), Put::Replaced);
        assert_eq!(queue.len(), 2);
        assert_eq!(names(&mut queue, Instant::now()), ["a/1:success", "a/2:in_progress"]);
        assert_eq!(queue.next(Instant::now()), Next::Nothing);
    }

    #[tokio::test]
    async fn a_report_that_comes_back_gives_way_to_a_newer_one() {
        let mut queue = Queue::new(10);
        queue.put(report("a", "1", ReportState::Aborted));
        assert_eq!(queue.put_back(step("a", "1")), Put::Replaced);
        assert_eq!(queue.put_back(step("a", "2")), Put::Added);
        assert_eq!(names(&mut queue, Instant::now()), ["a/1:failure", "a/2:in_progress"]);
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_that_is_not_final() {
        let mut queue = Queue::new(2);
        queue.put(report("a", "1", ReportState::Completed));
        queue.put(step("a", "2"));
        assert_eq!(queue.put(step("a", "3")), Put::Dropped(Box::new(step("a", "2"))));
        assert_eq!(
            queue.put(report("a", "4", ReportState::Aborted)),
            Put::Dropped(Box::new(step("a", "3")))
        );
        let oldest = report("a", "1", ReportState::Completed);
        assert_eq!(
            queue.put(report("a", "5", ReportState::Aborted)),
            Put::Dropped(Box::new(oldest))
        );
        assert_eq!(names(&mut queue, Instant::now()), ["a/4:failure", "a/5:failure"]);
    }

    #[tokio::test]
    async fn a_closed_owner_waits_and_the_others_do_not() {
        let mut queue = Queue::new(10);
        let now = Instant::now();
        let later = now + Duration::from_mins(1);
        for (owner, revision) in [("a", "1"), ("b", "1"), ("a", "2")] {
            queue.put(step(owner, revision));
        }
        queue.close("a", later);
        assert_eq!(names(&mut queue, now), ["b/1:in_progress"]);
        assert_eq!(queue.next(now), Next::At(later));
        assert_eq!(names(&mut queue, later), ["a/1:in_progress", "a/2:in_progress"]);
    }
}
