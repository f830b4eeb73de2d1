//! What a look costs: `cargo bench --package judge-bench`.
//!
//! One tick of one metric that is counted, as the mean over the six of a minute (the first of them
//! also puts down the minute's capital), the same with what it means, and a look at 1,000 releases
//! with three metrics each.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::decision::{Arm, Evidence, Millis, Percent, Tick};
use engine::judge::{Analysis, MetricPlan, Settings, Shape};

/// A look comes every ten seconds.
const INTERVAL: i64 = 10_000;
/// Looks before what is measured: the state of a step that has run for ten minutes.
const BEFORE: i64 = 60;
const LOOKS_OF_A_MINUTE: i64 = 6;
const RELEASES: usize = 1000;

fn plans() -> Vec<MetricPlan> {
    let histogram = Shape::Histogram { tails: 3, shown: 2 };
    vec![
        MetricPlan::new("errors", Shape::Ratio),
        MetricPlan::new("orders", Shape::Ratio),
        MetricPlan::new("latency", histogram),
    ]
}

/// Counts that differ from look to look, as they do: nearly 100 requests against 1,900. Of a ratio
/// 0.3 % are bad, of a histogram as many lie above its edges as above the usual ones.
fn tick(look: i64, tails: usize) -> Evidence<Tick> {
    let wobble = f64::from(i32::try_from(look * 7919 % 23).unwrap());
    let shares: &[f64] = if tails == 1 { &[0.003] } else { &[0.5, 0.1, 0.01] };
    // what is left of one look is added to a later one
    let events = |total: f64, share: f64| {
        let looks = f64::from(i32::try_from(look).unwrap());
        (looks * total * share).floor() - ((looks - 1.0) * total * share).floor()
    };
    let arm = |total: f64| Arm {
        events: shares.iter().map(|share| events(total, *share)).collect(),
        total,
    };
    Evidence::Complete(Tick {
        at: Millis(look * INTERVAL),
        canary: arm(90.0 + wobble),
        baseline: arm(1900.0 - wobble),
        baseline_pods: Vec::new(),
    })
}

fn begun(plans: Vec<MetricPlan>) -> Analysis {
    let weights = [5, 25, 50, 95].map(|weight| Percent::try_from(weight).unwrap());
    let mut analysis = Analysis::new(plans, Settings::default(), weights.to_vec()).unwrap();
    analysis.begin_step(0, Millis(0));
    for look in 1..=BEFORE {
        see(&mut analysis, look);
    }
    analysis
}

fn see(analysis: &mut Analysis, look: i64) {
    let tails: Vec<usize> = analysis.plans().iter().map(MetricPlan::tails).collect();
    for (index, tails) in tails.into_iter().enumerate() {
        analysis.observe(index, &tick(look, tails));
    }
}

fn looks(bench: &mut Criterion) {
    for (name, plan) in [("ratio", 0), ("histogram of three tails", 2)] {
        let plan = plans().remove(plan);
        let looks = BEFORE + 1..=BEFORE + LOOKS_OF_A_MINUTE;
        let minute: Vec<_> = looks.map(|look| tick(look, plan.tails())).collect();
        let analysis = begun(vec![plan]);
        let mut group = bench.benchmark_group(format!("count one tick of a {name}"));
        group.throughput(Throughput::Elements(minute.len() as u64));
        group.bench_function("six of them", |bencher| {
            let count = |analysis: &mut Analysis| {
                for tick in &minute {
                    analysis.observe(0, black_box(tick));
                }
            };
            bencher.iter_batched_ref(|| analysis.clone(), count, BatchSize::SmallInput);
        });
        group.finish();
        bench.bench_function(&format!("say what a {name} means"), |bencher| {
            bencher.iter(|| black_box(&analysis).judged(1, 0));
        });
        bench.bench_function(&format!("only the verdict of a {name}"), |bencher| {
            bencher.iter(|| black_box(&analysis).verdict(0));
        });
    }
}

fn fleet(bench: &mut Criterion) {
    let one = begun(plans());
    let ticks: Vec<_> = plans().iter().map(|plan| tick(BEFORE + 1, plan.tails())).collect();
    let mut group = bench.benchmark_group("1,000 releases with three metrics");
    group
        .throughput(Throughput::Elements(3 * RELEASES as u64))
        .sample_size(10);
    group.bench_function("count a tick", |bencher| {
        let count = |all: &mut Vec<Analysis>| {
            for analysis in all {
                for (index, tick) in ticks.iter().enumerate() {
                    analysis.observe(index, tick);
                }
            }
        };
        bencher.iter_batched_ref(|| vec![one.clone(); RELEASES], count, BatchSize::LargeInput);
    });
    group.bench_function("count a tick and say what it means", |bencher| {
        let look = |all: &mut Vec<Analysis>| {
            for analysis in all {
                for (index, tick) in ticks.iter().enumerate() {
                    analysis.observe(index, tick);
                }
                black_box(analysis.judged(1, 0));
            }
        };
        bencher.iter_batched_ref(|| vec![one.clone(); RELEASES], look, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, looks, fleet);
criterion_main!(benches);
