//! `cargo xtask soak`: thousands of connects while pools come and go and passwords and certificates
//! change, and a count of what is left.
//!
//! What a pool leaks shows as a task, an open file or memory that stays after each round. So after
//! every round, once all is quiet, they are counted.

mod census;
mod rotation;
mod round;

use std::{sync::Arc, time::Instant};

use leadpool::{Cluster, Config, Pool};
use leadpool_testkit::{Cluster as Servers, PgInstall};

use self::{census::Census, rotation::Rotation, round::Round};
use crate::{Result, block_on, postgres};

/// Each round opens about so many connections.
const ROUND: u64 = 250;
/// Shorter soaks have this many rounds all the same, so that growth can be told from noise.
const LEAST_ROUNDS: u64 = 8;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many connections to open, at least.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    connects: u64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    Census::is_possible()?;
    let install = postgres::find_or_install()?;
    block_on(soak(&args, &install))
}

async fn soak(args: &Args, install: &PgInstall) -> Result<()> {
    let mut rotation = Rotation::new()?;
    let servers = Servers::builder().install(install.clone());
    let servers = Arc::new(rotation.start(servers).await?);
    let before = Census::take(&servers).await?;
    println!("before  {before}");
    let begun = Instant::now();
    let held = before.files + servers.hosts();
    let (connects, history) = rounds(args.connects, held, &servers, &mut rotation).await?;
    let after = Census::settled(&servers, &before).await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("after   {after}   {connects} connects in {seconds:.1} s");
    println!("rotated {rotation}");
    rotation.judge()?;
    judge([&before, &after], held, &history)
}

/// Plays the rounds: how many connections were opened, and what was left after each.
///
/// No more than so many files may be `held` then: beside those of before, the connection with which
/// a pool asks each host. A host that was restarted lacks its one until it is asked again.
async fn rounds(
    connects: u64,
    held: usize,
    servers: &Arc<Servers>,
    rotation: &mut Rotation,
) -> Result<(u64, Vec<Census>)> {
    let rounds = (connects / ROUND).max(LEAST_ROUNDS);
    // One pool stays for all of them: what grows with its age shows too.
    let veteran = pool(rotation.config(servers, 0)?).await?;
    let mut history: Vec<Census> = Vec::new();
    let mut done = 0;
    for number in 1..=rounds {
        let share = (connects - done.min(connects)).div_ceil(rounds - number + 1);
        rotation.certificates(servers).await?;
        let newcomer = pool(rotation.config(servers, number)?).await?;
        let round = Round {
            number,
            servers,
            rotation,
            pools: [&veteran, &newcomer],
            connects: share,
        };
        done += round.play().await?;
        round::end(number, newcomer).await;
        let mut expected = match history.get(warm_up(rounds)).or(history.last()) {
            Some(census) => census.clone(),
            None => Census::take(servers).await?,
        };
        expected.files = held;
        let census = Census::settled(servers, &expected).await;
        println!("{number:>6}  {census}   {done} connects; {rotation}");
        history.push(census);
    }
    drop(veteran);
    Ok((done, history))
}

async fn pool(config: Config) -> Result<Pool> {
    Ok(Pool::new(&Cluster::connect(config).await?))
}

/// How many rounds the servers and the caches may grow: a quarter of all.
fn warm_up(rounds: u64) -> usize {
    usize::try_from(rounds / 4).unwrap_or(usize::MAX)
}

fn judge([before, after]: [&Census; 2], held: usize, history: &[Census]) -> Result<()> {
    let mut leaks = Vec::new();
    let warm = &history[history.len() / 4];
    let last = &history[history.len() - 1];
    for (what, first, last) in [
        ("tasks", before.tasks, after.tasks),
        ("open files", before.files, after.files),
        ("tasks while a pool lives", warm.tasks, last.tasks),
        ("open files while a pool lives", held, last.files),
        ("sessions on the servers", before.sessions, after.sessions),
    ] {
        if last > first {
            leaks.push(format!("{what}: {first} became {last}"));
        }
    }
    // The least of each part, since memory comes and goes.
    let least = |part: &[Census]| part.iter().map(|census| census.memory).min();
    let quarter = history.len() / 4;
    let early = least(&history[quarter..quarter * 2]).unwrap_or_default();
    let late = least(&history[history.len() - quarter..]).unwrap_or_default();
    let growth = late.saturating_sub(early);
    println!(
        "memory grew by {} KiB after the warm-up ({} KiB allowed)",
        growth / 1024,
        census::MEMORY_ALLOWED / 1024
    );
    for (what, first, last) in [
        ("memory", before.memory, after.memory),
        ("memory while a pool lives", early, late),
    ] {
        if last > first + census::MEMORY_ALLOWED {
            leaks.push(format!("{what}: {first} bytes became {last}"));
        }
    }
    if leaks.is_empty() {
        println!("nothing is left behind");
        return Ok(());
    }
    Err(format!("leaked: {}", leaks.join("; ")).into())
}
