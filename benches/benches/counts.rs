//! What times don't show on a machine with other work: how often and how much a checkout and a
//! transaction of one insert allocate, and how many instructions a checkout takes, if `valgrind` is
//! there.

#![allow(missing_docs, reason = "a program")]

use std::{
    env,
    process::{Command, Stdio},
};

use allocation_counter::measure;
use leadpool_benches::{Error, Ground, Kind, Record, Rival, is_bench};
use tokio::runtime::{Builder, Runtime};

/// Of one kind of pool.
const TIMES: u32 = 1_000;
/// The monitor may work in between, so the least of several counts.
const MEASUREMENTS: u32 = 3;
const SIZE: usize = 4;
const KINDS: [Kind; 13] = [
    Kind::DeadpoolFast,
    Kind::Leadpool,
    Kind::DeadpoolVerified,
    Kind::Bb8,
    Kind::Bb8NoTest,
    Kind::Mobc,
    Kind::MobcNoTest,
    Kind::Sqlx,
    Kind::SqlxNoTest,
    Kind::LeadpoolSqlx,
    Kind::Diesel,
    Kind::DieselFast,
    Kind::LeadpoolDiesel,
];
/// Whose instructions are counted: those that ask the server nothing.
const INSTRUCTED: [Kind; 8] = [
    Kind::DeadpoolFast,
    Kind::Leadpool,
    Kind::Bb8NoTest,
    Kind::MobcNoTest,
    Kind::SqlxNoTest,
    Kind::LeadpoolSqlx,
    Kind::DieselFast,
    Kind::LeadpoolDiesel,
];
/// Set, this program is what `valgrind` runs: the name of the kind, and where the server is.
const KIND: &str = "LEADPOOL_BENCH_KIND";
const URL: &str = "LEADPOOL_BENCH_URL";

/// Everything on one thread: no other is counted.
fn runtime() -> Result<Runtime, Error> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn allocations(
    record: &mut Record,
    case: &str,
    kind: Kind,
    times: u32,
    work: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let mut least: Option<(u64, u64)> = None;
    for _ in 0..MEASUREMENTS {
        let mut done = Ok(());
        let counted = measure(|| done = work());
        done?;
        let counted = (counted.count_total, counted.bytes_total);
        least = Some(least.map_or(counted, |least| least.min(counted)));
    }
    let (count, bytes) = least.unwrap_or_default();
    let mut value = |measure, unit, value| {
        let each = value as f64 / f64::from(times);
        record.value(case, kind.name(), (measure, unit), each);
    };
    value("allocations", "", count);
    value("allocated", "bytes", bytes);
    Ok(())
}

/// By its name `valgrind` knows when to begin and to end.
#[inline(never)]
fn instructed_checkouts(runtime: &Runtime, rival: &dyn Rival, times: u32) -> Result<(), Error> {
    runtime.block_on(rival.checkouts(std::hint::black_box(times)))
}

/// What runs under `valgrind`.
fn child(name: &str) -> Result<(), Error> {
    let mut kinds = INSTRUCTED.into_iter();
    let kind = kinds.find(|kind| kind.name() == name);
    let kind = kind.ok_or("no such kind")?;
    let url = env::var(URL)?;
    let runtime = runtime()?;
    let rival = runtime.block_on(async {
        let rival = kind.open(&url, SIZE).await?;
        rival.open(SIZE).await?;
        rival.checkouts(100).await?;
        Ok::<_, Error>(rival)
    })?;
    instructed_checkouts(&runtime, &*rival, TIMES)
}

/// How many instructions a checkout takes; None if there is no `valgrind`.
fn instructions(kind: Kind, url: &str) -> Result<Option<f64>, Error> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*instructed_checkouts*")
        .arg(env::current_exe()?)
        .env(KIND, kind.name())
        .env(URL, url)
        .stdin(Stdio::null());
    let Ok(output) = valgrind.output() else {
        return Ok(None);
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let mut words = said
        .lines()
        .filter_map(|line| line.split_once("Collected :"));
    let collected = words
        .next()
        .and_then(|(_, count)| count.trim().parse().ok());
    match collected {
        Some(collected) if output.status.success() => {
            let collected: f64 = collected;
            Ok(Some(collected / f64::from(TIMES)))
        }
        _ => Err(format!("{}: valgrind said: {said}", kind.name()).into()),
    }
}

fn main() -> Result<(), Error> {
    if let Ok(name) = env::var(KIND) {
        return child(&name);
    }
    // The servers' own tasks are on other threads.
    let servers = Runtime::new()?;
    let ground = servers.block_on(Ground::start(0))?;
    let url = ground.url()?;
    let mut record = Record::new("counts");
    let times = if is_bench() { TIMES } else { 10 };
    for kind in KINDS {
        let runtime = runtime()?;
        let rival = runtime.block_on(async {
            let rival = kind.open(&url, SIZE).await?;
            rival.open(SIZE).await?;
            rival.checkouts(times).await?;
            rival.transactions(1, times, 1).await?;
            Ok::<_, Error>(rival)
        })?;
        allocations(&mut record, "checkout", kind, times, || {
            runtime.block_on(rival.checkouts(times))
        })?;
        allocations(
            &mut record,
            "transaction of one insert",
            kind,
            times,
            || runtime.block_on(rival.transactions(1, times, 1)),
        )?;
    }
    // It takes a while to begin.
    if is_bench() {
        for kind in INSTRUCTED {
            let Some(count) = instructions(kind, &url)? else {
                println!("no `valgrind`: instructions are not counted");
                break;
            };
            record.value("checkout", kind.name(), ("instructions", ""), count);
        }
    }
    record.finish()
}
