//! Reading one's own writes, from standbys that are behind, paused, lost, or on another branch.

use std::time::Duration;

use leadpool::{
    Error, HostAddr, Pool, Target,
    config::ConfigBuilder,
    consistency::{ConsistencyToken, Served, ServedBy, Standing},
    topology::Lsn,
};
use leadpool_testkit::{Cluster as Servers, ClusterBuilder, Moment, Trigger};

use crate::support::*;

/// Long enough for a slow machine.
const PATIENT: Duration = Duration::from_secs(15);

fn host(servers: &Servers, at: usize) -> HostAddr {
    let addr = servers.addr(at).unwrap();
    HostAddr::new(addr.ip().to_string(), addr.port())
}

/// Servers of which an ordinary role may use the table.
async fn servers(builder: ClusterBuilder) -> Servers {
    let servers = builder.start().await.unwrap();
    prepare(&servers).await;
    run(
        &servers,
        servers.primary(),
        "CREATE ROLE app LOGIN; GRANT ALL ON t, t_id_seq TO app",
    )
    .await;
    servers.wait_replayed().await.unwrap();
    servers
}

async fn run(servers: &Servers, at: usize, sql: &str) {
    let client = servers.connect(at).await.unwrap();
    client.batch_execute(sql).await.unwrap();
}

fn as_app(url: &str) -> String {
    url.replace("postgres@", "app@")
}

/// A pool that has seen all hosts.
async fn pool(url: &str, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Pool {
    let pool = connect_with(url, change).await.unwrap();
    whole(&pool).await;
    pool
}

async fn whole(pool: &Pool) {
    seen(pool, "all hosts", |topology| {
        let mut hosts = topology.hosts().iter();
        topology.writer.is_some()
            && hosts.all(|host| host.is_reader() || topology.writer.as_ref() == Some(&host.addr))
    })
    .await;
}

async fn write(pool: &Pool, n: i64) -> ConsistencyToken {
    let written = pool.tx().run_with_token(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES ($1)", &[&n]).await?;
        Ok(())
    });
    written.await.unwrap().1
}

/// Reads at the token: whether the row is there, who served, and where that was.
async fn read(pool: &Pool, token: &ConsistencyToken, n: i64) -> (bool, Served, u16) {
    let reading = pool.timeout_reader_at(token, PATIENT);
    let (client, served) = soon("a read", reading).await.unwrap();
    let sql = "SELECT count(*) > 0 FROM t WHERE n = $1";
    let row = client.query_one(sql, &[&n]).await.unwrap();
    let is_there = row.get(0);
    (is_there, served, port(&client).await)
}

/// The same with the row there, as it should be.
async fn served(pool: &Pool, token: &ConsistencyToken, n: i64) -> (ServedBy, u16) {
    let (is_there, served, port) = read(pool, token, n).await;
    assert!(is_there, "{n}: stale, by {}", served.by);
    (served.by, port)
}

