//! Seeded randomness.

use rand::SeedableRng as _;
use rand_distr::{Binomial, Distribution as _, Gamma, Geometric, Poisson, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Draws of one release.
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// The same seed and place, the same draws.
    pub fn new(seed: u64, place: &str, run: u64) -> Self {
        let named = place.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self(Pcg64Mcg::seed_from_u64(
            named ^ seed.rotate_left(17) ^ run.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        ))
    }

    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 {
            return 0.0;
        }
        Poisson::new(mean).unwrap().sample(&mut self.0)
    }

    /// So many of `total` happen, each with probability `share`.
    pub fn binomial(&mut self, total: f64, share: f64) -> f64 {
        if total <= 0.0 || share <= 0.0 {
            return 0.0;
        }
        let drawn = Binomial::new(total as u64, share.min(1.0)).unwrap().sample(&mut self.0);
        drawn as f64
    }

    /// Gamma with mean 1; the larger `shape`, the steadier.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        Gamma::new(shape, 1.0 / shape).unwrap().sample(&mut self.0)
    }

    /// Lognormal with mean 1.
    pub fn offset(&mut self, spread: f64) -> f64 {
        let normal: f64 = StandardNormal.sample(&mut self.0);
        (spread * normal - spread * spread / 2.0).exp()
    }

    /// Events that come in clumps of geometric size.
    pub fn clumped(&mut self, mean: f64, clump: f64, total: f64) -> f64 {
        let clumps = self.poisson(mean / clump) as u64;
        let size = Geometric::new(1.0 / clump).unwrap();
        let events: u64 = (0..clumps).map(|_| 1 + size.sample(&mut self.0)).sum();
        (events as f64).min(total)
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.binomial(1.0, share) > 0.0
    }
}
