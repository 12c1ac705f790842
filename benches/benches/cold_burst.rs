//! 500 tasks that come at once to a pool of 16 without open connections.

#![allow(missing_docs, reason = "a program")]

use std::time::Duration;

use leadpool_benches::{Error, Ground, Kind, Record, is_bench, rounds, run, slots};

const SIZE: usize = 16;
/// What the servers do to end the connections of the one before.
const REST: Duration = Duration::from_millis(50);

async fn by_turns() -> Result<(), Error> {
    let tasks = if is_bench() { 500 } else { 40 };
    let ground = Ground::start(0).await?;
    let url = ground.url()?;
    let mut record = Record::new("cold_burst");
    let case = format!("{tasks} tasks on an empty pool of {SIZE}");
    for slot in slots(Kind::POOLS.len(), rounds()?) {
        let kind = Kind::POOLS[slot.rival];
        let rival = kind.open(&url, SIZE).await?;
        let served = rival.burst(tasks).await?;
        drop(rival);
        tokio::time::sleep(REST).await;
        if slot.counts {
            let first = served.iter().min().copied().unwrap_or_default();
            let last = served.iter().max().copied().unwrap_or_default();
            for (measure, took) in [("all served", last), ("first served", first)] {
                let ms = took.as_secs_f64() * 1e3;
                record.value(&case, kind.name(), (measure, "ms"), ms);
            }
        }
    }
    record.finish()
}

fn main() -> Result<(), Error> {
    run(by_turns())
}
