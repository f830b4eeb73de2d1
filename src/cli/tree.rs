//! The story of a gate as a tree on the terminal.

use std::fmt::Write as _;

use super::paint::{Tone, paint, tone};
use super::story::{Arm, Backend, Hold, Pending, Release, Route, Rule, Story};
use super::units::{at, span};
use crate::api::labels::CANARY_SUFFIX;
use crate::decision::{Millis, Outcome, Reason};

/// The tree of one gate; every line ends with a line feed.
#[must_use]
pub fn tree(story: &Story, now: Millis) -> String {
    let mut text = head(story, now);
    let branches = branches(story, now);
    for (place, branch) in branches.iter().enumerate() {
        let last = place + 1 == branches.len();
        text.push_str(&hung(branch, last));
    }
    text
}

/// A line of the tree with the lines below it.
struct Branch {
    line: String,
    below: Vec<String>,
}

impl Branch {
    fn leaf(line: String) -> Self {
        Self {
            line,
            below: Vec::new(),
        }
    }
}

fn hung(branch: &Branch, last: bool) -> String {
    let (knot, rail) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
    let mut text = format!("{knot}{}\n", branch.line);
    for (place, line) in branch.below.iter().enumerate() {
        let knot = if place + 1 == branch.below.len() {
            "└─ "
        } else {
            "├─ "
        };
        let _ = writeln!(text, "{rail}{knot}{line}");
    }
    text
}

fn head(story: &Story, now: Millis) -> String {
    let name = paint(Tone::Strong, &format!("{}/{}", story.head.namespace, story.head.gate));
    let mut text = format!("{name}  {}", situation(story, now));
    if story.suspended {
        text.push_str(&paint(Tone::Wait, "  suspended"));
    }
    text.push('\n');
    if let Some(message) = story.head.message.as_ref().filter(|message| !message.is_empty()) {
        let _ = writeln!(text, "│  {}", paint(Tone::Faint, message));
    }
    text
}

/// In a few words: `step 2 of 5 at 5 %, Hold: Undecided`.
#[must_use]
pub fn situation(story: &Story, now: Millis) -> String {
    let reason = story.head.reason.as_deref().unwrap_or("not looked at yet");
    let Some(release) = &story.release else {
        let tone = match reason {
            word if word == Reason::AtRest.word() || word == Reason::Adopted.word() => Tone::Good,
            word if word == Reason::Invalid.word() => Tone::Bad,
            _ => Tone::Wait,
        };
        return paint(tone, reason);
    };
    let since = at(&release.since).map_or_else(String::new, |since| format!(" for {}", span(now - since)));
    let place = match (release.stage.as_str(), release.step) {
        ("Stepping", Some(step)) => {
            let weight = story
                .weight
                .map_or_else(String::new, |weight| format!(" at {weight} %"));
            format!("step {step} of {}{weight}", release.steps)
        }
        ("HandingOver", _) => "handing over".to_owned(),
        (stage, _) => stage.to_lowercase(),
    };
    let outcome = match release.stage.as_str() {
        "Rejected" | "Aborting" => Outcome::Abort,
        _ => story.head.decision.unwrap_or(Outcome::Hold),
    };
    let why = release.why.as_deref().unwrap_or(reason);
    let decided = match release.stage.as_str() {
        "Rejected" => why.to_owned(),
        _ => format!("{}: {why}", outcome.word()),
    };
    format!("{place}{since}, {}", paint(tone(outcome), &decided))
}

fn branches(story: &Story, now: Millis) -> Vec<Branch> {
    let mut branches = Vec::new();
    if !story.stable.workload.is_empty() {
        branches.push(arm("stable", &story.stable));
    }
    branches.extend(story.canary.as_ref().map(|canary| arm("canary", canary)));
    if let Some(release) = refused(story) {
        branches.push(release);
    }
    branches.extend(story.routes.iter().map(route));
    branches.extend(story.hold.as_ref().map(|hold| Branch::leaf(held(hold, now))));
    branches.extend(story.pending.iter().map(|pending| Branch::leaf(asked(pending, now))));
    if let Some(next) = &story.head.next {
        branches.push(Branch::leaf(format!("waits for {}", next.sentence(now))));
    }
    branches
}

