//! Reads over two standbys by 16 tasks: how many there are, and which share each standby has.
//!
//! A peer can be given one standby, or have the driver choose one at random for each connection.

#![allow(missing_docs, reason = "a program")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use leadpool_benches::{Error, Ground, Record, lasts, rounds, run, slots};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

const SIZE: usize = 16;
const TASKS: usize = 16;
const CASE: &str = "16 tasks, 2 standbys";
const READ: &str = "SELECT inet_server_port()";

#[derive(Clone)]
enum Reader {
    Leadpool(leadpool::Pool),
    Deadpool(Pool),
}

impl Reader {
    fn deadpool(url: &str) -> Result<Self, Error> {
        let config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(url.parse()?, NoTls, config);
        let pool = Pool::builder(manager).max_size(SIZE);
        Ok(Self::Deadpool(pool.runtime(Runtime::Tokio1).build()?))
    }

    async fn get(&self) -> Result<Client, Error> {
        Ok(match self {
            Self::Leadpool(pool) => pool.reader().await?,
            Self::Deadpool(pool) => pool.get().await?,
        })
    }

    /// How many reads each port has served.
    async fn work(&self, lasts: Duration) -> Result<BTreeMap<i32, u64>, Error> {
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..TASKS {
            let pool = self.clone();
            tasks.spawn(async move {
                let mut served: BTreeMap<i32, u64> = BTreeMap::new();
                while begun.elapsed() < lasts {
                    let client = pool.get().await?;
                    let read = client.prepare_cached(READ).await?;
                    let port: i32 = client.query_one(&read, &[]).await?.get(0);
                    *served.entry(port).or_default() += 1;
                }
                Ok::<_, Error>(served)
            });
        }
        let mut all: BTreeMap<i32, u64> = BTreeMap::new();
        while let Some(ended) = tasks.join_next().await {
            for (port, count) in ended?? {
                *all.entry(port).or_default() += count;
            }
        }
        Ok(all)
    }
}

async fn by_turns() -> Result<(), Error> {
    let ground = Ground::start(2).await?;
    let servers = &ground.servers;
    let leadpool = leadpool::Pool::builder(&servers.url())
        .configure(|config| config.writer_size(SIZE).reader_size(SIZE))
        .build()
        .await?;
    let several = format!("{}?load_balance_hosts=random", standbys(&servers.url())?);
    let rivals = [
        (
            "deadpool-postgres, 1 standby",
            Reader::deadpool(&servers.host_url(1)?)?,
        ),
        ("leadpool", Reader::Leadpool(leadpool)),
        ("deadpool-postgres, random", Reader::deadpool(&several)?),
    ];
    let mut record = Record::new("reads");
    for slot in slots(rivals.len(), rounds()?) {
        let (name, reader) = &rivals[slot.rival];
        let begun = Instant::now();
        let served = reader.work(lasts() * 2).await?;
        let took = begun.elapsed().as_secs_f64();
        if !slot.counts {
            continue;
        }
        let all = served.values().sum::<u64>() as f64;
        record.value(CASE, name, ("throughput", "1/s"), all / took);
        for host in [1, 2] {
            let port = i32::from(servers.addr(host)?.port());
            let own = served.get(&port).copied().unwrap_or(0) as f64;
            let measure = format!("share of standby {host}");
            record.value(CASE, name, (&measure, "%"), own / all * 100.0);
        }
    }
    record.finish()
}

/// The URL without the first host, which is the primary.
fn standbys(url: &str) -> Result<String, Error> {
    let (user, hosts) = url.split_once('@').ok_or("a URL without a user")?;
    let (_, rest) = hosts.split_once(',').ok_or("a URL with one host")?;
    Ok(format!("{user}@{rest}"))
}

fn main() -> Result<(), Error> {
    run(by_turns())
}
