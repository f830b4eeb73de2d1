//! Weights go before what is only told about them.
//!
//! When many releases move at the same moment, the statuses of the first would delay the weights of
//! the last at the API server. So a write of a status gives way to writes of routes that are under
//! way, for a moment.

use std::time::Duration;

use tokio::sync::watch;

/// The longest that a status gives way.
const MOMENT: Duration = Duration::from_millis(250);

/// Counts writes of routes that are under way.
#[derive(Debug)]
pub struct Precedence(watch::Sender<usize>);

/// A write of a route, until it is dropped.
#[derive(Debug)]
pub struct Passing<'a>(&'a Precedence);

impl Default for Precedence {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Precedence {
    /// A write of a route begins.
    #[must_use]
    pub fn enter(&self) -> Passing<'_> {
        self.0.send_modify(|under_way| *under_way += 1);
        Passing(self)
    }

    /// Waits until no write of a route is under way, or a moment has passed.
    pub async fn give_way(&self) {
        let mut seen = self.0.subscribe();
        let free = seen.wait_for(|under_way| *under_way == 0);
        let _ = tokio::time::timeout(MOMENT, free).await;
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0
            .0
            .send_modify(|under_way| *under_way = under_way.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_status_waits_for_the_weights_but_not_for_long() {
        let precedence = Precedence::default();
        let began = Instant::now();
        precedence.give_way().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nothing is under way");

        let (one, two) = (precedence.enter(), precedence.enter());
        let weights = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(one);
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(two);
        };
        tokio::join!(weights, precedence.give_way());
        assert_eq!(began.elapsed(), Duration::from_millis(30), "after the last of them");

        let _hangs = precedence.enter();
        precedence.give_way().await;
        assert_eq!(began.elapsed(), Duration::from_millis(30) + MOMENT);
    }
}
