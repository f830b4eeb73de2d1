//! The rank test of two samples of points, as Kayenta's judge uses it.
//!
//! The test is inverted into a two-sided 98 % interval of the shift between canary and baseline.
//! A canary is high when that interval lies above a quarter of the estimated shift and the ratio
//! of the means reaches what is allowed. The rule is rebuilt from its published description and
//! keeps its traits: roots are found to an absolute 1e-4, so verdicts depend on the unit; points
//! count alike whatever their requests; there is no notion of too few. It is here for people who
//! want what they had, and to be compared with.

use libm::{fabs, sqrt};

/// Quantile of the normal distribution for a two-sided 98 % interval.
const QUANTILE: f64 = 2.326_347_874_040_840_8;
/// Part of the estimated shift that the interval has to clear.
const TOLERANCE: f64 = 0.25;
/// To what the roots are found, and after how many steps at the latest.
const CLOSE: f64 = 1e-4;
const STEPS: usize = 1001;

/// How far canary points lie above baseline points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Lower and upper end of the interval.
    pub bounds: [f64; 2],
    /// The shift at which the test sees none.
    pub estimate: f64,
}

/// The rank sum's distance from its expectation once `shift` is taken off the canary's points,
/// in standard errors: corrected for ties and by half a rank. 0 when nothing varies.
#[must_use]
pub fn score(shift: f64, canary: &[f64], baseline: &[f64]) -> f64 {
    let moved = canary.iter().map(|point| (point - shift, true));
    let mut all: Vec<(f64, bool)> = moved.chain(baseline.iter().map(|point| (*point, false))).collect();
    all.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let (own, other) = (count(canary.len()), count(baseline.len()));
    let (mut before, mut ranks, mut ties) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|one, next| one.0.total_cmp(&next.0).is_eq()) {
        let size = count(equal.len());
        let mine = count(equal.iter().filter(|point| point.1).count());
        ranks += mine * (before + f64::midpoint(size, 1.0));
        ties += size * size * size - size;
        before += size;
    }
    let off = ranks - own * (own + 1.0) / 2.0 - own * other / 2.0;
    let both = own + other;
    let variance = own * other / 12.0 * (both + 1.0 - ties / (both * (both - 1.0)));
    if variance <= 0.0 || off.total_cmp(&0.0).is_eq() {
        return 0.0;
    }
    (off - 0.5 * off.signum()) / sqrt(variance)
}

#[expect(clippy::cast_precision_loss, reason = "points of a window")]
const fn count(points: usize) -> f64 {
    points as f64
}

/// Interval and estimate of the shift; `None` without points.
#[must_use]
pub fn shift(canary: &[f64], baseline: &[f64]) -> Option<Shift> {
    let ([least, most], [low, high]) = (ends(canary)?, ends(baseline)?);
    let reach = [least - high, most - low];
    Some(Shift {
        bounds: [QUANTILE, -QUANTILE].map(|level| crossing(reach, canary, baseline, level)),
        estimate: root(reach, |shift| score(shift, canary, baseline)),
    })
}

fn ends(points: &[f64]) -> Option<[f64; 2]> {
    let least = points.iter().copied().min_by(f64::total_cmp)?;
    Some([least, points.iter().copied().max_by(f64::total_cmp)?])
}

/// The shift at which the score is `level`, or the end of the reach that is nearest.
fn crossing(reach: [f64; 2], canary: &[f64], baseline: &[f64], level: f64) -> f64 {
    let off = |shift| score(shift, canary, baseline) - level;
    let [low, high] = reach;
    if off(low) <= 0.0 {
        low
    } else if off(high) >= 0.0 {
        high
    } else {
        root(reach, off)
    }
}

/// Whether the canary is high: worse by this rule. `allowed` is the ratio of the means from
/// which a shift matters. Points that are NaN must have been left out.
#[must_use]
pub fn is_high(canary: &[f64], baseline: &[f64], allowed: f64) -> bool {
    if canary.is_empty() || baseline.is_empty() || is_alike(canary, baseline) {
        return false;
    }
    // the same interval needs no root where the plain test sees nothing
    if score(0.0, canary, baseline) < 0.0 {
        return false;
    }
    let Some(Shift {
        bounds: [low, _],
        estimate,
    }) = shift(canary, baseline)
    else {
        return false;
    };
    let mean = |points: &[f64]| points.iter().sum::<f64>() / count(points.len());
    let (own, other) = (mean(canary), mean(baseline));
    let matters = own <= 0.0 || other <= 0.0 || own / other >= allowed;
    low > 0.0 && low > TOLERANCE * fabs(estimate) && matters
}

/// One value everywhere, or the same points in both arms.
fn is_alike(canary: &[f64], baseline: &[f64]) -> bool {
    let sorted = |points: &[f64]| {
        let mut points = points.to_vec();
        points.sort_unstable_by(f64::total_cmp);
        points
    };
    let (canary, baseline) = (sorted(canary), sorted(baseline));
    let one_value = canary.first() == canary.last() && baseline.first() == baseline.last();
    one_value && canary.first() == baseline.first() || canary == baseline
}

/// Brent's method between two ends of opposite sign, to an absolute 1e-4.
fn root([low, high]: [f64; 2], value: impl Fn(f64) -> f64) -> f64 {
    let (mut old, mut best) = ((low, value(low)), (high, value(high)));
    let mut other = old;
    for end in [old, best] {
        if end.1.total_cmp(&0.0).is_eq() || end.1.total_cmp(&-0.0).is_eq() {
            return end.0;
        }
    }
    for _ in 0..STEPS {
        let before = best.0 - old.0;
        if fabs(other.1) < fabs(best.1) {
            (old, best, other) = (best, other, best);
        }
        let close = 2.0 * f64::EPSILON * fabs(best.0) + CLOSE / 2.0;
        let half = (other.0 - best.0) / 2.0;
        if fabs(half) <= close || fabs(best.1) <= 0.0 {
            return best.0;
        }
        let mut step = half;
        if fabs(before) >= close && fabs(old.1) > fabs(best.1) {
            let (p, q) = interpolated(old, best, other);
            if p < 0.75 * (other.0 - best.0) * q - fabs(close * q) / 2.0 && p < fabs(before * q / 2.0) {
                step = p / q;
            }
        }
        if fabs(step) < close {
            step = if step > 0.0 { close } else { -close };
        }
        old = best;
        best.0 += step;
        best.1 = value(best.0);
        if best.1 > 0.0 && other.1 > 0.0 || best.1 < 0.0 && other.1 < 0.0 {
            other = old;
        }
    }
    best.0
}

/// The step of the secant or of inverse quadratic interpolation, as a fraction with p ≥ 0.
fn interpolated(old: (f64, f64), best: (f64, f64), other: (f64, f64)) -> (f64, f64) {
    let across = other.0 - best.0;
    let (p, q) = if old.0.total_cmp(&other.0).is_eq() {
        let slope = best.1 / old.1;
        (across * slope, 1.0 - slope)
    } else {
        let (one, two, three) = (old.1 / other.1, best.1 / other.1, best.1 / old.1);
        let p = three * (across * one * (one - two) - (best.0 - old.0) * (two - 1.0));
        (p, (one - 1.0) * (two - 1.0) * (three - 1.0))
    };
    if p > 0.0 { (p, -q) } else { (-p, q) }
}
