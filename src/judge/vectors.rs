//! Golden vectors: numbers computed by other means, and how far the code is from them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::dispersion::Pearson;
use super::e1::{BETS, Counts, Margin, Place, Process, Round, Side, log_average};
use super::interval::{Likelihood, clopper_pearson};
use super::limit::binomial_tail;
use super::mann_whitney;
use super::need::{self, Traffic};

/// Largest difference allowed: absolute below 1, relative above.
const ACCURACY: f64 = 1e-9;

/// Collects differences and remembers the worst.
#[derive(Default)]
struct Worst {
    off: f64,
    place: String,
    compared: usize,
}

impl Worst {
    fn compare(&mut self, place: impl FnOnce() -> String, found: f64, wanted: f64) {
        let off = (found - wanted).abs() / wanted.abs().max(1.0);
        self.compared += 1;
        assert!(off.is_finite(), "{}: {found} instead of {wanted}", place());
        if off > self.off {
            (self.off, self.place) = (off, place());
        }
    }

    fn assert_within(&self, accuracy: f64, least: usize) {
        assert!(
            self.compared >= least,
            "only {} numbers were compared, not {least}",
            self.compared
        );
        assert!(
            self.off <= accuracy,
            "worst of {}: {:e} at {}",
            self.compared,
            self.off,
            self.place
        );
    }
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a vector file of this shape")
}

#[derive(Deserialize)]
struct Paths {
    grid_d: Vec<f64>,
    grid_w: Vec<f64>,
    cases: Vec<Path>,
}

#[derive(Deserialize)]
struct Path {
    name: String,
    rho0: f64,
    #[serde(default)]
    delta: f64,
    sign: i8,
    phi: f64,
    pi: Option<Vec<f64>>,
    ticks_a_n_b_m: Vec<[f64; 4]>,
    log_e: Vec<f64>,
}

fn counts([a, n, b, m]: [f64; 4]) -> Counts {
    Counts { a, n, b, m }
}

fn compare_paths(paths: &Paths) -> Worst {
    let mut worst = Worst::default();
    let higher = Margin {
        side: Side::Higher,
        ratio: 1.0,
        extra: 0.0,
    };
    for (bet, (distance, weight)) in BETS.iter().zip(paths.grid_d.iter().zip(&paths.grid_w)) {
        worst.compare(|| "grid".into(), higher.place(bet).x, *distance);
        worst.compare(|| "weight".into(), bet.log_weight, weight.ln());
    }
    for case in &paths.cases {
        let side = if case.sign > 0 { Side::Higher } else { Side::Lower };
        let margin = Margin {
            side,
            ratio: case.rho0,
            extra: case.delta,
        };
        let mut process = Process::new();
        for (at, (tick, wanted)) in case.ticks_a_n_b_m.iter().zip(&case.log_e).enumerate() {
            // without a schedule all capital is put down at the start
            let start = if at == 0 { 1.0 } else { 0.0 };
            process.stake(case.pi.as_ref().map_or(start, |pi| pi.get(at).copied().unwrap_or(0.0)));
            let [a, n, b, m] = *tick;
            process.play(&Round::new(&margin, [n, m]), [a, b], case.phi, None);
            worst.compare(|| format!("{} tick {at}", case.name), process.log_e(), *wanted);
        }
    }
    worst
}

#[test]
fn e1_agrees_at_every_tick() {
    compare_paths(&read(include_str!("vectors/e1_ratio.json"))).assert_within(ACCURACY, 250);
}

#[test]
fn e1_with_an_affine_margin_agrees_at_every_tick() {
    compare_paths(&read(include_str!("vectors/e1_affine_margin.json"))).assert_within(ACCURACY, 100);
}

#[derive(Deserialize)]
struct Shares {
    cases: Vec<ShareCase>,
}

#[derive(Deserialize)]
struct ShareCase {
    name: String,
    prior_events_total: [f64; 2],
    rho0: f64,
    ticks_a_n_b_m: Vec<[f64; 4]>,
    log_e: Vec<f64>,
}

