//! A transaction of one insert and one of five, on networks of different length: written by hand on
//! the peers, `run_tx` on leadpool's pools. Round trips are counted on the way.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::{Duration, Instant};

use criterion::Criterion;
use leadpool_benches::{
    Error, Ground, Kind, Record, each, is_bench, is_recorded, lasts, open_all, rounds, run, slots,
};
use tokio::runtime::Runtime;

const SIZE: usize = 16;
/// Each way.
const DELAYS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_micros(500),
    Duration::from_millis(2),
];
const INSERTS: [u32; 2] = [1, 5];
const TASKS: [usize; 2] = [1, 16];
const KINDS: [Kind; 11] = [
    Kind::DeadpoolFast,
    Kind::Leadpool,
    Kind::LeadpoolSingleShot,
    Kind::Bb8,
    Kind::Mobc,
    Kind::Sqlx,
    Kind::SqlxNoTest,
    Kind::LeadpoolSqlx,
    Kind::Diesel,
    Kind::DieselFast,
    Kind::LeadpoolDiesel,
];
/// Whose round trips are counted.
const COUNTED: u32 = 5;

async fn by_turns() -> Result<(), Error> {
    let ground = Ground::behind_proxies(0).await?;
    let proxy = ground.servers.proxy(0)?;
    let rivals = open_all(&KINDS, &ground.servers.proxied_url(), SIZE).await?;
    for rival in &rivals {
        // What is prepared once is prepared now.
        rival.transactions(SIZE, 2, 1).await?;
    }
    let mut record = Record::new("transactions");
    let rounds = rounds()?;
    for delay in DELAYS {
        proxy.delay(delay, delay);
        for inserts in INSERTS {
            for tasks in TASKS {
                let many = if inserts == 1 { "insert" } else { "inserts" };
                let case = format!("{inserts} {many}, {delay:?} each way, {tasks} at once");
                let able: Vec<_> = KINDS
                    .iter()
                    .zip(&rivals)
                    .filter(|(kind, _)| inserts == 1 || kind.takes_many())
                    .collect();
                for slot in slots(able.len(), rounds) {
                    let (kind, rival) = able[slot.rival];
                    let name = kind.name();
                    let work = |times| rival.transactions(tasks, times, inserts);
                    let took = each(lasts(), work).await?;
                    if !slot.counts {
                        continue;
                    }
                    let one = took * 1e6 / tasks as f64;
                    record.value(&case, name, ("time of each", "µs"), one);
                    if tasks == 1 {
                        let before = proxy.turns();
                        rival.transactions(1, COUNTED, inserts).await?;
                        let turns = (proxy.turns() - before) as f64 / f64::from(COUNTED);
                        record.value(&case, name, ("round trips", ""), turns);
                    }
                }
            }
        }
    }
    record.finish()
}

fn one_by_one(criterion: &mut Criterion, runtime: &Runtime) {
    let (_ground, rivals) = runtime.block_on(async {
        let ground = Ground::start(0).await.unwrap();
        let url = ground.url().unwrap();
        let rivals = open_all(&KINDS, &url, SIZE).await.unwrap();
        (ground, rivals)
    });
    let mut group = criterion.benchmark_group("transaction_of_one_insert");
    group.sample_size(20);
    for (kind, rival) in KINDS.iter().zip(&rivals) {
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let begun = Instant::now();
                    rival.transactions(1, times as u32, 1).await.unwrap();
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
