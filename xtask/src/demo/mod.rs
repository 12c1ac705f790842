//! `cargo xtask demo`: an application that goes on working while its primary is lost.

mod fault;
mod live;
mod observer;
mod report;
mod workload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use leadpool_testkit::{Cluster, PgInstall};

use self::{
    fault::Fault,
    live::Live,
    report::{FaultReport, Report},
    workload::{Leadpool, Plain, Workload},
};
use crate::{Result, block_on, postgres};

/// How long the stand-in for a failover manager takes to act on a killed or frozen primary.
const MANAGER_ACTS_AFTER: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which faults, in which order.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kill,switchover,freeze"
    )]
    faults: Vec<Fault>,
    /// How often to go through them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many tasks write.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// How many tasks read.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1000))]
    readers: u32,
    /// How many seconds to work undisturbed before and after each fault.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    hold_seconds: u64,
    /// Decides the pauses of the workers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// Run the same on a plain deadpool-postgres pool, and show both side by side.
    #[arg(long)]
    compare: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    block_on(play_all(&args, &install))
}

async fn play_all(args: &Args, install: &PgInstall) -> Result<()> {
    let ours = play::<Leadpool>(args, install).await?;
    let plain = match args.compare {
        true => Some(play::<Plain>(args, install).await?),
        false => None,
    };
    print!("{}", report::table(&ours, plain.as_ref()));
    if args.json {
        println!("{}", report::json(&ours, plain.as_ref())?);
    }
    Ok(())
}

/// The whole play on one kind of pool, from an empty cluster to the count at the end.
async fn play<W: Workload>(args: &Args, install: &PgInstall) -> Result<Report> {
    let live = Live::new(W::NAME);
    live.stage("starting 1 primary and 2 standbys, synchronous replication");
    let servers = Arc::new(
        Cluster::builder()
            .install(install.clone())
            .synchronous(true)
            .start()
            .await?,
    );
    let client = servers.connect(0).await?;
    client
        .batch_execute(
            "CREATE TABLE ledger (worker int, entry bigint); \
             CREATE TABLE observed (at timestamptz DEFAULT clock_timestamp())",
        )
        .await?;
    drop(client);
    servers.wait_replayed().await?;

    let hold = Duration::from_secs(args.hold_seconds);
    let workload = W::start(&servers.url(), args.workers, args.readers, args.seed).await?;
    let book = workload.book();
    live.watch(book.clone());
    let mut faults = Vec::new();
    for round in 1..=args.rounds {
        for fault in &args.faults {
            let round = match args.rounds {
                1 => String::new(),
                rounds => format!(" (round {round} of {rounds})"),
            };
            live.stage(&format!("working{round}"));
            tokio::time::sleep(hold).await;
            live.stage(&format!("{}{round}", fault.describe()));
            let old = servers.addr(servers.primary())?.port();
            book.mark();
            let observed = fault::apply(*fault, &servers, MANAGER_ACTS_AFTER).await?;
            let new = servers.addr(servers.primary())?.port();
            tokio::time::sleep(hold).await;
            // Where the old primary wakes up, it is still there: nobody has told it.
            fault::aftermath(*fault, &servers, observed.old_primary, hold).await?;
            let seen = book.since_mark(old, new, observed.accepted_at);
            faults.push(FaultReport::new(*fault, &observed, &seen));
            live.stage("healing the cluster");
            servers.heal().await?;
        }
    }
    live.stage("working");
    tokio::time::sleep(hold).await;
    live.stage("counting");
    let begun = Instant::now();
    workload.stop().await;
    live.end();
    Report::count(W::NAME, &servers, &book, faults, begun.elapsed()).await
}

impl Fault {
    fn describe(self) -> String {
        let name = self
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        format!("fault: {}", name.unwrap_or_default())
    }
}
