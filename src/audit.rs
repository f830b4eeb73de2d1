//! Which decisions were taken: an append-only, hash-chained export, one JSON line per decision.
//!
//! The durable record of a decision rides in the route's annotation, in the same write as the
//! weights. This log is an export of it, so it never stands in the way of a release: [`Audit`]
//! puts a line into a bounded queue and returns; a line that finds the queue full, or a disk that
//! refuses it, is dropped and counted.
//!
//! Each line carries the SHA-256 of the line before it, so a removed, changed or reordered line
//! shows ([`check_chain`]); per gate the record's number shows a dropped one. Lines are written
//! in batches, each synced to disk before the next is begun, so a crash loses at most what was
//! queued since; a line that a crash cut short is removed at the next start.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decision::{Record, Revision};

/// The chain's value before its first line.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line, its end included. The caps of the fields keep every line below it.
pub const LINE_MAX: usize = 16 * 1024;

/// Lines waiting to be written: at 2 KiB each, at most 2 MiB.
const QUEUE: usize = 1024;

/// Lines written between two syncs to disk.
const BATCH: usize = 256;

/// How much of an existing file is looked at: a whole batch may be torn, and one line lies before it.
const TAIL: u64 = ((BATCH + 2) * LINE_MAX) as u64;

/// One line of the log. The shape is closed: a new field is a new schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Always 1.
    pub schema: u8,
    /// The gate's name.
    pub gate: String,
    /// The gate's namespace.
    pub namespace: String,
    /// The cluster's name, where the operator was told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The decision.
    pub record: Record,
    /// SHA-256 of the line before, without its line end; 64 zeros before the first.
    pub prev: String,
}

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Appended to a file that nobody else writes; each batch is synced to disk.
    File(PathBuf),
    /// Standard output. The chain begins anew with each process.
    Stdout,
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened, read or locked.
    #[error("audit log {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path names a device, a pipe or a folder.
    #[error("audit log {0}: not a regular file; for standard output choose that instead of a file")]
    NotAFile(PathBuf),
    /// The writer could not be started.
    #[error("audit log: its thread cannot be started: {0}")]
    Thread(io::Error),
    /// Another process holds the file.
    #[error("audit log {0}: another process writes it; every replica needs a file of its own")]
    InUse(PathBuf),
    /// The file's end does not look like this log.
    #[error("audit log {0}: its end does not look like one; name another file or move this one away")]
    Foreign(PathBuf),
}

/// The way into the log. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Audit {
    queue: SyncSender<Message>,
    cluster: Option<String>,
    dropped: Arc<dyn Fn() + Send + Sync>,
}

enum Message {
    Line(Box<Line>),
    Flush(SyncSender<()>),
}

