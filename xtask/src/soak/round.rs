//! One round: connections are opened, broken, cancelled and thrown away; passwords change, the
//! primary moves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{Client, Object};
use leadpool::{Error, Pool, Target};
use leadpool_testkit::Cluster as Servers;
use tokio::{task::JoinSet, time::timeout};

use super::rotation::Rotation;
use crate::Result;

/// How many tasks use each pool.
const WORKERS: u64 = 4;

pub(super) struct Round<'a> {
    pub(super) number: u64,
    pub(super) servers: &'a Arc<Servers>,
    pub(super) rotation: &'a Rotation,
    pub(super) pools: [&'a Pool; 2],
    pub(super) connects: u64,
}

impl Round<'_> {
    /// Plays it: how many connections were opened.
    pub(super) async fn play(&self) -> Result<u64> {
        let opened = Arc::new(AtomicU64::new(0));
        let done = AtomicBool::new(false);
        let churn = async {
            let churned = self.churn(&opened).await;
            done.store(true, Ordering::Relaxed);
            churned
        };
        let passwords = self.rotation.passwords(self.servers, &opened, &done);
        let (churned, ()) = tokio::join!(churn, passwords);
        churned?;
        self.rotation.settle(self.servers).await?;
        for pool in self.pools {
            empty(pool).await;
        }
        Ok(opened.load(Ordering::Relaxed))
    }

    async fn churn(&self, opened: &Arc<AtomicU64>) -> Result<()> {
        let mut workers = JoinSet::new();
        for pool in self.pools {
            for worker in 0..WORKERS {
                let (pool, opened, wanted) = (pool.clone(), opened.clone(), self.connects);
                workers.spawn(async move {
                    let mut turn = worker;
                    while opened.load(Ordering::Relaxed) < wanted {
                        turn += 1;
                        work(&pool, turn, &opened).await;
                    }
                });
            }
        }
        self.move_primary().await?;
        while let Some(ended) = workers.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// In some rounds the primary moves, or dies.
    async fn move_primary(&self) -> Result<()> {
        let servers = self.servers;
        match self.number % 6 {
            2 => {
                let to = (servers.primary() + 1) % servers.hosts();
                servers.switchover(to).await?;
                servers.heal().await?;
            }
            5 => {
                servers.kill(servers.primary()).await?;
                servers.failover().await?;
                servers.heal().await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// One use of a connection, which does not survive it. What fails is tried again next time.
async fn work(pool: &Pool, turn: u64, opened: &AtomicU64) {
    match turn % 10 {
        0 => {
            // Given up while it waits, or while it connects.
            let patience = Duration::from_micros(100 * (turn % 17));
            if let Ok(Ok(client)) = timeout(patience, pool.get()).await {
                throw_away(client, opened);
            }
        }
        1 => {
            if let Ok(client) = pool.get().await {
                let suicide = "SELECT pg_terminate_backend(pg_backend_pid())";
                drop(client.simple_query(suicide).await);
                throw_away(client, opened);
            }
        }
        2 => {
            if let Ok(client) = pool.get_as(Target::PreferStandby).await {
                drop(client.simple_query("SELECT 1").await);
                throw_away(client, opened);
            }
        }
        3 => {
            // Given up in the midst of a transaction.
            let endless = pool.run_tx(|tx| async move {
                drop(tx.query_one("SELECT pg_sleep(60)", &[]).await);
                Ok::<(), Error>(())
            });
            drop(timeout(Duration::from_millis(2), endless).await);
        }
        4 => {
            let one = pool.run_tx(|tx| async move { Ok(tx.query_one("SELECT 1", &[]).await?) });
            drop(one.await);
        }
        _ => {
            if let Ok(client) = pool.get().await {
                drop(client.simple_query("SELECT 1").await);
                throw_away(client, opened);
            }
        }
    }
}

/// Closes a connection, and counts it.
fn throw_away(client: Client, opened: &AtomicU64) {
    opened.fetch_add(1, Ordering::Relaxed);
    drop(Object::take(client));
}

/// Closes what is idle, so that after each round as much is left.
async fn empty(pool: &Pool) {
    let nobody = AtomicU64::new(0);
    let idle = |pool: &Pool| {
        let pools = pool.status().sub_pools.into_iter();
        pools.map(|sub_pool| sub_pool.counts.idle).sum::<usize>()
    };
    let mut tries = 0;
    while idle(pool) > 0 && tries < 1_000 {
        tries += 1;
        for target in [Target::Primary, Target::PreferStandby] {
            if let Ok(client) = pool.timeout_get(target, Duration::from_secs(5)).await {
                throw_away(client, &nobody);
            }
        }
    }
}

/// The end of a pool, one way or the other.
pub(super) async fn end(number: u64, pool: Pool) {
    if number.is_multiple_of(2) {
        pool.close(Duration::from_secs(2)).await;
    }
    drop(pool);
}