async fn pause_replay(servers: &Servers, at: usize) {
    run(servers, at, "SELECT pg_wal_replay_pause()").await;
    let client = servers.connect(at).await.unwrap();
    soon("the pause", async {
        let sql = "SELECT pg_get_wal_replay_pause_state()";
        while client.query_one(sql, &[]).await.unwrap().get::<_, &str>(0) != "paused" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn resume_replay(servers: &Servers, at: usize) {
    run(servers, at, "SELECT pg_wal_replay_resume()").await;
}

#[tokio::test]
async fn a_standby_that_has_it_serves() {
    let servers = servers(Servers::builder()).await;
    let url = as_app(&servers.url());
    let pool = pool(&url, |config| config.consistency_wait(PATIENT)).await;
    let writer = host(&servers, 0).port();
    for n in 0..50 {
        let token = write(&pool, n).await;
        assert_eq!(token.timeline(), Some(1));
        let (by, port) = served(&pool, &token, n).await;
        assert_ne!(by, ServedBy::Writer);
        assert_ne!(port, writer);
    }
    // Of what both are known to have, both serve.
    let token = write(&pool, 50).await;
    servers.wait_replayed().await.unwrap();
    pool.cluster().probe_now();
    seen(&pool, "both", |topology| {
        let mut standbys = topology.hosts()[1..].iter();
        standbys.all(|standby| standby.position >= token.position())
    })
    .await;
    let mut ports = Vec::new();
    for _ in 0..8 {
        ports.push(served(&pool, &token, 50).await.1);
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 2);
}

#[tokio::test]
async fn what_is_known_takes_no_round_trip() {
    let servers = servers(Servers::builder().standbys(1).proxies(true)).await;
    let pool = pool(&servers.proxied_url(), |config| {
        // So that no probe gets in between.
        config
            .consistency_wait(PATIENT)
            .idle_interval(Duration::from_secs(3_600))
            .active_interval(Duration::from_secs(3_600))
            .watchdog_limit(None)
    })
    .await;
    let token = write(&pool, 1).await;
    served(&pool, &token, 1).await;
    let proxy = servers.proxy(1).unwrap();
    for _ in 0..3 {
        let before = proxy.turns();
        let (client, told) = pool.timeout_reader_at(&token, PATIENT).await.unwrap();
        assert_eq!(told.by, ServedBy::Standby);
        assert_eq!(proxy.turns(), before);
        drop(client);
    }
}

/// A standby whose recovery begins anew is behind what it said, and ends all sessions.
#[tokio::test]
async fn for_a_connection_younger_than_the_answer_the_standby_is_asked_again() {
    let servers = servers(Servers::builder().standbys(1)).await;
    let pool = pool(&servers.url(), |config| {
        config
            .consistency_wait(PATIENT)
            .idle_interval(Duration::from_secs(3_600))
            .active_interval(Duration::from_secs(3_600))
            .watchdog_limit(None)
    })
    .await;
    let standby = servers.connect(1).await.unwrap();
    let last_asked = async || {
        let sql = "SELECT max(query_start)::text FROM pg_stat_activity \
                   WHERE application_name = 'leadpool monitor'";
        standby
            .query_one(sql, &[])
            .await
            .unwrap()
            .get::<_, String>(0)
    };
    let token = write(&pool, 1).await;
    let first = pool.reader_at(&token).await.unwrap();
    let asked = last_asked().await;
    let second = pool.reader_at(&token).await.unwrap();
    let again = last_asked().await;
    assert!(again > asked, "{again}");
    drop((first, second));
    let both = (
        pool.reader_at(&token).await.unwrap(),
        pool.reader_at(&token).await.unwrap(),
    );
    assert_eq!(last_asked().await, again);
    drop(both);
}

#[tokio::test]
async fn a_token_lies_behind_its_commit() {
    let servers = servers(Servers::builder().standbys(0)).await;
    let pool = pool(&servers.url(), |config| config).await;
    let client = servers.connect(0).await.unwrap();
    let (mut own, mut asked) = (0, 0);
    for n in 0..5 {
        let of_commit = write(&pool, n).await;
        let sql = "SELECT pg_current_wal_flush_lsn()::text";
        let row = client.query_one(sql, &[]).await.unwrap();
        let flushed: Lsn = row.get::<_, &str>(0).parse().unwrap();
        let later = pool.token().await.unwrap();
        own += u32::from(of_commit.position() >= Some(flushed));
        asked += u32::from(later.position() >= Some(flushed));
    }
    // The server may write something of its own in between, but not each time.
    assert!(own > 0 && asked == 5, "{own}, {asked}");
}

#[tokio::test]
async fn a_token_of_run_tx_takes_no_round_trip_either() {
    let servers = servers(Servers::builder().standbys(0).proxies(true)).await;
    let pool = pool(&servers.proxied_url(), |config| config).await;
    write(&pool, 1).await; // opens and prepares
    let proxy = servers.proxy(0).unwrap();
    let mut least = (u64::MAX, u64::MAX);
    for n in 0..5 {
        let begun = proxy.turns();
        write(&pool, n).await;
        let between = proxy.turns();
        let plain = pool.run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES ($1)", &[&n]).await?;
            Ok(())
        });
        plain.await.unwrap();
        let (with, without) = (between - begun, proxy.turns() - between);
        // The least, because the monitor may probe meanwhile.
        least = (least.0.min(with), least.1.min(without));
    }
    assert_eq!(least.0, least.1);
}

#[tokio::test]
async fn one_that_is_behind_is_waited_for_and_never_read_too_early() {
    let servers = servers(Servers::builder()).await;
    for standby in [1, 2] {
        run(
            &servers,
            standby,
            "ALTER SYSTEM SET recovery_min_apply_delay = '150ms'",
        )
        .await;
        run(&servers, standby, "SELECT pg_reload_conf()").await;
    }
    let url = as_app(&servers.url());
    let patient = pool(&url, |config| config.consistency_wait(PATIENT)).await;
    let hasty = pool(&url, |config| config.consistency_wait(Duration::ZERO)).await;
    for n in 0..10 {
        let token = write(&patient, n).await;
        // Nobody waits: the writer, unless a standby is known to have it.
        let (by, _) = served(&hasty, &token, n).await;
        assert_ne!(by, ServedBy::Waited);
        let (by, _) = served(&patient, &token, n).await;
        assert_ne!(by, ServedBy::Writer);
    }
}

#[tokio::test]
async fn where_replay_is_paused_the_writer_serves() {
    let servers = servers(Servers::builder()).await;
    let pool = pool(&as_app(&servers.url()), |config| config).await;
    let before = write(&pool, 1).await;
    servers.wait_replayed().await.unwrap();
    served(&pool, &before, 1).await;
    for standby in [1, 2] {
        pause_replay(&servers, standby).await;
    }
    let after = write(&pool, 2).await;
    for _ in 0..3 {
        let (by, port) = served(&pool, &after, 2).await;
        assert_eq!(by, ServedBy::Writer);
        assert_eq!(port, host(&servers, 0).port());
        // What they have they serve.
        assert_ne!(served(&pool, &before, 1).await.0, ServedBy::Writer);
    }
    // While there is no writer they are waited for, however long it takes.
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    assert_ne!(served(&pool, &before, 1).await.0, ServedBy::Writer);
    let short = Duration::from_millis(400);
    let error = pool.timeout_reader_at(&after, short).await.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)), "{error}");
    let resume = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        resume_replay(&servers, 1).await;
    };
    let ((by, port), ()) = tokio::join!(served(&pool, &after, 2), resume);
    assert_ne!(by, ServedBy::Writer);
    assert_eq!(port, host(&servers, 1).port());
}

