//! Hosts that are lost, replaced and revived.

use std::time::Duration;

use leadpool::{Pool, topology::Phase};
use leadpool_testkit::Cluster as Servers;

use crate::{capture::Capture, support::*, traffic::gauge};

const POOL: (&str, &str) = ("pool", "failovers");

pub(crate) async fn play(seen: &Capture) {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::builder(&servers.proxied_url())
        .configure(|config| {
            config
                .pool_name("failovers")
                .metrics_interval(Duration::from_millis(20))
                .idle_interval(Duration::from_millis(200))
                .active_interval(Duration::from_millis(100))
                .max_lag_bytes(Some(1 << 16))
        })
        .build()
        .await
        .unwrap();
    drop((pool.get().await.unwrap(), pool.reader().await.unwrap()));
    settled(seen).await;
    a_lagging_standby(seen, &servers).await;
    a_silent_standby(seen, &servers).await;
    a_read_only_primary(seen, &servers).await;
    a_switchover(seen, &servers).await;
    a_loss(seen, &servers, &pool).await;
    a_stale_primary(seen, &servers, &pool).await;
    a_dispute(seen).await;
    a_demotion(seen).await;
}

async fn event(seen: &Capture, pool: &str, name: &str) {
    let labels = [("pool", pool), ("event", name)];
    soon(name, async {
        while seen.value("leadpool_events_total", &labels) == 0.0
            || seen.told(pool, &format!("leadpool.{name}")).is_empty()
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn settled(seen: &Capture) {
    gauge(seen, "leadpool_phase", &[POOL, ("phase", "stable")], 1.0).await;
    assert_eq!(seen.value("leadpool_phase", &[POOL]), 1.0, "one phase");
    let since = "leadpool_writer_missing_since_timestamp_seconds";
    assert_eq!(seen.value(since, &[POOL]), 0.0);
    gauge(seen, "leadpool_term", &[POOL], 1.0).await;
    gauge(seen, "leadpool_host_up", &[POOL], 3.0).await;
    let roles = |role| [POOL, ("role", role)];
    gauge(seen, "leadpool_host_role", &roles("primary"), 1.0).await;
    gauge(seen, "leadpool_host_role", &roles("standby"), 2.0).await;
    assert!(
        !seen
            .samples("leadpool_probe_duration_seconds", &[POOL])
            .is_empty()
    );
    let sources = [POOL, ("outcome", "ok")];
    gauge_at_least(seen, "leadpool_discoveries_total", &sources).await;
    // The first writer is no failover.
    assert_eq!(seen.value("leadpool_failovers_total", &[POOL]), 0.0);
    assert!(
        seen.samples("leadpool_writer_gap_seconds", &[POOL])
            .is_empty()
    );
    assert!(seen.told("failovers", "leadpool.failover").is_empty());
}

async fn gauge_at_least(seen: &Capture, name: &str, labels: &[(&str, &str)]) {
    soon(name, async {
        while seen.value(name, labels) <= 0.0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn a_lagging_standby(seen: &Capture, servers: &Servers) {
    let (primary, standby) = (
        servers.connect(0).await.unwrap(),
        servers.connect(1).await.unwrap(),
    );
    standby
        .batch_execute("SELECT pg_wal_replay_pause()")
        .await
        .unwrap();
    let fill = "INSERT INTO t (n) SELECT n FROM generate_series(1, 5000) AS n";
    primary.batch_execute(fill).await.unwrap();
    event(seen, "failovers", "host_lagging").await;
    gauge_at_least(seen, "leadpool_replay_lag_bytes", &[POOL]).await;
    gauge_at_least(seen, "leadpool_replay_lag_seconds", &[POOL]).await;
    standby
        .batch_execute("SELECT pg_wal_replay_resume()")
        .await
        .unwrap();
    event(seen, "failovers", "host_caught_up").await;
}

async fn a_silent_standby(seen: &Capture, servers: &Servers) {
    let proxy = servers.proxy(2).unwrap();
    proxy.black_hole();
    event(seen, "failovers", "host_suspect").await;
    gauge(seen, "leadpool_host_up", &[POOL], 2.0).await;
    let silent = [POOL, ("reason", "silent")];
    gauge_at_least(seen, "leadpool_probe_failures_total", &silent).await;
    proxy.pass();
    gauge(seen, "leadpool_host_up", &[POOL], 3.0).await;
}

async fn a_read_only_primary(seen: &Capture, servers: &Servers) {
    let admin = servers.connect(0).await.unwrap();
    for sql in [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    event(seen, "failovers", "primary_read_only").await;
    for sql in [
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    gauge(seen, "leadpool_phase", &[POOL, ("phase", "stable")], 1.0).await;
    // The same host as before: a gap, and no failover.
    assert_eq!(seen.value("leadpool_failovers_total", &[POOL]), 0.0);
    assert_eq!(
        seen.samples("leadpool_writer_gap_seconds", &[POOL]).len(),
        1
    );
}

async fn a_switchover(seen: &Capture, servers: &Servers) {
    servers.switchover(1).await.unwrap();
    gauge(seen, "leadpool_failovers_total", &[POOL], 1.0).await;
    gauge(seen, "leadpool_phase", &[POOL, ("phase", "stable")], 1.0).await;
    gauge(seen, "leadpool_term", &[POOL], 2.0).await;
}

async fn a_loss(seen: &Capture, servers: &Servers, pool: &Pool) {
    let gaps = || seen.samples("leadpool_writer_gap_seconds", &[POOL]).len();
    let before = gaps();
    let invalidated = || seen.value("leadpool_invalidations_total", &[POOL]);
    let invalidated_before = invalidated();
    let lost = servers.primary();
    servers.kill(lost).await.unwrap();
    event(seen, "failovers", "host_down").await;
    gauge(
        seen,
        "leadpool_phase",
        &[POOL, ("phase", "no-primary")],
        1.0,
    )
    .await;
    let since = "leadpool_writer_missing_since_timestamp_seconds";
    gauge_at_least(seen, since, &[POOL]).await;
    // Mostly as refused; on a machine that is slow enough, as silent.
    soon("an invalidation", async {
        while invalidated() <= invalidated_before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    gauge_at_least(seen, "leadpool_probe_failures_total", &[POOL]).await;
    let served = async {
        let waiting = gauge(seen, "leadpool_writer_waiting", &[POOL], 1.0);
        waiting.await;
        servers.failover().await.unwrap();
    };
    let (client, ()) = tokio::join!(soon("a checkout", pool.get()), served);
    drop(client.unwrap());
    gauge(seen, "leadpool_failovers_total", &[POOL], 2.0).await;
    gauge(seen, since, &[POOL], 0.0).await;
    assert_eq!(gaps(), before + 1);
    for change in ["lost", "found"] {
        let labels = [POOL, ("change", change)];
        assert!(seen.value("leadpool_writer_changes_total", &labels) > 0.0);
    }
    // One span from the loss to the next writer, and what happened in between is in it.
    let spans = seen.told("failovers", "leadpool.failover");
    let span = spans.last().unwrap();
    assert_ne!(span.value("leadpool.from"), span.value("leadpool.to"));
    assert!(!span.value("leadpool.gap_seconds").is_empty());
    assert_eq!(span.value("leadpool.term"), "3");
    let changed = seen.told("failovers", "leadpool.writer_changed");
    assert_eq!(changed.last().unwrap().within, ["leadpool.failover"]);
    servers.revive_stale(lost).await.unwrap();
}

async fn a_stale_primary(seen: &Capture, _: &Servers, pool: &Pool) {
    event(seen, "failovers", "fenced").await;
    gauge_at_least(seen, "leadpool_fenced_claims_total", &[POOL]).await;
    assert_eq!(pool.cluster().topology().phase, Phase::Stable);
    pool.cluster().forget_term();
    event(seen, "failovers", "term_forgotten").await;
}

/// Two promotions to one timeline.
async fn a_dispute(seen: &Capture) {
    let servers = Servers::start().await.unwrap();
    let _pool = Pool::builder(&servers.url())
        .configure(|config| config.pool_name("dispute"))
        .build()
        .await
        .unwrap();
    servers.kill(0).await.unwrap();
    let (one, two) = tokio::join!(servers.promote(1), servers.promote(2));
    one.and(two).unwrap();
    event(seen, "dispute", "contested").await;
    let contested = [("pool", "dispute"), ("phase", "contested")];
    gauge(seen, "leadpool_phase", &contested, 1.0).await;
}

/// A primary that comes back as a standby, while no other is the writer.
async fn a_demotion(seen: &Capture) {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let _pool = Pool::builder(&servers.url())
        .configure(|config| config.pool_name("demotion"))
        .build()
        .await
        .unwrap();
    servers.stop_fast(0).await.unwrap();
    event(seen, "demotion", "host_down").await;
    let signal = servers.data_dir(0).unwrap().join("standby.signal");
    std::fs::write(signal, "").unwrap();
    servers.start_host(0).await.unwrap();
    event(seen, "demotion", "demoted").await;
    let demoted = [("pool", "demotion"), ("reason", "demoted")];
    assert_eq!(seen.value("leadpool_invalidations_total", &demoted), 1.0);
}