#[test]
fn e2_agrees_at_every_tick() {
    let vectors: Shares = read(include_str!("vectors/e2_share.json"));
    let mut worst = Worst::default();
    for case in &vectors.cases {
        let margin = Margin {
            side: Side::Higher,
            ratio: case.rho0,
            extra: 0.0,
        };
        let [mut events, mut total] = case.prior_events_total;
        let mut process = Process::new();
        process.stake(1.0);
        for (at, (tick, wanted)) in case.ticks_a_n_b_m.iter().zip(&case.log_e).enumerate() {
            let [a, n, b, m] = *tick;
            process.play(&Round::new(&margin, [n, m]), [a, b], 1.0, Some(events / total));
            (events, total) = (events + b, total + m);
            worst.compare(|| format!("{} tick {at}", case.name), process.log_e(), *wanted);
        }
    }
    worst.assert_within(ACCURACY, 90);
}

#[derive(Deserialize)]
struct RankTests {
    cases: Vec<RankTest>,
}

#[derive(Deserialize)]
struct RankTest {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    #[serde(rename = "p_asymptotic_greater")]
    greater: f64,
    #[serde(rename = "kayenta_rule_high")]
    high: bool,
    #[serde(rename = "kayenta_rule_high_allowed_1.25")]
    much_higher: bool,
    #[serde(rename = "kayenta_rule_ci_low")]
    low: f64,
    #[serde(rename = "kayenta_rule_ci_high")]
    up: f64,
    #[serde(rename = "kayenta_rule_estimate")]
    estimate: f64,
}

#[test]
fn the_rank_test_agrees() {
    let vectors: RankTests = read(include_str!("vectors/mannwhitney.json"));
    let (mut exact, mut rooted) = (Worst::default(), Worst::default());
    for case in &vectors.cases {
        let score = mann_whitney::score(0.0, &case.x, &case.y);
        // the one-sided p-value takes half a rank off whatever the sign, the rule only towards 0
        if score > 0.0 {
            let tail = 0.5 * statrs::function::erf::erfc(score / std::f64::consts::SQRT_2);
            exact.compare(|| case.name.clone(), tail, case.greater);
        }
        let shift = mann_whitney::shift(&case.x, &case.y).expect("points");
        for (found, wanted) in [
            (shift.bounds[0], case.low),
            (shift.bounds[1], case.up),
            (shift.estimate, case.estimate),
        ] {
            rooted.compare(|| case.name.clone(), found, wanted);
        }
        assert_eq!(mann_whitney::is_high(&case.x, &case.y, 1.0), case.high, "{}", case.name);
        assert_eq!(
            mann_whitney::is_high(&case.x, &case.y, 1.25),
            case.much_higher,
            "{}",
            case.name
        );
    }
    exact.assert_within(ACCURACY, 6);
    rooted.assert_within(1e-6, 24);
}

#[derive(Deserialize)]
struct Intervals {
    cases: Vec<IntervalCase>,
}

#[derive(Deserialize)]
struct IntervalCase {
    name: String,
    phi: f64,
    alpha: f64,
    ticks_a_n_b_m: Vec<[f64; 4]>,
    rows: Vec<IntervalRow>,
}

#[derive(Deserialize)]
struct IntervalRow {
    tick: usize,
    log_mix: f64,
    log_lo: Option<f64>,
    log_hi: Option<f64>,
}

#[test]
fn the_interval_agrees_while_every_split_is_kept() {
    let vectors: Intervals = read(include_str!("vectors/e1_ratio_cs.json"));
    let mut worst = Worst::default();
    for case in &vectors.cases {
        let mut likelihood = Likelihood::new(64);
        let mut rows = case.rows.iter();
        // the constant that the interval does not need, and so does not keep
        let mut constant = 0.0;
        for (at, tick) in case.ticks_a_n_b_m.iter().enumerate() {
            let counts = counts(*tick);
            likelihood.add(&counts, case.phi);
            if counts.comparable() {
                constant += (counts.a + counts.b) / case.phi * libm::log(counts.n);
            }
            if at % 5 != 4 {
                continue;
            }
            let row = rows.next().expect("a row every five ticks");
            assert_eq!(row.tick, at);
            worst.compare(
                || format!("{} mixture {at}", case.name),
                likelihood.curve().mixed() - constant,
                row.log_mix,
            );
            for (found, wanted) in likelihood
                .bounds([case.alpha])
                .concat()
                .into_iter()
                .zip([row.log_lo, row.log_hi])
            {
                match (found, wanted) {
                    (Some(found), Some(wanted)) => {
                        worst.compare(|| format!("{} bound {at}", case.name), found, wanted);
                    }
                    _ => assert_eq!(found, wanted, "{} bound {at}", case.name),
                }
            }
        }
    }
    worst.assert_within(ACCURACY, 70);
}

