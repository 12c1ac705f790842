//! `cargo xtask demo`: an application that goes on working while its primary is lost.

mod book;
mod diesel;
#[cfg(feature = "diesel-blocking")]
mod diesel_blocking;
mod native;
mod report;
mod sqlx;
mod web;
mod workload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use leadpool_testkit::PgInstall;

use self::{
    report::{FaultReport, Report},
    workload::{App, Workload},
};
use crate::{
    Replication, Result, block_on,
    live::Live,
    postgres,
    servers::{self, Fault, Kind, Stack},
};

/// What the application speaks to the servers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// tokio-postgres: leadpool, compared with deadpool-postgres.
    Native,
    /// sqlx: leadpool-sqlx, compared with `sqlx::PgPool`.
    Sqlx,
    /// diesel-async: leadpool-diesel, compared with diesel-async's deadpool.
    Diesel,
    /// diesel over libpq: leadpool-diesel, compared with diesel's r2d2. It is built first, with
    /// libpq.
    DieselBlocking,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the application speaks to the servers with.
    #[arg(long, value_enum, default_value = "native")]
    driver: Driver,
    /// What to play on.
    #[arg(long, value_enum, default_value = "plain")]
    stack: Kind,
    /// How the servers replicate.
    #[arg(long, value_enum, default_value = "synchronous")]
    replication: Replication,
    /// Which faults, in which order. Default: kill, switchover, freeze; with Patroni manager too.
    #[arg(long, value_enum, value_delimiter = ',')]
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
    /// Run the same on the driver's plain pool, and show both side by side.
    #[arg(long)]
    compare: bool,
    #[command(flatten)]
    web: web::Options,
}

impl Args {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        if faults.is_empty() {
            faults = vec![Fault::Kill, Fault::Switchover, Fault::Freeze];
            if self.stack == Kind::Patroni {
                faults.push(Fault::Manager);
            }
        }
        faults
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    if args.web.web {
        return web::run(&args, &install);
    }
    block_on(async {
        match args.driver {
            Driver::Native => play_all::<native::Leadpool, native::Plain>(&args, &install).await,
            Driver::Sqlx => play_all::<sqlx::Leadpool, sqlx::Plain>(&args, &install).await,
            Driver::Diesel => play_all::<diesel::Leadpool, diesel::Plain>(&args, &install).await,
            #[cfg(feature = "diesel-blocking")]
            Driver::DieselBlocking => {
                use diesel_blocking::{Leadpool, Plain};

                play_all::<Leadpool, Plain>(&args, &install).await
            }
            #[cfg(not(feature = "diesel-blocking"))]
            Driver::DieselBlocking => {
                let libpq = crate::postgres::find_or_install_libpq()?;
                eprintln!("Building the demo with libpq.");
                let arguments = std::env::args_os().skip(1);
                crate::rebuilt::run("diesel-blocking", arguments, libpq.variable())
            }
        }
    })
}

async fn play_all<Ours: App, Plain: App>(args: &Args, install: &PgInstall) -> Result<()> {
    let ours = play::<Ours>(args, install).await?;
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
async fn play<A: App>(args: &Args, install: &PgInstall) -> Result<Report> {
    let live = Live::new(A::NAME);
    let what = Stack::describe(args.stack, args.replication);
    live.stage(&format!("starting {what}"));
    let servers = Arc::new(Stack::start(args.stack, install, args.replication).await?);
    let ledger = "CREATE TABLE ledger (worker int, entry bigint)";
    servers.prepare(ledger).await?;

    let hold = Duration::from_secs(args.hold_seconds);
    let app = A::connect(&servers).await?;
    let workload = Workload::start(app, args.workers, args.readers, args.seed);
    let book = workload.book();
    live.watch({
        let book = book.clone();
        move || book.progress()
    });
    let mut faults = Vec::new();
    for round in 1..=args.rounds {
        for fault in &args.faults() {
            let round = match args.rounds {
                1 => String::new(),
                rounds => format!(" (round {round} of {rounds})"),
            };
            live.stage(&format!("working{round}"));
            tokio::time::sleep(hold).await;
            live.stage(&format!("fault: {}{round}", fault.name()));
            book.mark();
            let observed = servers::apply(*fault, &servers).await?;
            let old = servers.addr(observed.old_primary)?;
            let new = servers.addr(observed.new_primary)?;
            tokio::time::sleep(hold).await;
            // Where the old primary wakes up, it is still there: nobody has told it.
            servers
                .aftermath(*fault, observed.old_primary, hold)
                .await?;
            let seen = book.since_mark(old, new, observed.accepted_at);
            faults.push(FaultReport::new(*fault, &observed, &seen));
            live.stage("healing the cluster");
            servers.heal(*fault, observed.old_primary).await?;
        }
    }
    live.stage("working");
    tokio::time::sleep(hold).await;
    live.stage("counting");
    let begun = Instant::now();
    workload.stop().await;
    live.end();
    Report::count(A::NAME, &servers, &book, faults, begun.elapsed()).await
}
