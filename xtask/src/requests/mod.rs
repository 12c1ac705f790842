//! `cargo xtask requests`: a web application under load while its primary is lost, and what its
//! clients were told.

mod app;
mod book;
mod load;
mod report;
mod waits;

use std::{sync::Arc, time::Duration};

use leadpool_testkit::PgInstall;
use tokio::time::sleep;

pub(crate) use self::{
    app::tokens,
    book::Book,
    load::{Load, Plan, is_answered, places},
    report::{answers, texts},
};
use self::{
    app::{App, Kind},
    book::Verdict,
    report::{FaultReport, Report},
};
use crate::{
    Replication, Result, block_on,
    live::Live,
    postgres,
    servers::{self, Fault, Stack},
};

/// By turns.
const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Switchover, Fault::Freeze];
/// How many notes are looked for at a time.
const PAGE: u64 = 50_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the primary is lost: killed, moved in good order and frozen, by turns.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    failovers: u32,
    /// How many requests are due in each second, half of them writing.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How many requests may be under way at the same time. Those that are due beyond wait, and it
    /// is told how many there were.
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// How many seconds to serve undisturbed before and after each fault.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    hold_seconds: u64,
    /// How the servers replicate. Where they do so asynchronously, a failover may lose what was
    /// acknowledged, and what is lost is told, but is no failure.
    #[arg(long, value_enum, default_value = "synchronous")]
    replication: Replication,
    /// Decides which request writes, and which reads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Afterwards do the same to the same application on plain sqlx, on a cluster of its own, and
    /// show both side by side.
    #[arg(long)]
    compare: bool,
    /// Print one JSON list as the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    block_on(play_all(args, install))
}

async fn play_all(args: Args, install: PgInstall) -> Result<()> {
    let places = places(args.in_flight)?;
    if places < args.in_flight {
        eprintln!("only {places} requests may be under way: this process may open no more files");
    }
    let args = Args {
        in_flight: places,
        ..args
    };
    let mut reports = vec![play(Kind::Leadpool, &args, &install).await?];
    if args.compare {
        reports.push(play(Kind::Plain, &args, &install).await?);
    }
    println!(
        "{} failovers, {} requests/s, {}\n",
        args.failovers,
        args.rate,
        Stack::describe(servers::Kind::Plain, args.replication)
    );
    print!("{}", report::tables(&reports));
    if args.json {
        println!("{}", report::json(&reports)?);
    }
    match reports[0].complaint(args.replication) {
        None => Ok(()),
        Some(complaint) => Err(complaint.into()),
    }
}

/// One application, from an empty cluster to the count at the end.
async fn play(kind: Kind, args: &Args, install: &PgInstall) -> Result<Report> {
    let live = Live::new(kind.name());
    let stack = servers::Kind::Plain;
    live.stage(&format!(
        "starting {}",
        Stack::describe(stack, args.replication)
    ));
    let servers = Arc::new(Stack::start(stack, install, args.replication).await?);
    let (tokens, _) = tokens()?;
    servers
        .prepare(&format!("{}; {tokens}", app::TABLE))
        .await?;

    let book = Arc::new(Book::default());
    let app = App::start(kind, &servers, &book).await?;
    let plan = Plan {
        address: app.address,
        rate: args.rate,
        most: args.in_flight,
        seed: args.seed,
    };
    let load = Load::start(plan, book.clone());
    live.watch({
        let book = book.clone();
        move || book.progress()
    });
    let faults = lose_primaries(args, &servers, &book, &live).await?;
    live.stage("answering the last requests");
    load.stop().await?;
    app.stop().await?;
    live.stage("counting");
    let verdict = count(&servers, &book).await?;
    live.end();
    Ok(Report {
        name: kind.name(),
        totals: book.totals(),
        verdict,
        faults,
    })
}

async fn lose_primaries(
    args: &Args,
    servers: &Arc<Stack>,
    book: &Book,
    live: &Live,
) -> Result<Vec<FaultReport>> {
    let hold = Duration::from_secs(args.hold_seconds);
    let mut faults = Vec::new();
    live.stage("serving");
    sleep(hold).await;
    let by_turns = FAULTS.into_iter().cycle();
    for (number, fault) in (1..=args.failovers).zip(by_turns) {
        let of = format!("({number} of {})", args.failovers);
        live.stage(&format!("fault: {} {of}", fault.name()));
        book.mark();
        let observed = servers::apply(fault, servers).await?;
        sleep(hold).await;
        // A host that was frozen wakes up beside its successor.
        servers.aftermath(fault, observed.old_primary, hold).await?;
        live.stage(&format!("healing the cluster {of}"));
        servers.heal(fault, observed.old_primary).await?;
        live.stage(&format!("serving {of}"));
        sleep(hold).await;
        faults.push(FaultReport::new(fault, &observed, book.since_mark()));
    }
    Ok(faults)
}

/// Compares what was told with what is in the table.
async fn count(servers: &Stack, book: &Book) -> Result<Verdict> {
    let client = servers.connect(servers.primary().await?).await?;
    let notes = book.notes();
    let mut there = Vec::new();
    for page in 0..=notes / PAGE {
        let from = i64::try_from(page * PAGE)?;
        // The last one has all that nobody has asked for.
        let to = match page == notes / PAGE {
            true => i64::MAX,
            false => i64::try_from((page + 1) * PAGE - 1)?,
        };
        let rows = client.query(app::COUNT, &[&from, &to]).await?;
        there.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    Ok(book.compare(there))
}
