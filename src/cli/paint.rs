//! Colours, and the one way to the terminal. Texts carry their colours; they are taken off on the
//! way out when nobody sees them: not a terminal, or `NO_COLOR`.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use super::cluster::Trouble;
use crate::decision::Outcome;

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const WAIT: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// How a text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A name.
    Strong,
    /// Not important.
    Faint,
    /// It goes well.
    Good,
    /// It waits.
    Wait,
    /// It goes badly.
    Bad,
}

/// A text with its colour.
#[must_use]
pub fn paint(tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Strong => STRONG,
        Tone::Faint => FAINT,
        Tone::Good => GOOD,
        Tone::Wait => WAIT,
        Tone::Bad => BAD,
    };
    format!("{style}{text}{style:#}")
}

/// The colour of a decision.
#[must_use]
pub const fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Promote => Tone::Good,
        Outcome::Hold => Tone::Wait,
        Outcome::Abort => Tone::Bad,
    }
}

/// Prints to standard output.
///
/// # Errors
/// [`Trouble::ClosedPipe`] when the reader has gone away, which is success.
pub fn print(text: &str) -> Result<(), Trouble> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Trouble::from)
}

/// Prints a value as JSON for scripts.
///
/// # Errors
/// [`Trouble::ClosedPipe`] when the reader has gone away, which is success.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Trouble> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Trouble::Other(error.to_string()))?;
    print(&(text + "\n"))
}

/// Says something beside the result, on standard error. Nobody has to hear it.
pub fn tell(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}
