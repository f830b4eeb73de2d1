//! The operator's requests, from the API server's audit log, and queries, from Prometheus' log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use tollgate::api::labels;

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Leader election.
    Lease,
    /// A watch that ended; it is opened anew.
    Watch,
    /// A Kubernetes event.
    Event,
    /// A read of an object or of a list.
    Read,
    /// A write of a route.
    Route,
    /// Any other write.
    Write,
}

impl Kind {
    /// For the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Watch => "watch",
            Self::Event => "event",
            Self::Read => "read",
            Self::Route => "route",
            Self::Write => "write",
        }
    }
}

/// What was asked of the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct What {
    /// What it is counted as.
    pub kind: Kind,
    /// As the API server names it.
    pub verb: String,
    /// With the subresource, if there is one.
    pub resource: String,
    /// The answer, where it was a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<i64>,
}

/// One request that was done.
#[derive(Debug)]
pub struct Request {
    /// When it was received.
    pub at: SystemTime,
    /// When it was answered.
    pub answered: SystemTime,
    /// What it was.
    pub what: What,
    /// The namespace it was about.
    pub namespace: String,
}

/// Both logs.
pub struct AuditLog {
    path: PathBuf,
    queries: PathBuf,
}

impl AuditLog {
    /// The rig's.
    pub fn open(rig: &Path) -> Self {
        Self {
            path: rig.join("log/audit.log"),
            queries: rig.join("log/queries.log"),
        }
    }

    /// Where it ends now.
    pub fn end(&self) -> u64 {
        std::fs::metadata(&self.path).expect("the audit log").len()
    }

    /// The operator's requests since then.
    pub fn since(&self, start: u64) -> Vec<Request> {
        let mut file = File::open(&self.path).expect("the audit log");
        file.seek(SeekFrom::Start(start)).expect("the audit log");
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        let ours = lines.filter(|line| line.contains(labels::OPERATOR_USER));
        ours.filter_map(|line| request(&serde_json::from_str(&line).ok()?))
            .collect()
    }

    /// The queries that Prometheus answered, and when.
    pub fn queries(&self) -> Vec<(SystemTime, String)> {
        let text = std::fs::read_to_string(&self.queries).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter_map(|line| {
                let at = line["ts"].as_str().or(line["time"].as_str()).map(time)?;
                Some((at, line["params"]["query"].as_str()?.to_owned()))
            })
            .collect()
    }
}

fn request(line: &Value) -> Option<Request> {
    if line["user"]["username"] != labels::OPERATOR_USER {
        return None;
    }
    let verb = line["verb"].as_str()?;
    let about = &line["objectRef"];
    let text = |field: &str| about[field].as_str().unwrap_or_default().to_owned();
    let resource = if about.is_null() {
        "discovery".to_owned()
    } else {
        text("resource")
    };
    let code = line["responseStatus"]["code"].as_i64().unwrap_or(0);
    let kind = match (verb, resource.as_str()) {
        (_, "leases") => Kind::Lease,
        ("watch", _) => Kind::Watch,
        (_, "events") => Kind::Event,
        ("get" | "list", _) => Kind::Read,
        (_, "httproutes") => Kind::Route,
        _ => Kind::Write,
    };
    let part = text("subresource");
    let slash = if part.is_empty() { "" } else { "/" };
    Some(Request {
        at: time(line["requestReceivedTimestamp"].as_str()?),
        answered: time(line["stageTimestamp"].as_str()?),
        what: What {
            kind,
            verb: verb.to_owned(),
            resource: format!("{resource}{slash}{part}"),
            refused: (code >= 400).then_some(code),
        },
        namespace: text("namespace"),
    })
}

/// A moment as logs write it.
pub fn time(text: &str) -> SystemTime {
    let stamp: k8s_openapi::jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
    SystemTime::UNIX_EPOCH + Duration::from_micros(stamp.as_microsecond().unsigned_abs())
}

/// How many there are of a kind.
pub fn count(requests: &[Request], kinds: &[Kind]) -> f64 {
    let some = requests.iter().filter(|request| kinds.contains(&request.what.kind));
    some.fold(0.0, |sum, _| sum + 1.0)
}

/// How many there are of each, without the lease's.
pub fn by_what<'a>(requests: impl IntoIterator<Item = &'a Request>) -> BTreeMap<What, f64> {
    let mut all = BTreeMap::new();
    for request in requests.into_iter().filter(|request| request.what.kind != Kind::Lease) {
        *all.entry(request.what.clone()).or_default() += 1.0;
    }
    all
}
