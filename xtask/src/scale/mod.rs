//! `cargo xtask scale`: one failover and a fleet of clients, in virtual time.
//!
//! Each client is the real state machine with the real settings; servers and network are modelled.
//! Nothing runs in parallel and no clock is read, so the same seed gives the same figures anywhere.

mod clock;
mod fleet;
mod network;
mod page;
mod plot;
mod pooling;
mod probing;
mod scenario;
mod server;
mod tally;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
mod world;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Parser;

use self::{
    fleet::Fleet,
    scenario::{Model, Scenario},
    tally::Tally,
};
use crate::Result;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What is left to chance follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The largest fleet; besides, each smaller power of ten is played.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    clients: u32,
    /// How many checkouts of each client wait for the new writer.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    checkouts: u32,
    /// How long after the fault a standby is promoted.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    promotion_ms: u64,
    /// How many connections a server opens per second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connects_per_second: u32,
    /// How many connects wait in the kernel at most (Linux: net.core.somaxconn).
    #[arg(long, default_value_t = 4_096)]
    backlog: usize,
    /// How many sessions a server allows, where that is not what is looked at.
    #[arg(long, default_value_t = 262_143)]
    max_connections: usize,
    /// How many cores of a server answer probes.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    cores: u32,
    /// Where the page and the plots are written.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/results"))]
    out: PathBuf,
}

impl Args {
    fn model(&self) -> Model {
        Model {
            round_trip: Duration::from_micros(500),
            jitter: Duration::from_micros(500),
            connects_per_second: self.connects_per_second,
            backlog: self.backlog,
            max_connections: self.max_connections,
            probe_cost: Duration::from_micros(20),
            cores: self.cores,
        }
    }

    /// The command that repeats it.
    fn command(&self) -> String {
        let mut command = format!("cargo xtask scale --seed {}", self.seed);
        let defaults = Self::default();
        let mut add = |name: &str, value: u64, default: u64| {
            if value != default {
                command.push_str(&format!(" --{name} {value}"));
            }
        };
        add("clients", self.clients.into(), defaults.clients.into());
        add(
            "checkouts",
            self.checkouts.into(),
            defaults.checkouts.into(),
        );
        add("promotion-ms", self.promotion_ms, defaults.promotion_ms);
        add(
            "connects-per-second",
            self.connects_per_second.into(),
            defaults.connects_per_second.into(),
        );
        add("backlog", self.backlog as u64, defaults.backlog as u64);
        add(
            "max-connections",
            self.max_connections as u64,
            defaults.max_connections as u64,
        );
        add("cores", self.cores.into(), defaults.cores.into());
        command
    }
}

impl Default for Args {
    fn default() -> Self {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            args: Args,
        }
        Alone::parse_from(["scale"]).args
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    if cfg!(debug_assertions) && args.clients > 1_000 {
        eprintln!(
            "this build is not optimised, and takes some ten times as long as one with --release"
        );
    }
    let files = files(&args)?;
    fs::create_dir_all(&args.out)?;
    for (name, text) in files {
        let path = args.out.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// What is written: names, and what is in them.
fn files(args: &Args) -> Result<Vec<(String, String)>> {
    let fleet = Fleet::of(args)?;
    let tallies = play_all(&fleet.scenarios());
    let played = fleet.played(tallies);
    let mut files = vec![("scale.md".to_owned(), page::page(args, &played)?)];
    files.extend(plot::plots(&played)?);
    Ok(files)
}

/// Plays each, on as many threads as there are cores; none knows of another.
fn play_all(scenarios: &[Scenario]) -> Vec<Tally> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; scenarios.len()]);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let at = scenario.number;
                    let tally = world::play(scenario);
                    done.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(tally);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().flatten().collect()
}
