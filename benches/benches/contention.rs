//! More tasks than connections: how many checkouts there are in all, how long each waits, and
//! whether all tasks get their share.

#![allow(missing_docs, reason = "a program")]

use hdrhistogram::Histogram;
use leadpool_benches::{
    Contention, Error, Ground, Hold, Kind, Record, is_bench, lasts, open_all, rounds, run, slots,
};

/// Connections, and tasks that want them.
const CROWDS: [(usize, &[usize]); 2] = [(8, &[8, 64]), (16, &[1_000])];
const HOLDS: [(Hold, &str); 2] = [(Hold::Yield, "yield"), (Hold::Statement, "SELECT 1")];

/// What is said about them.
fn note(record: &mut Record, case: &str, name: &str, seen: &Contention) -> Result<(), Error> {
    let mut waits = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    for wait in seen.waits.iter().flatten() {
        waits.saturating_record(*wait);
    }
    let mut value = |measure, unit, value| record.value(case, name, (measure, unit), value);
    let all = waits.len() as f64;
    value("throughput", "1/s", all / seen.took.as_secs_f64());
    for (measure, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let wait = waits.value_at_quantile(quantile) as f64;
        value(measure, "µs", wait / 1e3);
    }
    value("longest wait", "µs", waits.max() as f64 / 1e3);
    let each = seen.waits.iter().map(Vec::len);
    value(
        "fewest of a task",
        "",
        each.clone().min().unwrap_or(0) as f64,
    );
    value("most of a task", "", each.max().unwrap_or(0) as f64);
    Ok(())
}

async fn by_turns() -> Result<(), Error> {
    let ground = Ground::start(0).await?;
    let mut record = Record::new("contention");
    let rounds = rounds()?;
    let kinds = [&Kind::POOLS[..], &Kind::SKETCHES].concat();
    for (size, crowds) in CROWDS {
        let rivals = open_all(&kinds, &ground.url()?, size).await?;
        for tasks in crowds {
            // As many threads for r2d2: as a test that would take longer than all others.
            if *tasks > 100 && !is_bench() {
                continue;
            }
            for (hold, held) in HOLDS {
                let case = format!("{tasks} tasks on {size}, {held}");
                for slot in slots(rivals.len(), rounds) {
                    let seen = rivals[slot.rival].contend(*tasks, hold, lasts()).await?;
                    if slot.counts {
                        note(&mut record, &case, kinds[slot.rival].name(), &seen)?;
                    }
                }
            }
        }
    }
    record.finish()
}

fn main() -> Result<(), Error> {
    run(by_turns())
}
