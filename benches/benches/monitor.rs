//! What a pool costs that nobody uses: processor time of the client, and what each host hears of it.
//! On a cluster of three hosts, each behind a wire that counts.

#![allow(missing_docs, reason = "a program")]

use std::{thread, time::Duration};

use leadpool_benches::{
    Counted, Error, Ground, Kind, Record, Tap, is_bench, is_quick, rounds, run, slots,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;

const CASE: &str = "idle, 3 hosts";
/// Until the pool has found its hosts, and the first look after a change is over.
const SETTLE: Duration = Duration::from_secs(1);
const KINDS: [Kind; 4] = [
    Kind::DeadpoolFast,
    Kind::Leadpool,
    Kind::Sqlx,
    Kind::LeadpoolSqlx,
];

/// Of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Keeps a pool idle, in a thread of its own so that nobody else's time is counted. `begin` is
/// called once it has settled.
fn idle(
    kind: Kind,
    url: &str,
    settle: Duration,
    lasts: Duration,
    begin: impl FnOnce(),
) -> Result<Duration, Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let rival = kind.open(url, 16).await?;
        rival.open(1).await?;
        tokio::time::sleep(settle).await;
        let before = processor_time();
        begin();
        tokio::time::sleep(lasts).await;
        Ok(processor_time() - before)
    })
}

async fn by_turns() -> Result<(), Error> {
    let (settle, lasts) = match (is_bench(), is_quick()) {
        (false, _) => (Duration::ZERO, Duration::from_millis(50)),
        // The monitor looks around every ten seconds or so.
        (true, true) => (SETTLE, Duration::from_secs(12)),
        (true, false) => (SETTLE, Duration::from_secs(30)),
    };
    let ground = Ground::start(2).await?;
    let mut taps = Vec::new();
    for host in 0..ground.servers.hosts() {
        taps.push(Tap::start(ground.servers.addr(host)?).await?);
    }
    let hosts: Vec<String> = taps.iter().map(|tap| tap.addr().to_string()).collect();
    let mut record = Record::new("monitor");
    // Long ones: a few tell enough, and none of them finds anything cold.
    let rounds = rounds()?.min(if is_quick() { 1 } else { 3 });
    for slot in slots(KINDS.len(), rounds).filter(|slot| slot.counts) {
        let kind = KINDS[slot.rival];
        // Who knows no cluster is given the primary alone.
        let known = if kind.is_ours() { hosts.len() } else { 1 };
        let url = format!("postgres://postgres@{}/postgres", hosts[..known].join(","));
        let count = {
            let counts: Vec<_> = taps.iter().map(Tap::counts).collect();
            move || -> Vec<Counted> { counts.iter().map(|counts| counts.now()).collect() }
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let begin = {
            let count = count.clone();
            move || drop(sender.send(count()))
        };
        let alone = thread::spawn(move || {
            let used = idle(kind, &url, settle, lasts, begin)?;
            Ok::<_, Error>((used, count()))
        });
        let before = receiver.await?;
        let ended = tokio::task::spawn_blocking(|| alone.join()).await?;
        let (used, after) = ended.map_err(|_| "the pool's thread panicked")??;
        let seconds = lasts.as_secs_f64();
        let mut value = |measure: &str, unit, value| {
            record.value(CASE, kind.name(), (measure, unit), value);
        };
        value("processor time", "µs/s", used.as_secs_f64() * 1e6 / seconds);
        let sum = |of: fn(&Counted) -> u64| {
            let pairs = before.iter().zip(&after);
            pairs
                .map(|(before, after)| of(after) - of(before))
                .sum::<u64>() as f64
        };
        let each = seconds * known as f64;
        value(
            "statements of a host",
            "1/s",
            sum(|of| of.statements) / each,
        );
        value("bytes of a host", "1/s", sum(|of| of.bytes) / each);
        value("connections opened", "", sum(|of| of.connections));
    }
    record.finish()
}

fn main() -> Result<(), Error> {
    run(by_turns())
}