#[tokio::test]
async fn a_token_sees_what_anybody_has_committed() {
    let servers = servers(Servers::builder().standbys(1)).await;
    let pool = pool(&servers.url(), |config| config.consistency_wait(PATIENT)).await;
    let pool = &pool;
    let each = (0..200).map(|n| async move {
        let client = pool.get().await.unwrap();
        let sql = "INSERT INTO t (n) VALUES ($1)";
        client.execute(sql, &[&n]).await.unwrap();
        drop(client);
        let token = pool.token().await.unwrap();
        assert_ne!(served(pool, &token, n).await.0, ServedBy::Writer);
    });
    futures_util::future::join_all(each).await;
    // And in a transaction.
    let token = write(pool, 777).await;
    let reading = pool.tx().reader_at(&token).run(|tx| async move {
        let sql = "SELECT count(*), bool_and(pg_is_in_recovery()) FROM t WHERE n = 777";
        let row = tx.query_one(sql, &[]).await?;
        Ok((row.get::<_, i64>(0), row.get::<_, bool>(1)))
    });
    assert_eq!(reading.await.unwrap(), (1, true));
    let writing = pool.tx().reader_at(&token).run(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    assert_eq!(writing.await.unwrap_err().sqlstate(), Some("25006"));
}

#[tokio::test]
async fn what_a_failover_kept_is_known_to_be_kept() {
    let servers = servers(Servers::builder()).await;
    let pool = pool(&as_app(&servers.url()), |config| config).await;
    let token = write(&pool, 1).await;
    servers.wait_replayed().await.unwrap();
    assert_eq!(pool.cluster().standing(&token), Standing::Current);
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let other = 3 - promoted;
    seen(&pool, "the new writer", |topology| {
        topology.writer == Some(host(&servers, promoted))
    })
    .await;
    assert_eq!(pool.cluster().standing(&token), Standing::Kept);
    seen(&pool, "the other standby", |topology| {
        topology.host(&host(&servers, other)).unwrap().is_reader()
    })
    .await;
    let (by, port) = served(&pool, &token, 1).await;
    assert_ne!(by, ServedBy::Writer);
    assert_eq!(port, host(&servers, other).port());

    // The other one has not shown yet that it has come to the new timeline.
    let fresh = write(&pool, 2).await;
    assert_eq!(fresh.timeline(), Some(2));
    assert_eq!(served(&pool, &fresh, 2).await.0, ServedBy::Writer);
    // To those who may look it shows it at once.
    run(&servers, promoted, "GRANT pg_read_all_stats TO app").await;
    let allowed = connect_with(&as_app(&servers.url()), |config| {
        config.consistency_wait(PATIENT)
    })
    .await
    .unwrap();
    seen(&allowed, "the standby", |topology| {
        topology.host(&host(&servers, other)).unwrap().is_reader()
    })
    .await;
    let fresh = write(&allowed, 3).await;
    assert_eq!(served(&allowed, &fresh, 3).await.0, ServedBy::Waited);
    // And to all others in the end, here with its next restart.
    servers.stop_fast(other).await.unwrap();
    servers.start_host(other).await.unwrap();
    run(&servers, promoted, "REVOKE pg_read_all_stats FROM app").await;
    soon("its word", async {
        let mut n = 4;
        while served(&pool, &write(&pool, n).await, n).await.0 == ServedBy::Writer {
            n += 1;
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_failover_lost_is_told() {
    let servers = servers(Servers::builder()).await;
    let pool = pool(&servers.url(), |config| config).await;
    let kept = write(&pool, 1).await;
    servers.wait_replayed().await.unwrap();
    unplug(&servers, 1).await;
    unplug(&servers, 2).await;
    let lost = write(&pool, 2).await;
    assert_eq!(pool.cluster().standing(&lost), Standing::Current);
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    seen(&pool, "the new writer", |topology| {
        topology.writer == Some(host(&servers, promoted))
    })
    .await;
    assert_eq!(pool.cluster().standing(&lost), Standing::Lost);
    let (is_there, told, port) = read(&pool, &lost, 2).await;
    assert_eq!((told.by, told.standing), (ServedBy::Writer, Standing::Lost));
    assert_eq!((is_there, port), (false, host(&servers, promoted).port()));
    assert_eq!(pool.cluster().standing(&kept), Standing::Kept);
    assert!(read(&pool, &kept, 1).await.0);
    // The new timeline passes the old one's position, and is another one all the same.
    run(
        &servers,
        promoted,
        "INSERT INTO t (n) SELECT 5 FROM generate_series(1, 10000)",
    )
    .await;
    assert_eq!(read(&pool, &lost, 2).await.1.standing, Standing::Lost);

    // Who has not seen it can't tell, once the server has forgotten.
    servers.stop_fast(promoted).await.unwrap();
    servers.start_host(promoted).await.unwrap();
    let late = Pool::connect(&servers.url()).await.unwrap();
    assert_eq!(late.cluster().standing(&lost), Standing::Unknown);
    let told = read(&late, &lost, 2).await.1;
    assert_eq!(
        (told.by, told.standing),
        (ServedBy::Writer, Standing::Unknown)
    );
}

/// Lets a standby follow nobody.
async fn unplug(servers: &Servers, standby: usize) {
    run(
        servers,
        standby,
        "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'",
    )
    .await;
    run(servers, standby, "SELECT pg_reload_conf()").await;
    let client = servers.connect(standby).await.unwrap();
    soon("the end of the stream", async {
        let sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A standby that goes on with a former primary is beyond every position of the new one, and has
/// nothing of what was written there.
#[tokio::test]
async fn a_standby_on_another_branch_is_not_read() {
    let servers = servers(Servers::builder()).await;
    let url = servers.url();
    unplug(&servers, 2).await;
    run(
        &servers,
        0,
        "INSERT INTO t (n) SELECT 5 FROM generate_series(1, 10000)",
    )
    .await;
    servers.promote(2).await.unwrap();
    // Whether it may look or not.
    for url in [as_app(&url), url] {
        let pool = connect_with(&url, |config| config).await.unwrap();
        seen(
            &pool,
            "the new writer, and the old one's standby",
            |topology| {
                let standby = topology.host(&host(&servers, 1));
                topology.writer == Some(host(&servers, 2))
                    && standby.is_some_and(|host| host.is_reader())
            },
        )
        .await;
        for n in 100..110 {
            let token = write(&pool, n).await;
            let topology = pool.cluster().topology();
            let standby = topology.host(&host(&servers, 1)).unwrap();
            assert!(standby.position > token.position(), "no longer beyond it");
            assert_eq!(served(&pool, &token, n).await.0, ServedBy::Writer);
        }
        // As long as nobody asks for more it is a reader as ever.
        let port = port(&pool.reader().await.unwrap()).await;
        assert_eq!(port, host(&servers, 1).port());
    }
}

#[tokio::test]
async fn a_token_of_another_cluster_is_refused() {
    let builder = || Servers::builder().standbys(1).fresh_initdb(true);
    let (ours, theirs) = (servers(builder()).await, servers(builder()).await);
    let (pool, other) = (
        pool(&ours.url(), |config| config).await,
        pool(&theirs.url(), |config| config).await,
    );
    let foreign = write(&other, 1).await;
    let error = pool.reader_at(&foreign).await.unwrap_err();
    let Error::TokenRefused(refused) = &error else {
        panic!("{error}");
    };
    assert_eq!(refused.standing, Standing::Foreign);
    for id in [foreign.system_identifier(), refused.system_identifier] {
        let id = id.unwrap().to_string();
        assert!(error.to_string().contains(&id), "{error}");
    }
    assert!(!error.is_transient());
    let reading = pool.tx().reader_at(&foreign).run(|_| async { Ok(()) });
    assert!(matches!(reading.await, Err(Error::TokenRefused(_))));
}

#[tokio::test]
async fn tokens_of_the_future_are_recognised() {
    let servers = servers(Servers::builder().standbys(1)).await;
    let pool = pool(&servers.url(), |config| config).await;
    let token = write(&pool, 1).await;
    let id = token.system_identifier();
    // Of a timeline that there is not: no host here can have it, also not the writer.
    let unseen = ConsistencyToken::new(id, 2, token.position().unwrap());
    let error = soon("the refusal", pool.reader_at(&unseen))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::TokenRefused(refused) if refused.standing == Standing::Future),
        "{error}"
    );
    assert!(error.to_string().contains("timeline 2"), "{error}");
    // Of a position that nobody has reached.
    let far = Lsn::new(token.position().unwrap().get() + (1 << 40));
    let beyond = ConsistencyToken::new(id, 1, far);
    let (is_there, told, _) = read(&pool, &beyond, 1).await;
    assert!(is_there);
    assert_eq!(
        (told.by, told.standing),
        (ServedBy::Writer, Standing::Future)
    );
    // It spares nobody the standby that has what they ask for.
    assert_ne!(served(&pool, &token, 1).await.0, ServedBy::Writer);

    // Of a timeline that comes to be seen.
    servers.kill(0).await.unwrap();
    let next = ConsistencyToken::new(id, 2, Lsn::new(1));
    let reading = pool.timeout_reader_at(&next, PATIENT);
    let (read, promoted) = tokio::join!(reading, servers.promote(1));
    promoted.unwrap();
    let (client, told) = read.unwrap();
    assert_eq!(
        (told.by, told.standing),
        (ServedBy::Writer, Standing::Current)
    );
    assert_eq!(port(&client).await, host(&servers, 1).port());
}

#[tokio::test]
async fn a_commit_found_out_has_a_token_of_the_writer() {
    let servers = servers(Servers::builder().standbys(1).proxies(true)).await;
    let pool = pool(&servers.proxied_url(), |config| config).await;
    let trigger = Trigger::new("COMMIT", Moment::BeforeAnswer);
    servers.proxy(0).unwrap().cut_at(trigger);
    let token = write(&pool, 1).await;
    assert_eq!(token.position(), None);
    assert_eq!(served(&pool, &token, 1).await.0, ServedBy::Writer);
    assert_eq!(pool.cluster().standing(&token), Standing::Unknown);
}

#[tokio::test]
async fn a_silent_standby_delays_nobody_beyond_the_wait() {
    let servers = servers(Servers::builder().standbys(1)).await;
    let pool = pool(&servers.url(), |config| config).await;
    served(&pool, &write(&pool, 1).await, 1).await;
    servers.freeze(1).await.unwrap();
    for n in 2..5 {
        let token = write(&pool, n).await;
        assert_eq!(served(&pool, &token, n).await.0, ServedBy::Writer);
    }
    servers.thaw(1).await.unwrap();
    // The deadline covers it all: the standby does not get there, and the writer is gone.
    pause_replay(&servers, 1).await;
    let token = write(&pool, 9).await;
    servers.freeze(0).await.unwrap();
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let short = Duration::from_millis(500);
    let read = soon("the deadline", pool.timeout_reader_at(&token, short)).await;
    assert!(matches!(read, Err(Error::NoHost(_))));
}

#[tokio::test]
async fn reads_dropped_at_every_moment_leak_nothing() {
    let servers = servers(Servers::builder().standbys(1).proxies(true)).await;
    let pool = pool(&servers.proxied_url(), |config| {
        config
            .reader_size(2)
            .writer_size(2)
            .consistency_wait(Duration::from_millis(20))
    })
    .await;
    let each = Duration::from_millis(1);
    servers.proxy(1).unwrap().delay(each, each);
    for paused in [false, true] {
        if paused {
            pause_replay(&servers, 1).await;
        }
        for micros in (0..30_000).step_by(500) {
            let token = pool.token().await.unwrap();
            run(&servers, 0, "INSERT INTO t (n) VALUES (0)").await;
            let limit = Duration::from_micros(micros);
            drop(tokio::time::timeout(limit, pool.reader_at(&token)).await);
            drop(tokio::time::timeout(limit, pool.token()).await);
        }
    }
    resume_replay(&servers, 1).await;
    let all = async {
        let mut held = Vec::new();
        for target in [Target::Primary, Target::Standby] {
            for _ in 0..2 {
                held.push(pool.get_as(target).await.unwrap());
            }
        }
        held
    };
    drop(soon("all connections", all).await);
    let token = write(&pool, 77).await;
    served(&pool, &token, 77).await;
    assert_eq!(pool.status().waiting, 0);
}
