//! The share of requests that really reached the canary at each step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use statrs::distribution::{Binomial, DiscreteCDF as _};

use super::traffic::Counts;
use crate::support::space::Space;
use crate::support::world::canary_weight;

/// How likely an honest split is to fall outside of the bounds, at each side of each step.
///
/// Traefik splits by weighted round robin, which is far closer to the weight than chance would be; the
/// bounds are those of chance, which hold for gateways that draw lots too.
const ALPHA: f64 = 1e-6;

/// The gateway acts a moment after the write; so much later counting begins.
const SETTLING: Duration = Duration::from_millis(1500);

/// What was counted at one weight: the first and the last count of stable and canary.
#[derive(Debug, Clone, Copy)]
struct Stay {
    first: (u64, u64),
    last: (u64, u64),
}

/// Counts at the pods, by the weight that the route had before and after the count.
#[derive(Default)]
pub struct Shares(BTreeMap<i64, Stay>);

impl Shares {
    /// Counts until it is dropped.
    pub async fn collect(&mut self, space: &Space) -> std::convert::Infallible {
        let mut counts = Counts::default();
        let mut at: (Option<i64>, Instant) = (None, Instant::now());
        loop {
            let before = weight(space).await;
            if before != at.0 {
                at = (before, Instant::now());
            }
            let settled = at.1.elapsed() >= SETTLING;
            let seen = counts.read(space).await;
            if let Some(weight) = before.filter(|_| settled)
                && self::weight(space).await == before
            {
                let stay = self.0.entry(weight).or_insert(Stay {
                    first: seen,
                    last: seen,
                });
                stay.last = seen;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Every one of these weights was really given, within what chance allows.
    pub fn verify(&self, weights: &[i64]) {
        for weight in weights {
            let stay = self
                .0
                .get(weight)
                .unwrap_or_else(|| panic!("nothing was counted at {weight} %"));
            let stable = stay.last.0 - stay.first.0;
            let canary = stay.last.1 - stay.first.1;
            let all = stable + canary;
            println!("{weight:3} %: {canary} of {all} requests reached the canary");
            assert!(all > 100, "too few requests were counted at {weight} %: {all}");
            #[expect(clippy::cast_precision_loss, reason = "a percentage")]
            let chance = Binomial::new(*weight as f64 / 100.0, all).unwrap();
            let low = chance.cdf(canary);
            let high = if canary == 0 { 1.0 } else { chance.sf(canary - 1) };
            assert!(
                low > ALPHA && high > ALPHA,
                "{canary} of {all} is not {weight} % (tails {low:e} and {high:e})"
            );
        }
    }
}

async fn weight(space: &Space) -> Option<i64> {
    let route = space.get("HTTPRoute", "checkout").await?;
    canary_weight(&route)
}
