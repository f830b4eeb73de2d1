//! Refuses to compare with peers that are not what they should be: holds Bayes factors, mixtures and
//! Kayenta's verdicts to golden vectors.

use engine::mann_whitney;
use serde_json::Value;

use crate::peers::{bayes, normal};

/// The accuracy of what was computed at 60 digits, and of what another library has found.
const EXACT: f64 = 1e-9;
const FOUND: f64 = 1e-7;

/// Panics where a peer is wrong.
pub fn hold() {
    let compared = bayes_factors() + mixtures() + verdicts();
    assert!(compared > 210, "only {compared} vectors");
}

fn bayes_factors() -> usize {
    let factors = read(include_str!("../../src/judge/vectors/srm_multinomial.json"));
    let mut compared = 0;
    for case in list(&factors["cases"]) {
        for row in list(&case["rows_canary_baseline_logbf"]) {
            let [a, b, wanted] = numbers(row);
            let found = bayes([a, b], number(&case["target_share"]), number(&case["concentration"]));
            agree(found, wanted, EXACT);
            compared += 1;
        }
    }
    compared
}

/// The variance of the mixture that confseq chooses to be best at `v`.
fn best(v: f64, alpha: f64) -> f64 {
    let nats = 2.0 * (1.0 / alpha).ln();
    v / (nats + nats.ln_1p())
}

/// Lindon and Malek's test is the beta-binomial mixture of Howard and others, and the mSPRT their normal
/// one: with the same prior they have to agree with the library of those authors.
fn mixtures() -> usize {
    let found = read(include_str!("../../src/judge/vectors/confseq.json"));
    let prior = |v, alpha, product: f64| (best(v, alpha) - product).max(1e-3 * product) / product;
    let mut compared = 0;
    for row in list(&found["beta_binomial_log_mixture_s_v_vopt_g_h_alphaopt_val"]) {
        let [s, v, v_opt, g, h, alpha, wanted] = numbers(row);
        let events = [s + v / h, v / g - s];
        agree(bayes(events, g, prior(v_opt, alpha, g * h)), wanted, FOUND);
        compared += 1;
    }
    for row in list(&found["bernoulli_confidence_interval_x_n_alpha_topt_lo_hi"]) {
        let [x, n, alpha, t_opt, low, high] = numbers(row);
        // at its edges the mixture has gathered just enough to exclude a share
        for edge in [low, high].into_iter().filter(|edge| 0.0 < *edge && *edge < 1.0) {
            let product = edge * (1.0 - edge);
            let gathered = bayes([x, n - x], edge, prior(t_opt * product, alpha, product));
            agree(gathered, (1.0 / alpha).ln(), FOUND);
            compared += 1;
        }
    }
    for row in list(&found["normal_log_mixture_s_v_vopt_alphaopt_val"]) {
        let [s, v, v_opt, alpha, wanted] = numbers(row);
        agree(normal(s / v, 1.0 / v, 1.0 / best(v_opt, alpha)), wanted, FOUND);
        compared += 1;
    }
    compared
}

fn verdicts() -> usize {
    let ranks = read(include_str!("../../src/judge/vectors/mannwhitney.json"));
    let cases = list(&ranks["cases"]);
    for case in cases {
        let points = |arm: &str| list(&case[arm]).iter().map(number).collect::<Vec<_>>();
        let high = mann_whitney::is_high(&points("x"), &points("y"), 1.0);
        assert_eq!(high, case["kayenta_rule_high"], "{}", case["name"]);
    }
    cases.len()
}

fn agree(found: f64, wanted: f64, within: f64) {
    assert!(
        (found - wanted).abs() <= within * wanted.abs().max(1.0),
        "{found} instead of {wanted}"
    );
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers<const COUNT: usize>(row: &Value) -> [f64; COUNT] {
    let all: Vec<f64> = list(row).iter().map(number).collect();
    all.try_into().unwrap()
}
