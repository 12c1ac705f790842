//! How long the first writes on a new primary take, counted from the moment at which it is known:
//! with and without connections that were opened beforehand. Prints medians in milliseconds.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::{Duration, Instant};

use leadpool::{Pool, Target, config::ConfigBuilder};
use leadpool_benches::is_bench;
use leadpool_testkit::Cluster as Servers;
use tokio::{runtime::Runtime, task::JoinSet};

const ROUNDS: usize = 11;
const WAITING: [usize; 2] = [1, 16];

type Change = fn(ConfigBuilder) -> ConfigBuilder;

const VARIANTS: [(&str, Change); 5] = [
    ("nothing", |config| config),
    ("warm_up(8)", |config| config.warm_up(8)),
    ("warm_up(8), wait 1 s", |config| {
        config.warm_up(8).warm_up_wait(Duration::from_secs(1))
    }),
    ("reader_min_size(1)", |config| config.reader_min_size(1)),
    ("reader_min_size(8)", |config| config.reader_min_size(8)),
];

#[derive(Default)]
struct Measured {
    first: Vec<f64>,
    last: Vec<f64>,
    burst: Vec<f64>,
}

async fn write(pool: Pool) -> Instant {
    pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    })
    .await
    .unwrap();
    Instant::now()
}

async fn all(pool: &Pool, writers: usize) -> Vec<Instant> {
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        tasks.spawn(write(pool.clone()));
    }
    let mut ended = tasks.join_all().await;
    ended.sort_unstable();
    ended
}

async fn failover(change: Change, waiting: usize, measured: &mut Measured) {
    let servers = Servers::start().await.unwrap();
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint)")
        .await
        .unwrap();
    let pool = Pool::builder(&servers.url())
        .configure(change)
        .build()
        .await
        .unwrap();
    write(pool.clone()).await;
    let min_size = pool.cluster().config().limits().reader_min_size;
    while pool.status().sub_pools[1..]
        .iter()
        .any(|sub_pool| sub_pool.counts.idle < min_size)
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    servers.wait_replayed().await.unwrap();
    servers.kill(0).await.unwrap();
    while pool.cluster().topology().writer.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let known = async {
        let limit = Duration::from_secs(60);
        let cluster = pool.cluster();
        cluster.wait_for(Target::Primary, limit).await.unwrap();
        Instant::now()
    };
    let (known, ended, promoted) = tokio::join!(known, all(&pool, waiting), servers.failover());
    promoted.unwrap();
    let ms = |from: Instant, to: &Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    measured.first.push(ms(known, &ended[0]));
    measured.last.push(ms(known, &ended[ended.len() - 1]));
    // A little later as many come at once as a warm-up opens.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let ended = all(&pool, 8).await;
    measured.burst.push(ms(begun, &ended[ended.len() - 1]));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = Runtime::new().unwrap();
    println!("waiting, variant: first write, last of those who waited, 8 at once later (ms)");
    let (rounds, waiting) = match is_bench() {
        true => (ROUNDS, &WAITING[..]),
        false => (1, &WAITING[..1]),
    };
    for &waiting in waiting {
        let mut all: Vec<Measured> = VARIANTS.iter().map(|_| Measured::default()).collect();
        // By turns, so that what else goes on on the machine meets all of them.
        for _ in 0..rounds {
            for ((_, change), measured) in VARIANTS.iter().zip(&mut all) {
                runtime.block_on(failover(*change, waiting, measured));
            }
        }
        for ((name, _), measured) in VARIANTS.iter().zip(&mut all) {
            println!(
                "{waiting:2} {name:22}: {:6.1} {:6.1} {:6.1}",
                median(&mut measured.first),
                median(&mut measured.last),
                median(&mut measured.burst)
            );
        }
    }
}
