//! What an idle connection holds on the heap, by an allocator that counts. The driver's own, without
//! a pool, is what nobody can do without.

#![allow(missing_docs, reason = "a program")]

use std::time::Duration;

use allocation_counter::measure;
use leadpool_benches::{Error, Ground, Kind, Record, rounds, slots};
use tokio::runtime::{Builder, Runtime};

const MANY: usize = 16;
/// Until what has been returned is idle.
const REST: Duration = Duration::from_millis(30);
/// Not r2d2: its connections live in other threads, which are not counted.
const KINDS: [Kind; 9] = [
    Kind::Held,
    Kind::Leadpool,
    Kind::DeadpoolFast,
    Kind::Bb8,
    Kind::Mobc,
    Kind::Sqlx,
    Kind::LeadpoolSqlx,
    Kind::DieselFast,
    Kind::LeadpoolDiesel,
];

/// Bytes that stay.
fn kept(runtime: &Runtime, work: impl AsyncFnOnce() -> Result<(), Error>) -> Result<i64, Error> {
    let mut done = Ok(());
    let counted = measure(|| {
        done = runtime.block_on(async {
            work().await?;
            tokio::time::sleep(REST).await;
            Ok(())
        });
    });
    done.map(|()| counted.bytes_current)
}

fn main() -> Result<(), Error> {
    // Everything on this thread: others are not counted. The servers' own are on another.
    let servers = Runtime::new()?;
    let ground = servers.block_on(Ground::start(0))?;
    let url = ground.url()?;
    let mut record = Record::new("memory");
    for slot in slots(KINDS.len(), rounds()?) {
        let kind = KINDS[slot.rival];
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut rivals = Vec::new();
        let first = kept(&runtime, async || {
            let rival = kind.open(&url, MANY).await?;
            rival.open(1).await?;
            rivals.push(rival);
            Ok(())
        })?;
        let more = kept(&runtime, async || match kind {
            // It has opened all at once, and one for transactions.
            Kind::Held => {
                rivals.push(kind.open(&url, MANY - 2).await?);
                Ok(())
            }
            _ => rivals[0].open(MANY).await,
        })?;
        drop((rivals, runtime));
        if slot.counts {
            let each = more as f64 / (MANY - 1) as f64;
            record.value("16 idle", kind.name(), ("each connection", "bytes"), each);
            if kind != Kind::Held {
                let measure = ("pool and the first", "bytes");
                record.value("16 idle", kind.name(), measure, first as f64);
            }
        }
    }
    record.finish()
}
