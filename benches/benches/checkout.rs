//! Checkout and return of an idle connection, one after the other.
//!
//! Who asks the server at each checkout by default is there a second time without. What a recorder
//! of metrics costs leadpool, and a reader of its own, stands behind the others.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::{Duration, Instant};

use criterion::Criterion;
use leadpool_benches::{
    Error, Ground, Kind, Record, Rivals, Turn, each, in_turns, is_bench, is_recorded, lasts,
    open_all, rounds, run, slots,
};
use tokio::runtime::Runtime;

const SIZE: usize = 16;

async fn by_turns() -> Result<(), Error> {
    let kinds = [&Kind::POOLS[..], &[Kind::Held], &Kind::SKETCHES[..1]].concat();
    let ground = Ground::start(0).await?;
    let rivals = open_all(&kinds, &ground.url()?, SIZE).await?;
    let mut record = Record::new("checkout");
    // Short, and the differences are small: three times as many.
    for slot in slots(rivals.len(), rounds()? * 3) {
        let rival = &rivals[slot.rival];
        let took = each(lasts(), |times| rival.checkouts(times)).await?;
        if slot.counts {
            let name = kinds[slot.rival].name();
            record.value(
                "idle, 1 task",
                name,
                ("checkout and return", "ns"),
                took * 1e9,
            );
        }
    }
    record.finish()
}

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

/// leadpool's own variants.
fn variants(runtime: &Runtime) {
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
}

fn one_by_one(criterion: &mut Criterion, runtime: &Runtime) {
    let kinds = [Kind::DeadpoolFast, Kind::Leadpool];
    let (_ground, rivals) = runtime.block_on(async {
        let ground = Ground::start(0).await.unwrap();
        let url = ground.url().unwrap();
        let rivals = open_all(&kinds, &url, SIZE).await.unwrap();
        (ground, rivals)
    });
    let mut group = criterion.benchmark_group("checkout");
    for (kind, rival) in kinds.iter().zip(&rivals) {
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let mut took = Duration::ZERO;
                    let mut left = times;
                    while left > 0 {
                        let now = left.min(1_000_000);
                        let begun = Instant::now();
                        rival.checkouts(now as u32).await.unwrap();
                        took += begun.elapsed();
                        left -= now;
                    }
                    took
                })
            });
        });
    }
    group.finish();
}

fn main() -> Result<(), Error> {
    run(by_turns())?;
    if !is_recorded() {
        let runtime = Runtime::new()?;
        variants(&runtime);
        if is_bench() {
            let mut criterion = Criterion::default().configure_from_args();
            one_by_one(&mut criterion, &runtime);
            criterion.final_summary();
        }
    }
    Ok(())
}
