//! Eight tasks that write while the primary is lost and a standby promoted half a second later, each
//! pool on a cluster of its own: how soon it writes after the new primary can, and what its callers
//! are told. Killed, a server's system says at once that nobody listens; frozen, it says nothing.
//!
//! A caller who is told an error tries again 5 ms later.
//!
//! Peers are given what their documentation advises for several hosts: all of them, with
//! `target_session_attrs=read-write`. sqlx takes one host.

#![allow(missing_docs, reason = "a program")]

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use leadpool_benches::{
    Error, Ground, Kind, Record, Rival, is_bench, is_quick, rounds, run, slots,
};
use leadpool_testkit::Cluster as Servers;
use tokio::task::JoinSet;

const SIZE: usize = 16;
const WRITERS: usize = 8;
/// Until whoever keeps the cluster has noticed.
const NOTICED: Duration = Duration::from_millis(500);
/// Between a writer's transactions.
const PAUSE: Duration = Duration::from_millis(5);
const OBSERVED: Duration = Duration::from_millis(2);
const KINDS: [Kind; 11] = [
    Kind::DeadpoolFast,
    Kind::Leadpool,
    Kind::DeadpoolVerified,
    Kind::Bb8,
    Kind::Mobc,
    Kind::Sqlx,
    Kind::LeadpoolSqlx,
    Kind::Diesel,
    Kind::DieselFast,
    Kind::LeadpoolDiesel,
    Kind::R2d2,
];

/// What becomes of the primary.
#[derive(Clone, Copy)]
enum Fault {
    Kill,
    Freeze,
}

impl Fault {
    fn case(self) -> &'static str {
        match self {
            Self::Kill => "8 writers, kill and promote",
            Self::Freeze => "8 writers, freeze and promote",
        }
    }
}

/// How long somebody has to come back: it stands for all that is longer.
fn limit() -> Duration {
    match is_quick() || !is_bench() {
        true => Duration::from_secs(2),
        false => Duration::from_secs(10),
    }
}

/// What the writers were told.
#[derive(Default)]
struct Told {
    /// When each write was acknowledged, of each writer.
    acknowledged: [Mutex<Vec<Instant>>; WRITERS],
    errors: AtomicU64,
    stop: AtomicBool,
}

impl Told {
    fn written(&self, writer: usize) -> Vec<Instant> {
        let written = self.acknowledged[writer].lock();
        written.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first after a moment, of each writer.
    fn first_after(&self, moment: Instant) -> Vec<Option<Instant>> {
        let of = |writer| {
            let written = self.written(writer);
            written.into_iter().find(|written| *written > moment)
        };
        (0..WRITERS).map(of).collect()
    }
}

struct Found {
    first: Duration,
    errors: u64,
    without: Duration,
    served: bool,
}

fn url(kind: Kind, servers: &Servers) -> Result<String, Error> {
    Ok(match kind {
        kind if kind.is_ours() => servers.url(),
        Kind::Sqlx => servers.host_url(0)?,
        _ => format!("{}?target_session_attrs=read-write", servers.url()),
    })
}

/// Tries to write to a standby, from outside of any pool, until it is promoted.
async fn ready(servers: &Servers, hosts: [usize; 2]) -> Result<Instant, Error> {
    let mut tasks = JoinSet::new();
    for host in hosts {
        let client = servers.connect(host).await?;
        tasks.spawn(async move {
            let insert = "INSERT INTO t (n) VALUES (0)";
            while client.batch_execute(insert).await.is_err() {
                tokio::time::sleep(OBSERVED).await;
            }
            Instant::now()
        });
    }
    let ready = tasks.join_next().await;
    Ok(ready.ok_or("nobody looks")??)
}

async fn failover(kind: Kind, fault: Fault) -> Result<Found, Error> {
    let ground = Ground::start(2).await?;
    let servers = &ground.servers;
    let rival: Arc<dyn Rival> = kind.open(&url(kind, servers)?, SIZE).await?.into();
    rival.open(WRITERS).await?;
    let told = Arc::new(Told::default());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (told, rival) = (told.clone(), rival.clone());
        writers.spawn(async move {
            while !told.stop.load(Ordering::Relaxed) {
                match rival.transactions(1, 1, 1).await {
                    Ok(()) => {
                        let written = told.acknowledged[writer].lock();
                        let mut written = written.unwrap_or_else(PoisonError::into_inner);
                        written.push(Instant::now());
                    }
                    Err(_) => drop(told.errors.fetch_add(1, Ordering::Relaxed)),
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    let work = Duration::from_millis(if is_bench() { 500 } else { 50 });
    tokio::time::sleep(work).await;
    servers.wait_replayed().await?;

    let lost = Instant::now();
    match fault {
        Fault::Kill => servers.kill(0).await?,
        Fault::Freeze => servers.freeze(0).await?,
    }
    let promoted = async {
        tokio::time::sleep(NOTICED).await;
        servers.failover().await
    };
    let (ready, promoted) = tokio::join!(ready(servers, [1, 2]), promoted);
    let (ready, _) = (ready?, promoted?);
    let all_served = || told.first_after(ready).iter().all(Option::is_some);
    while !all_served() && ready.elapsed() < limit() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ended = Instant::now();
    told.stop.store(true, Ordering::Relaxed);
    // What was on its way is answered by then: this is a write to the new one, which the pool may
    // have reached before the observer.
    let first = told.first_after(lost + NOTICED / 2);
    let errors = told.errors.load(Ordering::Relaxed);
    // Who waits for the frozen one waits until it is dead.
    servers.kill(0).await?;
    writers.shutdown().await;

    let begun = first.iter().flatten().min().copied();
    let without = first.iter().map(|first| first.unwrap_or(ended) - lost);
    Ok(Found {
        first: begun
            .unwrap_or_else(|| ready + limit())
            .saturating_duration_since(ready),
        errors,
        without: without.sum(),
        served: begun.is_some(),
    })
}

async fn by_turns() -> Result<(), Error> {
    let mut record = Record::new("failover");
    // As a test, a peer and a pool of ours show that it works.
    let kinds = if is_bench() { &KINDS[..] } else { &KINDS[..2] };
    // Long ones, each on a fresh cluster: none of them finds anything cold.
    let rounds = rounds()?.min(if is_quick() { 1 } else { 5 });
    for fault in [Fault::Kill, Fault::Freeze] {
        for slot in slots(kinds.len(), rounds).filter(|slot| slot.counts) {
            let kind = kinds[slot.rival];
            let found = failover(kind, fault).await?;
            let mut value = |measure: &str, unit, value| {
                record.value(fault.case(), kind.name(), (measure, unit), value);
            };
            let ms = found.first.as_secs_f64() * 1e3;
            value("first write after ready", "ms", ms);
            value("errors", "", found.errors as f64);
            let without = found.without.as_secs_f64();
            value("time without writes, all writers", "s", without);
            value("came back", "", f64::from(u8::from(found.served)));
        }
    }
    record.finish()
}

fn main() -> Result<(), Error> {
    run(by_turns())
}
