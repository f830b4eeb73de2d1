//! What holds for every input.
#![expect(
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test may panic, and means exactly equal"
)]

use proptest::prelude::*;

use crate::decision::{Evidence, Gap, GapKind, Judged, Millis, Reason, Verdict};

use super::e1::{Counts, Margin, Process, Round, Side};
use super::interval::Likelihood;
use super::world::{SERVICE, WEIGHTS, errors, percents, ratio_tick, restarts};
use super::{Analysis, Method, MetricPlan, Settings, Shape};

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Higher), Just(Side::Lower)]
}

/// A plan of each kind that is counted so.
fn plan() -> impl Strategy<Value = MetricPlan> {
    prop_oneof![Just(errors()), Just(restarts())]
}

/// Events and requests of both arms, the canary the smaller one.
fn counts() -> impl Strategy<Value = [f64; 4]> {
    (0..200_u32, 0..4000_u32, 0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(n, m, a, b)| {
        let (n, m) = (f64::from(n), f64::from(m));
        // mostly few events
        [(n * a * a * a).floor(), n, (m * b * b * b * 0.1).floor(), m]
    })
}

fn series() -> impl Strategy<Value = Vec<[f64; 4]>> {
    prop::collection::vec(counts(), 1..30)
}

fn played(margin: &Margin, ticks: &[[f64; 4]]) -> f64 {
    let mut process = Process::new();
    process.stake(1.0);
    for &[a, n, b, m] in ticks {
        process.play(&Round::new(margin, [n, m]), [a, b], 1.0, None);
    }
    process.log_e()
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(1.0)
}

/// The probability of each number of events out of `total`.
fn binomial(total: u32, rate: f64) -> Vec<f64> {
    let start = (1.0 - rate).powi(i32::try_from(total).unwrap());
    let next = |chance: &mut f64, events: u32| {
        let now = *chance;
        *chance *= f64::from(total - events) / f64::from(events + 1) * rate / (1.0 - rate);
        Some(now)
    };
    (0..=total).scan(start, next).collect()
}

/// The steps of the design, watched tick by tick.
fn watched(plan: MetricPlan, ticks: &[[f64; 4]], from: i64) -> Analysis {
    let mut analysis = SERVICE.analysis(plan, &WEIGHTS, 0.01);
    analysis.begin_step(0, Millis::from_secs(from));
    watch(&mut analysis, ticks, from);
    analysis
}