/// A refused revision that has no canary any more.
fn refused(story: &Story) -> Option<Branch> {
    let release: &Release = story.release.as_ref()?;
    (release.stage == "Rejected" && story.canary.is_none()).then(|| {
        Branch::leaf(format!(
            "refused {}  {}",
            paint(Tone::Strong, &release.revision),
            paint(Tone::Bad, release.why.as_deref().unwrap_or("Rejected"))
        ))
    })
}

fn arm(word: &str, arm: &Arm) -> Branch {
    let revision = arm.revision.as_deref().unwrap_or("no revision yet");
    let mut line = format!("{word}  {}", paint(Tone::Strong, revision));
    match arm.pods {
        Some(pods) => {
            let tone = if pods.ready >= pods.desired {
                Tone::Good
            } else {
                Tone::Wait
            };
            let _ = write!(
                line,
                "  {}",
                paint(tone, &format!("{}/{} pods ready", pods.ready, pods.desired))
            );
        }
        None => line.push_str(&paint(Tone::Faint, "  no pods to see")),
    }
    if !arm.images.is_empty() {
        let _ = write!(line, "  {}", arm.images.join(", "));
    }
    if !arm.troubles.is_empty() {
        let _ = write!(line, "  {}", paint(Tone::Bad, &arm.troubles.join(", ")));
    }
    Branch::leaf(line)
}

fn route(route: &Route) -> Branch {
    let state = match (route.state.as_str(), route.programmed) {
        ("Missing", _) => paint(Tone::Bad, "  does not exist or does not name the service"),
        ("Unread", _) => paint(Tone::Faint, "  not there, or not to be read"),
        ("Uneven", _) => paint(Tone::Wait, "  its rules disagree"),
        (_, Some(false)) => paint(Tone::Wait, "  not taken up by its gateway yet"),
        ("AtRest", _) => paint(Tone::Faint, "  as you wrote it"),
        _ => String::new(),
    };
    let many = route.rules.len() > 1;
    Branch {
        line: format!("{} {}{state}", route.kind, route.name),
        below: route.rules.iter().map(|rule| self::rule(rule, many)).collect(),
    }
}

fn rule(rule: &Rule, many: bool) -> String {
    let backends: Vec<String> = rule.backends.iter().map(backend).collect();
    let number = if many {
        format!("rule {}: ", rule.index)
    } else {
        String::new()
    };
    format!("{number}{}", backends.join(", "))
}

fn backend(backend: &Backend) -> String {
    let (whole, rest) = (backend.basis_points / 100, backend.basis_points % 100);
    let share = match rest {
        0 => format!("{whole} %"),
        _ => format!("{whole}.{rest:02} %"),
    };
    let tone = if backend.service.ends_with(CANARY_SUFFIX) && backend.weight > 0 {
        Tone::Wait
    } else {
        Tone::Good
    };
    format!("{} {}", backend.service, paint(tone, &share))
}

fn held(hold: &Hold, now: Millis) -> String {
    let since = hold
        .since
        .as_deref()
        .and_then(at)
        .map_or_else(String::new, |since| format!(" for {}", span(now - since)));
    let why = Reason::from_word(&hold.reason).map_or("", Reason::sentence);
    format!("{}  {why}", paint(Tone::Wait, &format!("held{since}: {}", hold.reason)))
}

fn asked(pending: &Pending, now: Millis) -> String {
    let ago = pending
        .asked_at
        .as_deref()
        .and_then(at)
        .map_or_else(String::new, |asked| format!(" {} ago", span(now - asked)));
    let by = pending.signer.as_deref().unwrap_or("somebody");
    let why = pending
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    format!(
        "{} by {by}{ago}, not answered yet ({}){why}",
        paint(Tone::Wait, &format!("asked: {:?}", pending.verb)),
        pending.name
    )
}
