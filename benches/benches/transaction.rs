//! A transaction of one prepared insert: written by hand on a bare pool, by `run_tx` without
//! evidence, with it, and with a token besides.
//!
//! A server's pace drifts more within a minute than these differ. So they take turns, a few
//! transactions each, and what is shown is the median of their ratios within a turn.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stdout, reason = "its result")]

use std::time::Instant;

use leadpool::Pool;
use leadpool_benches::Rivals;

const INSERT: &str = "INSERT INTO t (n) VALUES (1)";
const NAMES: [&str; 4] = [
    "deadpool-postgres, by hand",
    "run_tx without evidence",
    "run_tx",
    "run_tx with a token",
];
/// `run_tx` without evidence.
const BASE: usize = 1;
/// How many transactions a kind runs in its turn.
const IN_TURN: u32 = 50;

async fn bare(pool: &deadpool_postgres::Pool) {
    let mut client = pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let insert = tx.prepare_cached(INSERT).await.unwrap();
    tx.execute(&insert, &[]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn insert(pool: &Pool, evidence: bool) {
    pool.tx()
        .evidence(evidence)
        .run(|tx| async move {
            let insert = tx.prepare_cached(INSERT).await?;
            tx.execute(&insert, &[]).await?;
            Ok(())
        })
        .await
        .unwrap();
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

async fn measure(turns: usize) {
    // A standby would be on another machine, and not take the processors' time from this one.
    let rivals = Rivals::start(0).await.unwrap();
    let with_tokens = Pool::builder(&rivals.servers.url())
        .configure(|config| config.token_table("leadpool_token"))
        .build()
        .await
        .unwrap();
    with_tokens.create_token_table().await.unwrap();
    // What a transaction waits for is the disk: it would hide what is measured here.
    for setting in ["on", "off"] {
        let admin = rivals.servers.connect(0).await.unwrap();
        let sql = format!("ALTER SYSTEM SET synchronous_commit = {setting}");
        admin.batch_execute(&sql).await.unwrap();
        let sql = "SELECT pg_reload_conf()";
        admin.batch_execute(sql).await.unwrap();

        let mut times: [Vec<f64>; 4] = Default::default();
        for turn in 0..turns {
            for place in 0..NAMES.len() {
                let which = (place + turn) % NAMES.len();
                let begun = Instant::now();
                for _ in 0..IN_TURN {
                    match which {
                        0 => bare(&rivals.bare).await,
                        1 => insert(&rivals.leadpool, false).await,
                        2 => insert(&rivals.leadpool, true).await,
                        _ => insert(&with_tokens, true).await,
                    }
                }
                times[which].push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(IN_TURN));
            }
        }
        println!("synchronous_commit = {setting}, {turns} turns of {IN_TURN}");
        for (name, own) in NAMES.iter().zip(&times) {
            let ratios = own.iter().zip(&times[BASE]).map(|(own, base)| own / base);
            let (ratio, time) = (median(ratios.collect()), median(own.clone()));
            println!("{name:>28}: {time:7.1} µs, {ratio:.3} of run_tx without evidence");
        }
    }
}

fn main() {
    // Cargo says so for a bench; a test only looks whether it runs.
    let turns = if std::env::args().any(|argument| argument == "--bench") {
        300
    } else {
        1
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // In a task, where a service's handlers run too.
    runtime.block_on(runtime.spawn(measure(turns))).unwrap();
}
