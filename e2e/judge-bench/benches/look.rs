//! What a look costs: `cargo bench --package judge-bench`.
//!
//! One tick of one metric that is counted, the same with what it means, and a look at 1,000 releases
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
const RELEASES: usize = 1000;

fn plans() -> Vec<MetricPlan> {
    let histogram = Shape::Histogram { tails: 3, shown: 2 };
    vec![
        MetricPlan::new("errors", Shape::Ratio),
        MetricPlan::new("orders", Shape::Ratio),
        MetricPlan::new("latency", histogram),
    ]
}

/// Counts that differ from look to look, as they do: nearly 100 requests against 1,900, 0.3 % bad.
fn tick(look: i64, tails: usize) -> Evidence<Tick> {
    let wobble = f64::from(i32::try_from(look * 7919 % 23).unwrap());
    let arm = |total: f64, bad: f64| Arm {
        events: (0..tails)
            .map(|tail| bad + f64::from(i32::try_from(tail).unwrap()))
            .collect(),
        total,
    };
    Evidence::Complete(Tick {
        at: Millis(look * INTERVAL),
        canary: arm(90.0 + wobble, if look % 3 == 0 { 1.0 } else { 0.0 }),
        baseline: arm(1900.0 - wobble, 5.0 + (wobble / 8.0).floor()),
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
        let next = tick(BEFORE + 1, plan.tails());
        let analysis = begun(vec![plan]);
        bench.bench_function(&format!("count one tick of a {name}"), |bencher| {
            let count = |analysis: &mut Analysis| analysis.observe(0, black_box(&next));
            bencher.iter_batched_ref(|| analysis.clone(), count, BatchSize::SmallInput);
        });
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