fn watch(analysis: &mut Analysis, ticks: &[[f64; 4]], from: i64) {
    for (at, counts) in (1..).zip(ticks) {
        analysis.observe(0, &ratio_tick(from + at * 10, *counts));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn under_the_null_evidence_is_not_expected_to_grow(
        (side, n, m) in (side(), 1..12_u32, 1..12_u32),
        (rate, ratio, extra) in (0.001..0.4_f64, 0.5..2.0_f64, 0.0..0.05_f64),
    ) {
        let margin = Margin { side, ratio, extra };
        let canary = ratio * rate + extra;
        prop_assume!(canary < 1.0);
        let mut expected = 0.0;
        for (a, chance) in (0_u32..).zip(binomial(n, canary)) {
            for (b, other) in (0_u32..).zip(binomial(m, rate)) {
                let tick = [f64::from(a), f64::from(n), f64::from(b), f64::from(m)];
                expected += chance * other * played(&margin, &[tick]).exp();
            }
        }
        prop_assert!(expected <= 1.0 + 1e-9, "{}", expected);
    }

    #[test]
    fn under_the_null_evidence_of_shares_is_not_expected_to_grow(
        (side, n, m) in (side(), 1..12_u32, 1..12_u32),
        (rate, ratio, assumed) in (0.01..0.9_f64, 0.3..2.0_f64, 0.01..0.99_f64),
        part in 0.0..1.0_f64,
    ) {
        // anywhere within the null, and whatever the baseline's share is taken to be
        let margin = Margin { side, ratio, extra: 0.0 };
        let edge = ratio * rate;
        let canary = match side {
            Side::Higher => (edge * part.sqrt()).min(1.0 - 1e-12),
            Side::Lower => edge + (1.0 - 1e-12 - edge) * part * part,
        };
        prop_assume!(edge < 1.0);
        let mut expected = 0.0;
        for (a, chance) in (0_u32..).zip(binomial(n, canary)) {
            for (b, other) in (0_u32..).zip(binomial(m, rate)) {
                let mut process = Process::new();
                process.stake(1.0);
                let round = Round::new(&margin, [n, m].map(f64::from));
                process.play(&round, [a, b].map(f64::from), 1.0, Some(assumed));
                expected += chance * other * process.log_e().exp();
            }
        }
        prop_assert!(expected <= 1.0 + 1e-9, "{}", expected);
    }

    #[test]
    fn clumps_of_as_many_as_the_dispersion_keep_the_promise(
        (clump, slots, others) in (2..5_u32, 1..8_u32, 1..8_u32),
        (side, rate, ratio) in (side(), 0.001..0.4_f64, 0.5..2.0_f64),
    ) {
        // a slot of as many requests fails as a whole or not at all
        let margin = Margin { side, ratio, extra: 0.0 };
        prop_assume!(ratio * rate < 1.0);
        let size = f64::from(clump);
        let (n, m) = (size * f64::from(slots), size * f64::from(others));
        let expected = |phi: f64| {
            let mut sum = 0.0;
            for (a, chance) in (0_u32..).zip(binomial(slots, ratio * rate)) {
                for (b, other) in (0_u32..).zip(binomial(others, rate)) {
                    let mut process = Process::new();
                    process.stake(1.0);
                    let events = [a, b].map(|clumps| size * f64::from(clumps));
                    process.play(&Round::new(&margin, [n, m]), events, phi, None);
                    sum += chance * other * process.log_e().exp();
                }
            }
            sum
        };
        prop_assert!(expected(size) <= 1.0 + 1e-9, "{}", expected(size));
    }

    #[test]
    fn the_order_of_metrics_does_not_matter(one in series(), other in series()) {
        let plans = [errors(), MetricPlan { name: "orders".into(), error_budget: None, ..errors() }];
        let judged = |order: [usize; 2]| {
            let plans = order.map(|place| plans[place].clone()).to_vec();
            let mut analysis = Analysis::new(plans, Settings::default(), percents(&WEIGHTS)).unwrap();
            analysis.begin_step(0, Millis(0));
            for (at, (one, other)) in (1..).zip(one.iter().zip(&other)) {
                let counts = [one, other];
                for (index, place) in order.into_iter().enumerate() {
                    analysis.observe(index, &ratio_tick(at * 10, *counts[place]));
                }
            }
            analysis.judged(1, 0)
        };
        let (first, second) = (judged([0, 1]), judged([1, 0]));
        // within a tick the first to fail is named, so that words and blame may differ
        let said = |judged: &Judged| match &judged.verdict {
            Verdict::Fail(_) => Verdict::Fail(Reason::Harm),
            other => other.clone(),
        };
        prop_assert_eq!(said(&first), said(&second));
        for (first, second) in first.readings.iter().zip(second.readings.iter().rev()) {
            prop_assert_eq!((first.harm, first.safety), (second.harm, second.safety));
        }
    }

    #[test]
    fn the_order_of_ticks_does_not_matter(side in side(), ticks in series()) {
        let margin = Margin { side, ratio: 1.1, extra: 0.0 };
        let turned: Vec<_> = ticks.iter().rev().copied().collect();
        prop_assert!(close(played(&margin, &ticks), played(&margin, &turned)));
    }

    #[test]
    fn ticks_with_the_same_split_may_be_merged(side in side(), one in counts(), [a, _, b, _] in counts()) {
        let [_, n, _, m] = one;
        let other = [a.min(n), n, b.min(m), m];
        let merged = [one[0] + other[0], n + n, one[2] + other[2], m + m];
        let margin = Margin { side, ratio: 1.4, extra: 0.001 };
        prop_assert!(close(played(&margin, &[one, other]), played(&margin, &[merged])));
    }

    #[test]
    fn one_more_event_on_the_canary_never_speaks_for_it([a, n, b, m] in counts()) {
        let worse = [a + 1.0, n, b, m];
        for (side, sign) in [(Side::Higher, 1.0), (Side::Lower, -1.0)] {
            let margin = Margin { side, ratio: 1.2, extra: 0.0 };
            let change = played(&margin, &[worse]) - played(&margin, &[[a, n, b, m]]);
            prop_assert!(sign * change >= 0.0, "{:?} {}", side, change);
        }
    }

    #[test]
    fn the_interval_with_joined_splits_is_close_to_the_full_one(ticks in series()) {
        let (mut full, mut joined) = (Likelihood::new(1000), Likelihood::new(8));
        for [a, n, b, m] in ticks {
            // ticks of a step have nearly the same split
            let counts = Counts { a, n: n + 200.0, b, m: m + 4000.0 };
            full.add(&counts, 1.0);
            joined.add(&counts, 1.0);
        }
        for (full, joined) in full.bounds([0.05]).concat().into_iter().zip(joined.bounds([0.05]).concat()) {
            prop_assert_eq!(full.is_some(), joined.is_some());
            let off = full.unwrap_or_default() - joined.unwrap_or_default();
            prop_assert!(off.abs() < 0.02, "{}", off);
        }
    }

    #[test]
    fn the_hour_does_not_matter(plan in plan(), ticks in series(), minutes in 1..1_000_000_i64) {
        let (here, there) = (watched(plan.clone(), &ticks, 0), watched(plan, &ticks, minutes * 60));
        let (here, there) = (here.judged(1, 0), there.judged(1, 0));
        prop_assert_eq!(here.readings, there.readings);
        prop_assert_eq!((here.verdict, here.rule), (there.verdict, there.rule));
    }

    #[test]
    fn words_change_no_verdict(ticks in series(), name in ".{0,40}", detail in ".{0,40}", blind in any::<bool>()) {
        let mut plain = watched(errors(), &ticks, 0);
        let mut other = watched(MetricPlan { name, ..errors() }, &ticks, 0);
        if blind {
            plain.observe(0, &Evidence::missing(GapKind::Stale, ""));
            other.observe(0, &Evidence::Incomplete(vec![Gap { kind: GapKind::Stale, detail }]));
        }
        prop_assert_eq!(plain.verdict(0), plain.judged(1, 0).verdict, "with and without its numbers");
        let (plain, other) = (plain.judged(1, 0), other.judged(1, 0));
        prop_assert_eq!(&plain.verdict, &other.verdict);
        prop_assert_eq!((plain.no_harm, plain.blind_since), (other.no_harm, other.blind_since));
        prop_assert_eq!(plain.readings[0].harm, other.readings[0].harm);
        prop_assert_eq!(plain.readings[0].safety, other.readings[0].safety);
    }

    #[test]
    fn below_the_minimum_sample_nothing_passes(plan in plan(), ticks in series(), limited in any::<bool>()) {
        let requests: f64 = ticks.iter().map(|tick| tick[1]).sum();
        let limited = limited && plan.shape == Shape::Ratio;
        let method = if limited { Method::Limit { max: 0.5, failures: 1 } } else { Method::Sequential };
        let plan = MetricPlan { method, min_sample: requests + 1.0, ..plan };
        let mut analysis = SERVICE.analysis(plan, &[95], 0.01);
        analysis.begin_step(0, Millis(0));
        watch(&mut analysis, &ticks, 0);
        let judged = analysis.judged(1, 0);
        prop_assert!(!matches!(judged.verdict, Verdict::Pass(_)), "{}", judged.rule);
        prop_assert!(!judged.no_harm);
    }

    #[test]
    fn incomplete_evidence_never_passes(plan in plan(), ticks in series(), step in 0..2_usize) {
        let mut analysis = watched(plan, &ticks, 0);
        analysis.begin_step(step, Millis(0));
        analysis.observe(0, &Evidence::missing(GapKind::Warning, "partial"));
        let judged = analysis.judged(1, step);
        prop_assert!(!matches!(judged.verdict, Verdict::Pass(_)), "{}", judged.rule);
    }

    #[test]
    fn what_was_stored_continues_bit_for_bit(
        plan in plan(),
        before in series(),
        after in series(),
        blind in any::<bool>(),
    ) {
        let mut live = watched(plan, &before, 0);
        if blind {
            live.observe(0, &Evidence::missing(GapKind::Stale, "newest sample is 40 s old"));
        }
        let stored = serde_json::to_string(&live).unwrap();
        prop_assert!(stored.len() <= 2048, "{} bytes: {}", stored.len(), stored);
        let mut restored: Analysis = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(&restored, &live);
        for analysis in [&mut live, &mut restored] {
            analysis.begin_step(1, Millis::from_secs(300));
            watch(analysis, &after, 300);
        }
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), serde_json::to_string(&live).unwrap());
        prop_assert_eq!(restored.judged(1, 1), live.judged(1, 1));
    }
}
