//! `cargo xtask nemesis`: mixed transactions while everything goes wrong, and a count at the end.

mod book;
mod checker;
mod faults;
mod report;
mod schedule;
mod workload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use leadpool::Pool;
use leadpool_testkit::{Cluster, PgInstall};

use self::{
    book::Book,
    report::{Report, Run},
    schedule::{Hosts, Schedule},
    workload::Workload,
};
use crate::{Replication, Result, block_on, postgres};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Decides the faults, their order and the workers' choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to play, one after the other, from the first on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// How long to play each seed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    #[arg(long, value_enum, default_value = "synchronous")]
    replication: Replication,
    /// Leave a token with each transaction, so that every outcome can be proved.
    #[arg(long)]
    tokens: bool,
    /// How many tasks write.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=200))]
    workers: u32,
    /// Print each fault as it comes.
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    block_on(play_all(&args, &install))
}

async fn play_all(args: &Args, install: &PgInstall) -> Result<()> {
    let mut total = Report::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        match play(args, install, seed).await {
            Ok(run) => {
                eprintln!("seed {seed}: {}", run.line());
                total.add(seed, run);
            }
            // What the others found is not thrown away.
            Err(error) => {
                eprintln!("seed {seed}: {error}");
                total.fail(seed);
            }
        }
    }
    print!("{}", total.table());
    if args.json {
        println!("{}", total.json()?);
    }
    if total.is_sound() {
        Ok(())
    } else {
        let seeds = total.unsound_seeds();
        Err(format!("a promise was broken, or a seed did not come to its end; play again with --seed: {seeds}").into())
    }
}

/// One seed, from an empty cluster to the count at the end.
async fn play(args: &Args, install: &PgInstall, seed: u64) -> Result<Run> {
    let is_synchronous = args.replication == Replication::Synchronous;
    let servers = Arc::new(start(install, is_synchronous).await?);
    let hosts = Hosts::default();
    hosts.set(&servers, &[])?;
    let pool = connect(&servers, &hosts, args.tokens).await?;
    let book = Arc::new(Book::default());
    workload::prepare(&servers).await?;
    let workload = Workload::start(&pool, &book, args.workers, seed, !is_synchronous);
    let mut schedule = Schedule::new(&servers, &book, hosts, seed, is_synchronous);
    schedule.set_verbose(args.verbose);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    schedule.play(until).await?;
    // Whatever waits gets its chance.
    workload.stop().await?;
    let failovers = schedule.failovers();
    let counted = checker::count(&servers, &pool, &book, failovers, is_synchronous).await;
    pool.close(Duration::from_secs(2)).await;
    counted
}

async fn start(install: &PgInstall, is_synchronous: bool) -> Result<Cluster> {
    let mut builder = Cluster::builder().install(install.clone()).proxies(true);
    if is_synchronous {
        // On every host, so that whoever is promoted is synchronous from its first moment on.
        builder = builder.conf("synchronous_standby_names", "ANY 1 (*)");
    }
    Ok(builder.start().await?)
}

async fn connect(servers: &Cluster, hosts: &Hosts, tokens: bool) -> Result<Pool> {
    let builder = Pool::builder(&servers.proxied_url())
        .discovery(hosts.clone())
        .configure(|config| {
            let config = config.retry_budget(10_000).retries(50);
            if tokens {
                config.token_table("leadpool_token")
            } else {
                config
            }
        });
    let pool = builder.build().await?;
    pool.create_token_table().await?;
    Ok(pool)
}
