//! A checkout, a prepared `SELECT 1`, and a return, by 1, 16 and 64 tasks on a pool of 16.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::Instant;

use criterion::Criterion;
use leadpool_benches::{
    Error, Ground, Kind, Record, each, is_bench, is_recorded, lasts, open_all, rounds, run, slots,
};
use tokio::runtime::Runtime;

const SIZE: usize = 16;
const TASKS: [usize; 3] = [1, 16, 64];

async fn by_turns() -> Result<(), Error> {
    let kinds: Vec<Kind> = Kind::POOLS.into_iter().chain([Kind::Held]).collect();
    let ground = Ground::start(0).await?;
    let rivals = open_all(&kinds, &ground.url()?, SIZE).await?;
    let mut record = Record::new("select_one");
    for tasks in TASKS {
        let case = format!("{tasks} at once");
        for slot in slots(rivals.len(), rounds()?) {
            let rival = &rivals[slot.rival];
            let took = each(lasts(), |times| rival.select_ones(tasks, times)).await?;
            if slot.counts {
                let one = took * 1e6 / tasks as f64;
                let name = kinds[slot.rival].name();
                record.value(&case, name, ("time of each", "µs"), one);
            }
        }
    }
    record.finish()
}

fn one_by_one(criterion: &mut Criterion, runtime: &Runtime) {
    let kinds = [
        Kind::DeadpoolFast,
        Kind::Leadpool,
        Kind::SqlxNoTest,
        Kind::LeadpoolSqlx,
        Kind::DieselFast,
        Kind::LeadpoolDiesel,
    ];
    let (_ground, rivals) = runtime.block_on(async {
        let ground = Ground::start(0).await.unwrap();
        let url = ground.url().unwrap();
        let rivals = open_all(&kinds, &url, SIZE).await.unwrap();
        (ground, rivals)
    });
    let mut group = criterion.benchmark_group("select_one");
    group.sample_size(20);
    for (kind, rival) in kinds.iter().zip(&rivals) {
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let begun = Instant::now();
                    rival.select_ones(1, times as u32).await.unwrap();
                    begun.elapsed()
                })
            });
        });
    }
    group.finish();
}

fn main() -> Result<(), Error> {
    run(by_turns())?;
    if is_bench() && !is_recorded() {
        let mut criterion = Criterion::default().configure_from_args();
        one_by_one(&mut criterion, &Runtime::new()?);
        criterion.final_summary();
    }
    Ok(())
}
