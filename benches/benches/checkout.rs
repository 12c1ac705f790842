//! Checkout and return of an idle connection, beside a bare `deadpool_postgres::Pool`.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool_benches::{Rivals, Turn, in_turns};
use tokio::{runtime::Runtime, task::JoinSet};

/// So many checkouts, one after the other.
macro_rules! checkouts {
    ($rivals:ident, $get:expr) => {{
        let $rivals = &$rivals;
        let turn: Turn<'_> = Box::new(move |times| {
            Box::pin(async move {
                for _ in 0..times {
                    drop($get.await.unwrap());
                }
            })
        });
        turn
    }};
}

fn one_by_one(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let rivals = runtime.block_on(Rivals::start(1)).unwrap();
    // A reader is chosen among the standbys first.
    runtime.block_on(async { drop(rivals.leadpool.reader().await.unwrap()) });
    runtime.block_on(in_turns(
        "checkout",
        vec![
            ("deadpool", checkouts!(rivals, rivals.bare.get())),
            ("leadpool", checkouts!(rivals, rivals.leadpool.get())),
            (
                "leadpool_recorded",
                checkouts!(rivals, rivals.recorded.get()),
            ),
            (
                "leadpool_reader",
                checkouts!(rivals, rivals.leadpool.reader()),
            ),
        ],
    ));
    let mut group = criterion.benchmark_group("checkout");
    group.bench_function("deadpool", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || drop(rivals.bare.get().await.unwrap()));
    });
    group.bench_function("leadpool", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || drop(rivals.leadpool.get().await.unwrap()));
    });
    group.bench_function("leadpool_recorded", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || drop(rivals.recorded.get().await.unwrap()));
    });
    group.bench_function("leadpool_reader", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || drop(rivals.leadpool.reader().await.unwrap()));
    });
    group.finish();
}

/// Several tasks at the pool at once, a thousand checkouts each.
fn contended(criterion: &mut Criterion) {
    const TASKS: usize = 8;
    const EACH: usize = 1_000;

    let runtime = Runtime::new().unwrap();
    let rivals = runtime.block_on(Rivals::start(1)).unwrap();
    let mut group = criterion.benchmark_group("checkout_8_tasks_1000_each");
    group.sample_size(30);
    group.bench_function("deadpool", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let mut tasks = JoinSet::new();
            for _ in 0..TASKS {
                let pool = rivals.bare.clone();
                tasks.spawn(async move {
                    for _ in 0..EACH {
                        drop(pool.get().await.unwrap());
                    }
                });
            }
            tasks.join_all().await
        });
    });
    group.bench_function("leadpool", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let mut tasks = JoinSet::new();
            for _ in 0..TASKS {
                let pool = rivals.leadpool.clone();
                tasks.spawn(async move {
                    for _ in 0..EACH {
                        drop(pool.get().await.unwrap());
                    }
                });
            }
            tasks.join_all().await
        });
    });
    group.finish();
}

criterion_group!(benches, one_by_one, contended);
criterion_main!(benches);
