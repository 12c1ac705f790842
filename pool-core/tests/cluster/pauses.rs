//! Planned work, made into latency.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use leadpool::{Error, Pool};
use tokio::task::JoinSet;

use crate::support::*;

async fn write_by_checkout(pool: &Pool) -> Result<(), Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
    tx.commit().await?;
    Ok(())
}

async fn write_by_run_tx(pool: &Pool) -> Result<(), Error> {
    pool.tx()
        .retries(0)
        .run(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Ok(())
        })
        .await
}

/// Writers that never rest.
struct Load {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    fn begin(pool: &Pool) -> Self {
        let (written, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for number in 0..8 {
            let (pool, written, stop) = (pool.clone(), written.clone(), stop.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        write_by_checkout(&pool).await.unwrap();
                    } else {
                        write_by_run_tx(&pool).await.unwrap();
                    }
                    written.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self {
            written,
            stop,
            tasks,
        }
    }

    async fn some_more(&self) {
        let before = self.written.load(Ordering::SeqCst);
        soon("some writes", async {
            while self.written.load(Ordering::SeqCst) < before + 50 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn end(self) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        // A write that failed has panicked.
        soon("the writers", self.tasks.join_all()).await;
        i64::try_from(self.written.load(Ordering::SeqCst)).unwrap()
    }
}

#[tokio::test]
async fn a_switchover_within_a_pause_costs_no_error() {
    let (servers, pool) = start().await;
    let load = Load::begin(&pool);
    for next in [1, 2] {
        load.some_more().await;
        let pause = soon("the pause", pool.pause(Duration::from_secs(20))).await;
        assert_eq!(pause.in_use(), 0);
        assert!(pool.is_paused() && pool.status().paused);
        servers.switchover(next).await.unwrap();
        pause.resume();
    }
    load.some_more().await;
    let written = load.end().await;
    assert_eq!(rows(&servers).await, written, "each once");
}

#[tokio::test]
async fn what_is_not_back_in_time_is_told_of_and_left_alone() {
    let (servers, pool) = start().await;
    let client = pool.get().await.unwrap();
    let pause = pool.pause(Duration::from_millis(50)).await;
    assert_eq!(pause.in_use(), 1);
    client
        .execute("INSERT INTO t (n) VALUES (1)", &[])
        .await
        .unwrap();
    let (left, ()) = tokio::join!(
        soon("the rest", pause.wait(Duration::from_secs(20))),
        async {
            drop(client);
        }
    );
    assert_eq!(left, 0);
    drop(pause);
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_pause_of_the_cluster_holds_deadpools_own_pool_too() {
    let (_servers, pool) = start().await;
    let native = pool.deadpool_pool();
    // One is idle there.
    drop(native.get().await.unwrap());
    let pause = pool.cluster().pause(Duration::from_secs(20)).await;
    let theirs = native.clone();
    let waiting = tokio::task::spawn(async move { theirs.get().await.map(drop) });
    let ours = pool.clone();
    let ours = tokio::task::spawn(async move { ours.reader().await.map(drop) });
    soon("the places", async {
        while native.status().waiting == 0 || pool.status().waiting == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!waiting.is_finished() && !ours.is_finished());
    pause.resume();
    soon("theirs", waiting).await.unwrap().unwrap();
    soon("ours", ours).await.unwrap().unwrap();
}