#[derive(Deserialize)]
struct Averages {
    weighted_average: Vec<Average>,
}

#[derive(Deserialize)]
struct Average {
    log_e: Vec<f64>,
    weights: Vec<f64>,
    #[serde(rename = "log_average")]
    wanted: f64,
}

#[test]
fn averages_of_e_values_agree() {
    let vectors: Averages = read(include_str!("vectors/multi.json"));
    let mut worst = Worst::default();
    for case in &vectors.weighted_average {
        let weighted = case.weights.iter().copied().zip(case.log_e.iter().copied());
        worst.compare(
            || format!("{} values", case.log_e.len()),
            log_average(weighted),
            case.wanted,
        );
    }
    worst.assert_within(1e-12, 3);
}

#[derive(Deserialize)]
struct Dispersions {
    cases: Vec<DispersionCase>,
}

#[derive(Deserialize)]
struct DispersionCase {
    name: String,
    errors: Vec<Vec<f64>>,
    requests: Vec<Vec<f64>>,
    chi2: f64,
    df: f64,
    phi_used: f64,
}

#[test]
fn dispersion_agrees() {
    let vectors: Dispersions = read(include_str!("vectors/dispersion.json"));
    let mut worst = Worst::default();
    for case in &vectors.cases {
        let mut pearson = Pearson::default();
        for (errors, requests) in case.errors.iter().zip(&case.requests) {
            pearson.add(errors, requests);
        }
        worst.compare(|| format!("{} chi2", case.name), pearson.chi2, case.chi2);
        worst.compare(|| format!("{} df", case.name), pearson.freedom, case.df);
        worst.compare(|| format!("{} phi", case.name), pearson.upper(), case.phi_used);
    }
    worst.assert_within(ACCURACY, 6);
}

#[derive(Deserialize)]
struct Needs {
    rows: Vec<[f64; 9]>,
}

#[test]
fn the_number_of_requests_needed_agrees() {
    let vectors: Needs = read(include_str!("vectors/sample_size.json"));
    let mut worst = Worst::default();
    for [rate, split, truth, ratio, level, cost, z, phi, wanted] in vectors.rows {
        let traffic = Traffic {
            rate,
            split,
            truth,
            phi,
            known: 0.0,
        };
        let side = if truth > ratio { Side::Higher } else { Side::Lower };
        let margin = Margin {
            side,
            ratio,
            extra: 0.0,
        };
        // the best single bet is on the truth itself
        let nats = (1.0 / level).ln() + cost;
        let found = need::requests(&traffic, &margin, &Place::at((truth / ratio).ln()), nats, z);
        worst.compare(
            || format!("{truth} against {ratio}"),
            found.expect("evidence that grows"),
            wanted,
        );
    }
    worst.assert_within(ACCURACY, 5);
}

#[derive(Deserialize)]
struct Special {
    betainc: Vec<[f64; 4]>,
    binom_sf: Vec<[f64; 4]>,
    clopper_pearson_x_n_conf_lo_hi: Vec<[f64; 5]>,
}

#[test]
fn the_special_functions_agree() {
    let vectors: Special = read(include_str!("vectors/special.json"));
    let mut worst = Worst::default();
    for [a, b, x, wanted] in vectors.betainc {
        worst.compare(
            || format!("beta {a} {b} {x}"),
            statrs::function::beta::beta_reg(a, b, x),
            wanted,
        );
    }
    for [k, n, p, wanted] in vectors.binom_sf {
        // more than k is k + 1 or more
        worst.compare(|| format!("tail {k} {n} {p}"), binomial_tail(k + 1.0, n, p), wanted);
    }
    for [events, total, confidence, lower, upper] in vectors.clopper_pearson_x_n_conf_lo_hi {
        let found = clopper_pearson(events, total, 1.0 - confidence);
        for (found, wanted) in found.into_iter().zip([lower, upper]) {
            worst.compare(|| format!("bounds {events} of {total}"), found, wanted);
        }
    }
    worst.assert_within(ACCURACY, 40);
}