impl Audit {
    /// Opens the log and begins to write it on a thread of its own. `dropped` is called for every
    /// line that could not be exported.
    ///
    /// # Errors
    /// When the file cannot be opened, is in use, or is not an audit log.
    pub fn open(
        sink: &Sink,
        cluster: Option<String>,
        dropped: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, AuditError> {
        let chain = match sink {
            Sink::File(path) => Chain::continued(path)?,
            Sink::Stdout => Chain::new(Output::Stdout),
        };
        Self::over(chain, cluster, dropped).map_err(AuditError::Thread)
    }

    fn over(
        chain: Chain,
        cluster: Option<String>,
        dropped: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, io::Error> {
        let (queue, lines) = sync_channel(QUEUE);
        let dropped: Arc<dyn Fn() + Send + Sync> = Arc::new(dropped);
        let lost = Arc::clone(&dropped);
        let writer = std::thread::Builder::new().name("audit".into());
        writer.spawn(move || write_all(chain, &lines, &*lost))?;
        Ok(Self {
            queue,
            cluster: cluster.map(|name| plain(&name, 253)),
            dropped,
        })
    }

    /// Exports one decision. Returns at once; texts are capped and stripped of control characters.
    pub fn record(&self, namespace: &str, gate: &str, record: &Record) {
        let line = Line {
            schema: 1,
            gate: plain(gate, 253),
            namespace: plain(namespace, 253),
            cluster: self.cluster.clone(),
            record: capped(record),
            prev: String::new(),
        };
        match self.queue.try_send(Message::Line(Box::new(line))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => (self.dropped)(),
        }
    }

    /// Waits until everything recorded before is written, at most `limit`. Blocks the thread: for
    /// the end of the process. Returns whether it was.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        let until = std::time::Instant::now() + limit;
        let mut message = Message::Flush(done);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if std::time::Instant::now() < until => {
                    message = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        wait.recv_timeout(left).is_ok()
    }
}

/// One-line text of at most `max` bytes: what would move a terminal or break a line (control
/// characters, line and paragraph separators, changes of direction) becomes U+FFFD, and a cut
/// ends in `…`.
#[must_use]
pub fn plain(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for character in text.chars() {
        let kept = match character {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            control if control.is_control() => '\u{fffd}',
            other => other,
        };
        if out.len() + kept.len_utf8() > max {
            while out.len() + '…'.len_utf8() > max && out.pop().is_some() {}
            if out.len() + '…'.len_utf8() <= max {
                out.push('…');
            }
            break;
        }
        out.push(kept);
    }
    out
}

/// The record with every text capped: together below [`LINE_MAX`] even when JSON escapes them.
fn capped(record: &Record) -> Record {
    Record {
        id: plain(&record.id, 64),
        revision: Revision(plain(&record.revision.0, 64)),
        rule: plain(&record.rule, 1024),
        evidence_hash: plain(&record.evidence_hash, 128),
        policy_hash: plain(&record.policy_hash, 128),
        by: record.by.as_deref().map(|by| plain(by, 512)),
        ..record.clone()
    }
}

/// Writes what arrives until every [`Audit`] is gone, batch by batch.
fn write_all(mut chain: Chain, lines: &Receiver<Message>, lost: &dyn Fn()) {
    let mut failing = false;
    while let Ok(first) = lines.recv() {
        let mut batch = Vec::new();
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(lines.try_iter().take(BATCH)) {
            match message {
                Message::Line(line) => batch.push(*line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let count = batch.len();
        match chain.append(batch) {
            Ok(()) => failing = false,
            Err(error) => {
                (0..count).for_each(|_| lost());
                if !failing {
                    tracing::error!(%error, lines = count, "the audit log cannot be written; its lines are dropped");
                }
                failing = true;
            }
        }
        for done in flushed {
            // Nobody waits any more: nothing to tell.
            let _nobody = done.send(());
        }
    }
}

enum Output {
    File { file: File, length: u64 },
    Stdout,
}

/// The end of the log: the hash of its last line, and where the next one goes.
struct Chain {
    output: Output,
    last: String,
}

impl Chain {
    fn new(output: Output) -> Self {
        Self {
            output,
            last: GENESIS.into(),
        }
    }

    /// Opens a file, removes a line that a crash cut short, and goes on from the last whole one.
    fn continued(path: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError::File {
            path: path.into(),
            source,
        };
        let opened = OpenOptions::new().create(true).read(true).append(true).open(path);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditError::InUse(path.into())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(AuditError::NotAFile(path.into()));
        }
        let length = metadata.len();
        let window = length.min(TAIL);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(length - window)).map_err(failed)?;
        (&mut file).take(window).read_to_end(&mut tail).map_err(failed)?;
        let Some((last, torn)) = last_line(&tail, window == length) else {
            return Err(AuditError::Foreign(path.into()));
        };
        let last = last.map_or_else(|| GENESIS.into(), hash);
        let length = length - torn as u64;
        if torn > 0 {
            tracing::warn!(path = %path.display(), bytes = torn, "removing an unfinished line of the audit log");
            file.set_len(length).and_then(|()| file.sync_data()).map_err(failed)?;
        }
        Ok(Self {
            output: Output::File { file, length },
            last,
        })
    }

    /// Appends a batch as one write and one sync; all of it or none.
    fn append(&mut self, batch: Vec<Line>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut last = self.last.clone();
        for mut line in batch {
            line.prev = last;
            let begin = bytes.len();
            serde_json::to_writer(&mut bytes, &line)?;
            last = hash(&bytes[begin..]);
            bytes.push(b'\n');
        }
        match &mut self.output {
            Output::File { file, length } => {
                // Also cuts off what an earlier failed write may have left behind.
                file.set_len(*length)?;
                file.write_all(&bytes).and_then(|()| file.sync_data())?;
                *length += bytes.len() as u64;
            }
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes).and_then(|()| stdout.flush())?;
            }
        }
        self.last = last;
        Ok(())
    }
}

/// The last whole line of a file's tail, if there is one, and the number of bytes after it: the
/// start of a line, or zeros where a batch was never written. `None` when it is anything else.
fn last_line(tail: &[u8], whole: bool) -> Option<(Option<&[u8]>, usize)> {
    let (lines, torn) = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => (Some(&tail[..end]), &tail[end + 1..]),
        None => (None, tail),
    };
    if torn.len() > LINE_MAX && torn.iter().any(|byte| *byte != 0) {
        return None;
    }
    let Some(lines) = lines else {
        return whole.then_some((None, torn.len()));
    };
    match lines.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => Some((Some(&lines[end + 1..]), torn.len())),
        None => whole.then_some((Some(lines), torn.len())),
    }
}

fn hash(line: impl AsRef<[u8]>) -> String {
    format!("{:x}", Sha256::digest(line.as_ref()))
}

