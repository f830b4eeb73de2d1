//! Whether this process is ready, part by part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something that has to be there before the process is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The caches have seen everything that exists.
    Caches,
    /// The lease has been read: we lead, or know that another does.
    Lease,
    /// The webhook that holds changes is served and trusted, or not needed.
    Hold,
}

impl Part {
    /// Every part there is.
    pub const ALL: [Self; 3] = [Self::Caches, Self::Lease, Self::Hold];

    /// The word in the answer.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Caches => "caches",
            Self::Lease => "lease",
            Self::Hold => "hold",
        }
    }
}

/// What is ready. Made once, cheap to clone; nothing is ready at first.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<[AtomicBool; Part::ALL.len()]>,
    stopping: Arc<AtomicBool>,
}

impl Health {
    /// Sets whether a part is ready.
    pub fn set(&self, part: Part, ready: bool) {
        for (slot, _) in self.parts.iter().zip(Part::ALL).filter(|(_, each)| *each == part) {
            slot.store(ready, Ordering::Release);
        }
    }

    /// From now on nothing is ready: the process is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// What is still waited for; empty when the process is ready.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        if self.stopping.load(Ordering::Acquire) {
            return vec!["stopping"];
        }
        let parts = self.parts.iter().zip(Part::ALL);
        parts
            .filter(|(slot, _)| !slot.load(Ordering::Acquire))
            .map(|(_, part)| part.word())
            .collect()
    }
}
