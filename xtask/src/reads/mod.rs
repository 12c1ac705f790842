//! `cargo xtask reads`: writes, and at once reads what was written, while the standbys are behind on
//! purpose; counts what was not there, and who served.

mod app;
mod report;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::ValueEnum;
use leadpool::{Cluster, Config};
use leadpool_testkit::{Cluster as Servers, PgInstall};
use tokio::task::JoinSet;

use self::{
    app::App,
    report::{Report, Served},
};
use crate::{Result, block_on, postgres};

/// Of so many pairs one is read without a token, to see that there is something to find.
const PLAIN: u64 = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many times each driver writes and reads.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    pairs: u64,
    /// How many workers do that at the same time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
    /// By how much the first standby replays commits late (recovery_min_apply_delay).
    #[arg(long, default_value_t = 50)]
    delay_ms: u64,
    /// How long a read waits for a standby (consistency_wait).
    #[arg(long, default_value_t = 100)]
    wait_ms: u64,
    /// Which drivers; all of them if none is named.
    #[arg(long, value_enum)]
    driver: Vec<Driver>,
}

/// Which driver writes and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    TokioPostgres,
    Sqlx,
    Diesel,
    /// Diesel's own connections over libpq.
    #[cfg(feature = "diesel-blocking")]
    DieselBlocking,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    block_on(reads(&args, &install))
}

async fn reads(args: &Args, install: &PgInstall) -> Result<()> {
    let servers = Servers::builder().install(install.clone()).start().await?;
    prepare(&servers, args).await?;
    println!(
        "1 primary, 1 standby behind by {} ms, 1 prompt; {} workers; consistency_wait {} ms\n",
        args.delay_ms, args.workers, args.wait_ms
    );
    println!("{}", Report::head());
    let drivers = match args.driver.as_slice() {
        [] => Driver::value_variants(),
        named => named,
    };
    let mut stale = 0;
    for driver in drivers {
        let report = play(*driver, &servers, args).await?;
        println!("{report}");
        stale += report.stale;
    }
    println!();
    if stale > 0 {
        return Err(format!("{stale} reads did not show what had been written").into());
    }
    println!("every read at a token showed what had been written");
    Ok(())
}

/// A row for each worker; and the first standby learns to dawdle.
async fn prepare(servers: &Servers, args: &Args) -> Result<()> {
    let client = servers.connect(servers.primary()).await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE reads (worker bigint PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 10); \
             INSERT INTO reads SELECT worker, 0 FROM generate_series(1, {}) AS worker",
            args.workers
        ))
        .await?;
    servers.wait_replayed().await?;
    let client = servers.connect(1).await?;
    let delay = format!(
        "ALTER SYSTEM SET recovery_min_apply_delay = '{}ms'",
        args.delay_ms
    );
    client.batch_execute(&delay).await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    Ok(())
}

async fn play(driver: Driver, servers: &Servers, args: &Args) -> Result<Report> {
    let config = Config::builder(&servers.url())
        .consistency_wait(Duration::from_millis(args.wait_ms))
        .build()?;
    let cluster = Cluster::connect(config).await?;
    let late = servers.addr(1)?.port();
    let app = Arc::new(App::open(driver, &cluster)?);
    // Numbers grow from one driver to the next.
    let number = Arc::new(AtomicU64::new(0));
    let base = app.highest().await?;
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 1..=args.workers {
        let (app, number, pairs) = (app.clone(), number.clone(), args.pairs);
        workers.spawn(async move {
            let mut served = Served::default();
            loop {
                let pair = number.fetch_add(1, Ordering::Relaxed) + 1;
                if pair > pairs {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(served);
                }
                let (worker, n) = (i64::try_from(worker)?, base + i64::try_from(pair)?);
                let token = app.write(worker, n).await?;
                if pair % PLAIN == 0 {
                    served.plain += 1;
                    served.plain_stale += u64::from(app.read(worker).await? < n);
                }
                let (found, by, port) = app.read_at(worker, &token).await?;
                served.add(by, found < n, port == late);
            }
        });
    }
    let mut all = Served::default();
    while let Some(worker) = workers.join_next().await {
        all += worker??;
    }
    Ok(Report::new(driver, all, begun.elapsed()))
}
