//! Writers on a pool, and a count of what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use leadpool::{Cluster, Error, Pool};
use tokio::task::JoinSet;

use crate::{Stage, soon};

/// Writes one row and tells the timeline that it was written on.
const WRITE: &str = "\
INSERT INTO ledger (id, timeline) \
VALUES ($1, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int) \
RETURNING timeline";

#[derive(Debug, Default)]
pub(crate) struct Count {
    next: AtomicI64,
    stop: AtomicBool,
    pub(crate) acknowledged: AtomicU64,
    /// Acknowledged by a host whose term was lower than the highest that leadpool had seen when
    /// the write was sent.
    pub(crate) stale: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) errors: AtomicU64,
    last_timeline: AtomicU64,
}

pub(crate) struct Writers {
    pub(crate) count: Arc<Count>,
    tasks: JoinSet<()>,
}

impl Count {
    fn note(&self, before: u64, timeline: i32) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let timeline = u64::try_from(timeline).unwrap();
        if timeline < before {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
        self.last_timeline.fetch_max(timeline, Ordering::Relaxed);
    }
}

fn highest(cluster: &Cluster) -> u64 {
    cluster.topology().term.map_or(0, |term| term.get())
}

impl Writers {
    /// Four tasks that write through leadpool.
    pub(crate) fn start(pool: &Pool) -> Self {
        let count = Arc::new(Count::default());
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (pool, count) = (pool.clone(), count.clone());
            tasks.spawn(async move {
                while !count.stop.load(Ordering::Relaxed) {
                    let id = count.next.fetch_add(1, Ordering::Relaxed);
                    let cluster = pool.cluster().clone();
                    let written = pool.run_tx(|tx| async move {
                        let before = highest(&cluster);
                        let row = tx.query_one(WRITE, &[&id]).await?;
                        Ok((before, row.get::<_, i32>(0)))
                    });
                    match written.await {
                        Ok((before, timeline)) => count.note(before, timeline),
                        Err(Error::Unknown(_)) => {
                            count.unknown.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            eprintln!("a write failed: {error}");
                            count.errors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { count, tasks }
    }

    /// Four tasks that write through a pool of libpq's own idea: all hosts, `read-write`.
    pub(crate) fn start_plain(stage: &Stage, watched: &Pool) -> Self {
        let mut config: tokio_postgres::Config = stage.servers.url().parse().unwrap();
        config
            .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite)
            .connect_timeout(Duration::from_secs(1));
        let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
        let plain = deadpool_postgres::Pool::builder(manager)
            .max_size(4)
            .build()
            .unwrap();
        let count = Arc::new(Count::default());
        count.next.store(1 << 40, Ordering::Relaxed);
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (plain, count, cluster) = (plain.clone(), count.clone(), watched.cluster().clone());
            tasks.spawn(async move {
                while !count.stop.load(Ordering::Relaxed) {
                    let id = count.next.fetch_add(1, Ordering::Relaxed);
                    let before = highest(&cluster);
                    let written = async {
                        let client = plain.get().await.ok()?;
                        client.query_one(WRITE, &[&id]).await.ok()
                    };
                    let limit = Duration::from_secs(2);
                    match tokio::time::timeout(limit, written).await {
                        Ok(Some(row)) => count.note(before, row.get(0)),
                        _ => {
                            count.errors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { count, tasks }
    }

    /// Waits until so many more writes have been acknowledged.
    pub(crate) async fn more(&self, what: &str, more: u64) {
        let goal = self.count.acknowledged.load(Ordering::Relaxed) + more;
        soon(what, async {
            while self.count.acknowledged.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until a write has been acknowledged on a timeline beyond this one.
    pub(crate) async fn beyond(&self, what: &str, timeline: u64) {
        soon(what, async {
            while self.count.last_timeline.load(Ordering::Relaxed) <= timeline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) fn timeline(&self) -> u64 {
        self.count.last_timeline.load(Ordering::Relaxed)
    }

    /// Ends them. What leadpool's were told is judged: no error, and nothing acknowledged by a
    /// host of a former term.
    pub(crate) async fn stop(self) -> Arc<Count> {
        self.count.stop.store(true, Ordering::Relaxed);
        soon("the writers' end", self.tasks.join_all()).await;
        self.count
    }

    pub(crate) async fn stop_clean(self, what: &str) {
        let count = self.stop().await;
        eprintln!("{what}: {count:?}");
        assert_eq!(count.stale.load(Ordering::Relaxed), 0, "{what}: stale");
        assert_eq!(count.errors.load(Ordering::Relaxed), 0, "{what}: errors");
        assert!(count.acknowledged.load(Ordering::Relaxed) > 0, "{what}");
    }
}
