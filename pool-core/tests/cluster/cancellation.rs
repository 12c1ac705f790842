//! Any future may be dropped anywhere: neither a connection, a place nor a transaction leaks.

use std::time::Duration;

use leadpool::{Pool, Target};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

/// All connections can be had at once, and none holds a transaction.
async fn is_whole(servers: &Servers, pool: &Pool, size: usize) {
    let all = async {
        let mut held = Vec::new();
        for _ in 0..size {
            held.push(pool.get().await.unwrap());
        }
        held
    };
    drop(soon("all connections", all).await);
    assert_eq!(pool.status().waiting_for_writer, 0);
    no_open_transactions(servers).await;
}

#[tokio::test]
async fn checkouts_dropped_at_every_moment() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    let pool = connect_with(&servers.proxied_url(), |config| config.writer_size(2))
        .await
        .unwrap();
    let each = Duration::from_millis(3);
    servers.proxy(0).unwrap().delay(each, each);
    // While connecting, and while queueing behind two that are held.
    for held in [0, 2] {
        let mut out = Vec::new();
        for _ in 0..held {
            out.push(pool.get().await.unwrap());
        }
        for micros in (0..20_000).step_by(500) {
            let get = pool.get();
            drop(tokio::time::timeout(Duration::from_micros(micros), get).await);
        }
    }
    is_whole(&servers, &pool, 2).await;
}

#[tokio::test]
async fn waits_for_a_writer_dropped_at_every_moment() {
    let (servers, pool) = start().await;
    servers.kill(0).await.unwrap();
    let mut waits = Vec::new();
    for millis in 0..40 {
        let pool = pool.clone();
        waits.push(tokio::task::spawn(async move {
            let get = pool.get();
            drop(tokio::time::timeout(Duration::from_millis(millis * 5), get).await);
        }));
    }
    servers.failover().await.unwrap();
    for wait in waits {
        wait.await.unwrap();
    }
    is_whole(&servers, &pool, 16).await;
}

#[tokio::test]
async fn transactions_dropped_at_every_moment() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let pool = connect_with(&servers.proxied_url(), |config| config.writer_size(2))
        .await
        .unwrap();
    let each = Duration::from_millis(1);
    servers.proxy(0).unwrap().delay(each, each);
    for micros in (0..24_000).step_by(400) {
        let writing = pool.run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Ok(())
        });
        drop(tokio::time::timeout(Duration::from_micros(micros), writing).await);
    }
    is_whole(&servers, &pool, 2).await;
    assert_eq!(rows(&servers).await % 2, 0, "all or nothing");
}

#[tokio::test]
async fn a_panic_in_the_closure_leaves_no_transaction() {
    let (servers, pool) = start().await;
    let theirs = pool.clone();
    let task = tokio::task::spawn(async move {
        theirs
            .run_tx(|tx| async move {
                tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
                if tx.is_closed() {
                    return Ok(());
                }
                panic!("in the closure")
            })
            .await
    });
    assert!(task.await.unwrap_err().is_panic());
    is_whole(&servers, &pool, 16).await;
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_checkout_during_invalidation_is_routed_on() {
    let (servers, pool) = start().await;
    for _ in 0..3 {
        let checkouts = async {
            for _ in 0..200 {
                drop(
                    pool.timeout_get(Target::Primary, Duration::from_secs(20))
                        .await
                        .unwrap(),
                );
                tokio::task::yield_now().await;
            }
        };
        let next = (servers.primary() + 1) % 3;
        let (switched, ()) = tokio::join!(servers.switchover(next), checkouts);
        switched.unwrap();
        servers.heal().await.unwrap();
    }
    is_whole(&servers, &pool, 16).await;
}