/// The first thing wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A line is not of this log's shape.
    #[error("line {number} is not a line of an audit log: {source}")]
    Shape {
        /// Which line, from 1.
        number: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line was removed, changed or moved.
    #[error("line {number} does not follow the line before it: that line was changed, or lines were removed or moved")]
    Broken {
        /// Which line, from 1.
        number: u64,
    },
}

/// Checks that no line of a log was removed, changed or moved, and counts them. Lines cut off at
/// the end cannot be seen from the log alone.
///
/// # Errors
/// The first line that does not fit.
pub fn check_chain(mut log: impl BufRead) -> Result<u64, ChainError> {
    let mut last = GENESIS.to_owned();
    let mut number = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if (&mut log).take(LINE_MAX as u64).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(number);
        }
        number += 1;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line: Line = serde_json::from_slice(text).map_err(|source| ChainError::Shape { number, source })?;
        if line.prev != last {
            return Err(ChainError::Broken { number });
        }
        last = hash(text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::decision::{Millis, Outcome, Percent, Reason};

    /// A file of its own for one test, removed at its end.
    struct Log(PathBuf);

    impl Log {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tollgate-audit-{}-{name}", std::process::id()));
            drop(std::fs::remove_file(&path));
            Self(path)
        }

        /// One life of the process: records, waits, ends.
        fn write(&self, ids: &[&str]) {
            let audit = Audit::open(&Sink::File(self.0.clone()), None, || panic!("nothing is dropped")).expect("opens");
            for id in ids {
                audit.record("shop", "checkout", &decision(id, "http-errors: safe"));
            }
            assert!(audit.flush(Duration::from_secs(30)), "written");
            self.closed(audit);
        }

        /// Waits until the writer has let go of the file.
        fn closed(&self, audit: Audit) {
            drop(audit);
            let file = File::open(&self.0).expect("the log");
            file.lock().expect("the writer ends");
        }

        fn text(&self) -> String {
            std::fs::read_to_string(&self.0).expect("the log is text")
        }

        fn ids(&self) -> Vec<String> {
            let whole = self.text();
            assert_eq!(
                check_chain(whole.as_bytes()).expect("unbroken"),
                whole.lines().count() as u64
            );
            let line = |line| serde_json::from_str::<Line>(line).expect("a line").record.id;
            whole.lines().map(line).collect()
        }

        fn add(&self, bytes: &[u8]) {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.0)
                .expect("opens");
            file.write_all(bytes).expect("writes");
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn decision(id: &str, rule: &str) -> Record {
        Record {
            id: id.into(),
            at: Millis(1_790_000_000_000),
            outcome: Outcome::Promote,
            reason: Reason::Safe,
            revision: Revision("a1b2c3d4e5".into()),
            step: 1,
            from: Percent::ZERO,
            to: Percent::try_from(5).expect("a weight"),
            rule: rule.into(),
            evidence_hash: "e".repeat(64),
            policy_hash: "p".repeat(64),
            by: None,
        }
    }

    #[test]
    fn a_restart_continues_the_chain() {
        let log = Log::new("restart");
        log.write(&["1-0", "1-1"]);
        log.write(&[]);
        log.write(&["1-2"]);
        assert_eq!(log.ids(), ["1-0", "1-1", "1-2"]);
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_removed_and_whole_ones_stay() {
        let unwritten = vec![0; 40 * LINE_MAX];
        for (case, before, torn) in [
            (
                "in the middle of a line",
                vec!["1-0", "1-1"],
                &b"{\"schema\":1,\"gate\":\"che"[..],
            ),
            ("before the line's end", vec!["1-0"], b"{}"),
            ("zeros where data was never written", vec!["1-0"], &[0; 300]),
            ("a batch that was never written", vec!["1-0"], &unwritten),
            ("in the very first line", vec![], b"{\"sch"),
            ("in the very first batch", vec![], &unwritten),
            ("nothing is torn", vec!["1-0"], b""),
        ] {
            let log = Log::new("torn");
            log.write(&before);
            log.add(torn);
            log.write(&["1-9"]);
            assert_eq!(log.ids(), [before, vec!["1-9"]].concat(), "{case}");
        }
    }

    #[test]
    fn a_file_that_is_no_audit_log_is_left_alone() {
        for before in ["", "some text\nand more\n"] {
            let log = Log::new("foreign");
            log.add(before.as_bytes());
            log.add(&vec![b'x'; 5 * LINE_MAX]);
            let refused = Audit::open(&Sink::File(log.0.clone()), None, || {});
            assert!(matches!(refused, Err(AuditError::Foreign(_))));
            assert_eq!(log.text().len(), before.len() + 5 * LINE_MAX);
        }
    }

    #[test]
    fn a_device_is_refused_although_it_can_be_opened() {
        for device in ["/dev/full", "/dev/null", "/dev/zero"] {
            let refused = Audit::open(&Sink::File(device.into()), None, || {});
            assert!(matches!(refused, Err(AuditError::NotAFile(_))), "{device}");
        }
    }

    #[test]
    fn a_file_has_one_writer() {
        let log = Log::new("locked");
        let first = Audit::open(&Sink::File(log.0.clone()), None, || {}).expect("opens");
        let second = Audit::open(&Sink::File(log.0.clone()), None, || {});
        assert!(matches!(second, Err(AuditError::InUse(_))));
        log.closed(first);
        Audit::open(&Sink::File(log.0.clone()), None, || {}).expect("free again");
    }

    #[test]
    fn hostile_text_stays_one_bounded_line() {
        let log = Log::new("hostile");
        let texts = [
            "line one\nline two\r\n{\"schema\":1}".to_owned(),
            "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}gnp.exe\u{2028}x\u{0}".to_owned(),
            "x".repeat(1 << 20),
            "\"\\".repeat(1 << 20),
            "\u{1}".repeat(1 << 20),
            "😀".repeat(1 << 18),
        ];
        let sink = Sink::File(log.0.clone());
        let audit = Audit::open(&sink, Some("\n".repeat(9999)), || panic!("nothing is dropped")).expect("opens");
        for text in &texts {
            let mut record = decision(text, text);
            record.revision = Revision(text.clone());
            record.evidence_hash.clone_from(text);
            record.policy_hash.clone_from(text);
            record.by = Some(text.clone());
            audit.record(text, text, &record);
        }
        assert!(audit.flush(Duration::from_secs(30)));
        assert_eq!(log.ids().len(), texts.len());
        for line in log.text().lines() {
            assert!(line.len() < LINE_MAX, "{}", line.len());
            assert!(!line.chars().any(char::is_control));
        }
    }

    #[test]
    fn a_line_removed_changed_or_moved_shows() {
        let log = Log::new("tampered");
        log.write(&["1-0", "1-1", "1-2", "1-3"]);
        let lines: Vec<_> = log.text().lines().map(|line| format!("{line}\n")).collect();
        let with = |order: &[usize]| order.iter().map(|at| lines[*at].as_str()).collect::<String>();
        let changed = with(&[0, 1, 2, 3]).replacen("\"to\":5", "\"to\":6", 1);
        for (case, text, broken) in [
            ("removed", with(&[0, 2, 3]), Some(2)),
            ("the first removed", with(&[1, 2, 3]), Some(1)),
            ("moved", with(&[0, 2, 1, 3]), Some(2)),
            ("repeated", with(&[0, 1, 1, 2, 3]), Some(3)),
            ("changed", changed, Some(2)),
            ("untouched", with(&[0, 1, 2, 3]), None),
        ] {
            let found = match check_chain(text.as_bytes()) {
                Ok(_) => None,
                Err(ChainError::Broken { number }) => Some(number),
                Err(other) => panic!("{case}: {other}"),
            };
            assert_eq!(found, broken, "{case}");
        }
    }

    #[test]
    fn a_disk_that_refuses_never_blocks_and_every_lost_line_is_counted() {
        let lost = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lost);
        let dropped = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        // A handle that may not write fails like a full disk.
        let log = Log::new("refused");
        log.add(b"");
        let file = File::open(&log.0).expect("opens");
        let chain = Chain::new(Output::File { file, length: 0 });
        let audit = Audit::over(chain, None, dropped).expect("starts");
        for number in 0..10 * QUEUE {
            audit.record("shop", "checkout", &decision(&format!("1-{number}"), "rule"));
        }
        assert!(audit.flush(Duration::from_secs(30)));
        assert_eq!(lost.load(Ordering::SeqCst), 10 * QUEUE);
    }

    #[test]
    fn a_failed_write_leaves_no_half_line_behind() {
        let log = Log::new("failed");
        log.write(&["1-0"]);
        let mut chain = Chain::continued(&log.0).expect("opens");
        log.add(b"{\"half\":");
        let line: Line = serde_json::from_str(log.text().lines().next().expect("a line")).expect("a line");
        chain.append(vec![line.clone(), line]).expect("appends");
        assert_eq!(log.ids(), ["1-0", "1-0", "1-0"]);
    }

    #[test]
    fn plain_text_is_capped_at_a_character_and_says_so() {
        for (text, max, expected) in [
            ("plain", 9, "plain"),
            ("exactly 9", 9, "exactly 9"),
            ("ten or more", 9, "ten or…"),
            ("😀😀😀", 9, "😀…"),
            ("a\tb\nc", 99, "a\u{fffd}b\u{fffd}c"),
            ("abc", 2, ""),
            ("Zürich → 5 %", 99, "Zürich → 5 %"),
        ] {
            assert_eq!(plain(text, max), expected);
            assert!(plain(text, max).len() <= max);
        }
    }
}
