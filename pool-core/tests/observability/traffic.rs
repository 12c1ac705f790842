//! Checkouts and transactions, in good order and not.

use std::time::Duration;

use leadpool::{Error, Pool, Target, consistency::ConsistencyToken, topology::Lsn};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::{capture::Capture, support::*};

const POOL: (&str, &str) = ("pool", "traffic");

pub(crate) async fn play(seen: &Capture) {
    let servers = Servers::builder()
        .standbys(1)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let pool = Pool::builder(&servers.proxied_url())
        .configure(|config| {
            config
                .pool_name("traffic")
                .writer_size(2)
                .metrics_interval(Duration::from_millis(20))
                // All plays share a thread: one that holds it for long makes no host suspect here,
                // and no standby late.
                .consistency_wait(Duration::from_secs(10))
                .suspect_after(Duration::from_secs(10))
                .silence_limit(Duration::from_secs(60))
                .watchdog_limit(None)
        })
        .build()
        .await
        .unwrap();
    checkouts(seen, &pool).await;
    transactions(seen, &servers, &pool).await;
    consistent(seen, &pool).await;
    in_doubt(seen, &servers, &pool).await;
    a_killed_backend(seen, &servers, &pool).await;
    cancelled(seen, &pool).await;
    paused(seen, &pool).await;
    drop(pool);
    // Its gauges end with it.
    soon("the end of the gauges", async {
        while seen.value("leadpool_pool_connections_max", &[POOL]) != 0.0
            || seen.value("leadpool_phase", &[POOL]) != 0.0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn checkouts(seen: &Capture, pool: &Pool) {
    let ok = [POOL, ("target", "primary"), ("outcome", "ok")];
    let wait = "leadpool_checkout_wait_seconds";
    let count = "leadpool_checkouts_total";
    // The first has to wait for its connection, the second finds it.
    drop(pool.get().await.unwrap());
    drop(pool.get().await.unwrap());
    assert_eq!(seen.value(count, &ok), 2.0);
    assert_eq!(seen.samples(wait, &ok).len(), 1);
    let waited = seen.told("traffic", "leadpool.checkout");
    assert_eq!(waited.len(), 1, "an idle connection leaves no trace");
    assert_eq!(waited[0].value("leadpool.outcome"), "ok");
    let connected = seen.told("traffic", "leadpool.connect");
    assert_eq!(connected[0].value("db.system.name"), "postgresql");
    assert_eq!(connected[0].value("leadpool.outcome"), "ok");
    assert_eq!(connected[0].within, ["leadpool.checkout"]);
    let connects = seen.value("leadpool_connects_total", &[POOL, ("outcome", "ok")]);
    assert_eq!(connects, 1.0);
    let took = seen.samples("leadpool_connect_duration_seconds", &[POOL]);
    assert_eq!(took.len(), 1);

    drop(pool.reader().await.unwrap());
    let reader = [POOL, ("target", "prefer-standby"), ("outcome", "ok")];
    assert_eq!(seen.value(count, &reader), 1.0);

    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let used = [POOL, ("role", "primary"), ("state", "used")];
    gauge(seen, "leadpool_pool_connections", &used, 2.0).await;
    let limit = [POOL, ("role", "primary")];
    gauge(seen, "leadpool_pool_connections_max", &limit, 2.0).await;
    let too_many = pool.timeout_get(Target::Primary, Duration::from_millis(500));
    let waiting = gauge(seen, "leadpool_pool_waiting", &limit, 1.0);
    let (refused, ()) = tokio::join!(too_many, waiting);
    assert!(matches!(refused, Err(Error::QueueFull(_))));
    let full = [POOL, ("target", "primary"), ("outcome", "queue_full")];
    assert_eq!(seen.value(count, &full), 1.0);
    assert_eq!(seen.samples(wait, &full).len(), 1);
    drop(held);
    let idle = [POOL, ("role", "primary"), ("state", "idle")];
    gauge(seen, "leadpool_pool_connections", &idle, 2.0).await;
}

async fn transactions(seen: &Capture, servers: &Servers, pool: &Pool) {
    let count = |outcome| seen.value("leadpool_transactions_total", &[POOL, ("outcome", outcome)]);
    insert(pool).await.unwrap();
    assert_eq!(count("committed"), 1.0);
    let took = seen.samples("leadpool_transaction_duration_seconds", &[POOL]);
    assert_eq!(took.len(), 1);

    let attempts = std::sync::atomic::AtomicU32::new(0);
    let attempts = &attempts;
    pool.tx()
        .name("quarrel")
        .run(|tx| async move {
            if attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                tx.batch_execute("DO $$BEGIN RAISE SQLSTATE '40001'; END$$")
                    .await?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let conflicts = [POOL, ("reason", "conflict")];
    assert_eq!(seen.value("leadpool_retries_total", &conflicts), 1.0);
    assert_eq!(count("committed"), 2.0);
    let retry = &seen.told("traffic", "leadpool.retry")[0];
    assert_eq!(retry.value("db.response.status_code"), "40001");
    assert_eq!(retry.value("leadpool.transaction.name"), "quarrel");
    assert_eq!(retry.within, ["leadpool.transaction"]);
    let lines = seen.lines();
    let mut attempts = lines.iter().filter(|line| line.name == "leadpool.attempt");
    let last = attempts.next_back().unwrap();
    assert_eq!(last.value("leadpool.attempt"), "2");
    let port = servers.proxy(0).unwrap().addr().port().to_string();
    assert_eq!(last.value("server.port"), port);
    assert_eq!(last.within, ["leadpool.transaction"]);

    let wrong = pool.run_tx(|tx| async move { Ok(tx.batch_execute("SELECT 1/0").await?) });
    assert!(wrong.await.is_err());
    assert_eq!(count("rolled_back"), 1.0);
    let last = seen.told("traffic", "leadpool.transaction");
    let last = last.last().unwrap();
    assert_eq!(last.value("leadpool.outcome"), "rolled_back");
    assert_eq!(last.value("db.response.status_code"), "22012");
}

async fn consistent(seen: &Capture, pool: &Pool) {
    let count = |served_by, standing| {
        let labels = [POOL, ("served_by", served_by), ("standing", standing)];
        seen.value("leadpool_consistent_reads_total", &labels)
    };
    let token = pool.token().await.unwrap();
    let first = pool.reader_at(&token).await.unwrap();
    drop(first);
    let told = seen.told("traffic", "leadpool.consistent_read");
    let known = count("standby", "current");
    // Again, and nobody has to look for anything.
    drop(pool.reader_at(&token).await.unwrap());
    let again = seen.told("traffic", "leadpool.consistent_read");
    assert_eq!(again.len(), told.len());
    assert_eq!(count("standby", "current"), known + 1.0);

    let foreign = ConsistencyToken::new(Some(1), 1, Lsn::new(1));
    assert!(pool.reader_at(&foreign).await.is_err());
    assert_eq!(count("nobody", "foreign"), 1.0);
    let told = seen.told("traffic", "leadpool.consistent_read");
    let last = told.last().unwrap();
    assert_eq!(last.value("leadpool.standing"), "foreign");
    assert_eq!(last.value("leadpool.served_by"), "nobody");
    let of_writer = ConsistencyToken::of_writer(token.system_identifier());
    drop(pool.reader_at(&of_writer).await.unwrap());
    assert_eq!(count("writer", "unknown"), 1.0);
}

async fn in_doubt(seen: &Capture, servers: &Servers, pool: &Pool) {
    let doubts = |verdict| {
        let labels = [POOL, ("verdict", verdict)];
        let took = "leadpool_commit_resolution_duration_seconds";
        let count = seen.value("leadpool_commits_in_doubt_total", &labels);
        assert_eq!(count, seen.samples(took, &labels).len() as f64);
        count
    };
    for (moment, verdict) in [
        (Moment::BeforeAnswer, "committed"),
        (Moment::BeforeForward, "not_committed"),
    ] {
        servers
            .proxy(0)
            .unwrap()
            .cut_at(Trigger::new("COMMIT", moment));
        insert(pool).await.unwrap();
        let counts = pool.status().transactions;
        assert_eq!(doubts(verdict), 1.0, "{verdict}: {counts:?}");
    }
    assert_eq!(seen.told("traffic", "leadpool.resolve_commit").len(), 2);
    assert_eq!(seen.told("traffic", "leadpool.commit_resolved").len(), 2);
    let lost = [POOL, ("reason", "lost")];
    assert_eq!(seen.value("leadpool_retries_total", &lost), 1.0);

    let trigger = Trigger::new("COMMIT", Moment::BeforeAnswer);
    servers.proxy(0).unwrap().cut_at(trigger);
    let unknown = pool.tx().evidence(false).run(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    assert!(matches!(unknown.await, Err(Error::Unknown(_))));
    assert_eq!(doubts("unknown"), 1.0);
    let outcome = [POOL, ("outcome", "unknown")];
    assert_eq!(seen.value("leadpool_transactions_total", &outcome), 1.0);
}

async fn a_killed_backend(seen: &Capture, servers: &Servers, pool: &Pool) {
    let lost = || seen.value("leadpool_connections_lost_total", &[POOL]);
    let (before, client) = (lost(), pool.get().await.unwrap());
    servers.terminate_backends(0).await.unwrap();
    soon("the loss", async {
        while !client.is_closed() || lost() <= before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let told = seen.told("traffic", "leadpool.connection_lost");
    assert!(
        told.iter()
            .any(|line| line.value("db.response.status_code") == "57P01")
    );
}

async fn cancelled(seen: &Capture, pool: &Pool) {
    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let waiter = tokio::time::timeout(Duration::from_millis(10), pool.get());
    assert!(waiter.await.is_err());
    let outcome = [POOL, ("outcome", "cancelled")];
    assert_eq!(seen.value("leadpool_checkouts_total", &outcome), 1.0);
    drop(held);
    let endless = pool.run_tx(|_| std::future::pending::<Result<(), Error>>());
    let endless = tokio::time::timeout(Duration::from_millis(10), endless);
    assert!(endless.await.is_err());
    assert_eq!(seen.value("leadpool_transactions_total", &outcome), 1.0);
}

async fn paused(seen: &Capture, pool: &Pool) {
    let pause = pool.pause(Duration::from_secs(5)).await;
    let refused = pool.timeout_get(Target::Primary, Duration::from_millis(10));
    assert!(matches!(refused.await, Err(Error::Paused(_))));
    let outcome = [POOL, ("outcome", "paused")];
    assert_eq!(seen.value("leadpool_checkouts_total", &outcome), 1.0);
    drop(pause);
    drop(pool.get().await.unwrap());
    for name in ["leadpool.paused", "leadpool.resumed"] {
        soon(name, async {
            while seen.told("traffic", name).len() != 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

async fn insert(pool: &Pool) -> Result<(), Error> {
    pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    })
    .await
}

/// Waits until a gauge shows a value.
pub(crate) async fn gauge(seen: &Capture, name: &str, labels: &[(&str, &str)], value: f64) {
    soon(name, async {
        while seen.value(name, labels) != value {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
