//! Statements on the pool when hosts are lost.

use std::time::Duration;

use leadpool_sqlx::{Error, PgPoolOptions, Pool, leadpool};

use leadpool_testkit::{Cluster as Servers, Moment, Trigger};
use sqlx::Executor as _;

use crate::support::*;

async fn insert(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO t (n) VALUES ($1)")
        .bind(1_i64)
        .execute(pool)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_statement_waits_for_the_new_writer() {
    let (servers, pool) = start().await;
    insert(&pool).await.unwrap();
    servers.wait_replayed().await.unwrap();
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let (written, promoted) = tokio::join!(soon("the write", insert(&pool)), servers.failover());
    written.unwrap();
    promoted.unwrap();
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn a_statement_in_flight_on_a_frozen_primary_ends_and_is_not_repeated() {
    let (servers, pool) = start().await;
    insert(&pool).await.unwrap();
    until("its return", async || pool.num_idle() == 1).await;
    servers.wait_replayed().await.unwrap();
    servers.freeze(0).await.unwrap();
    let (written, promoted) = tokio::join!(soon("the write", insert(&pool)), servers.failover());
    let promoted = promoted.unwrap();
    let error = written.unwrap_err();
    assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
    let Some(Error::Interrupted(interrupted)) = Error::inside(&error) else {
        panic!("{error}");
    };
    assert_eq!(interrupted.host.port(), port_of(&servers, 0));
    assert!(!Error::from(error).is_transient());
    assert_eq!(
        rows(&servers).await,
        1,
        "it was sent once, to a host that never got to it"
    );
    assert_eq!(port(&pool).await, port_of(&servers, promoted));
}

#[tokio::test]
async fn a_statement_whose_answer_is_lost_is_not_repeated() {
    for (moment, written) in [(Moment::BeforeForward, 0), (Moment::AfterForward, 1)] {
        let (servers, pool) = start_proxied().await;
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("INSERT INTO t", moment));
        // Unprepared, so that the text goes with the statement itself.
        let writing = pool.execute("INSERT INTO t (n) VALUES (1)");
        let error = soon("the write", writing).await.unwrap_err();
        assert!(
            matches!(Error::inside(&error), Some(Error::Interrupted(_))),
            "{moment:?}: {error:?}"
        );
        assert_eq!(rows(&servers).await, written, "{moment:?}");
        insert(&pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_statement_that_may_run_twice_is_repeated_on_the_writer() {
    for (moment, written) in [(Moment::BeforeForward, 1), (Moment::AfterForward, 2)] {
        let (servers, pool) = start_proxied().await;
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("INSERT INTO t", moment));
        let handle = pool.repeatable();
        let writing = handle.execute("INSERT INTO t (n) VALUES (1)");
        soon("the write", writing).await.unwrap();
        assert_eq!(rows(&servers).await, written, "{moment:?}");
    }
}

#[tokio::test]
async fn a_statement_that_may_run_twice_leaves_a_frozen_primary() {
    let (servers, pool) = start().await;
    insert(&pool).await.unwrap();
    until("its return", async || pool.num_idle() == 1).await;
    servers.wait_replayed().await.unwrap();
    servers.freeze(0).await.unwrap();
    let handle = pool.repeatable();
    let (port, promoted) = tokio::join!(soon("the read", port(&handle)), servers.failover());
    assert_eq!(port, port_of(&servers, promoted.unwrap()));
}

#[tokio::test]
async fn a_write_that_is_refused_by_who_is_no_writer_any_more_waits_for_one() {
    let (servers, pool) = start().await;
    insert(&pool).await.unwrap();
    let client = servers.connect(0).await.unwrap();
    let set = async |to: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {to}");
        client
            .batch_execute("SET default_transaction_read_only = off")
            .await
            .unwrap();
        client.batch_execute(&sql).await.unwrap();
        client
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
    };
    set("on").await;
    // Sessions take it over before their next statement.
    let refused = async {
        let mut conn = pool.pg_pool().acquire().await.unwrap();
        until("the setting", async || {
            let sql = "SHOW default_transaction_read_only";
            let found: String = sqlx::query_scalar(sql).fetch_one(&mut *conn).await.unwrap();
            found == "on"
        })
        .await;
    };
    soon("the setting", refused).await;
    let opening = async {
        seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
        set("off").await;
    };
    let (written, ()) = tokio::join!(soon("the write", insert(&pool)), opening);
    written.unwrap();
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn a_read_in_flight_on_a_standby_is_sent_to_another() {
    let (servers, pool) = start().await;
    let reader = pool.reader();
    // Where it runs is found out first, since the next one goes elsewhere.
    let mut ports = Vec::new();
    for _ in 0..2 {
        ports.push(port(&reader).await);
    }
    let victim = (1..3)
        .find(|host| port_of(&servers, *host) == ports[0])
        .unwrap();
    let sql = "SELECT pg_sleep(0.5)::text || inet_server_port()";
    let reading = sqlx::query_scalar::<_, String>(sql).fetch_one(&reader);
    let killing = async {
        let client = servers.connect(victim).await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.5)%' \
                   AND state = 'active' AND pid <> pg_backend_pid()";
        until("the statement", async || {
            client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        servers.kill(victim).await.unwrap();
    };
    let (read, ()) = tokio::join!(soon("the read", reading), killing);
    let found: u16 = read.unwrap().parse().unwrap();
    assert_ne!(found, port_of(&servers, victim));
}

#[tokio::test]
async fn a_statement_on_a_connection_that_the_server_ended_is_sent_again() {
    let (servers, pool) = start().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.acquire().await.unwrap());
    }
    drop(held);
    until("their return", async || pool.num_idle() == 4).await;
    servers.terminate_backends(0).await.unwrap();
    // sqlx has not noticed: the next statements meet what the server said.
    for _ in 0..4 {
        soon("the write", insert(&pool)).await.unwrap();
    }
    assert_eq!(rows(&servers).await, 4);
    assert_eq!(port(&pool).await, port_of(&servers, 0));
}

#[tokio::test]
async fn a_transaction_begins_on_a_connection_that_lives() {
    let (servers, pool) = start().await;
    drop(pool.acquire().await.unwrap());
    until("its return", async || pool.num_idle() == 1).await;
    servers.terminate_backends(0).await.unwrap();
    let mut tx = soon("a transaction", pool.begin()).await.unwrap();
    assert_eq!(port(&mut *tx).await, port_of(&servers, 0));
}

#[tokio::test]
async fn a_procedure_is_not_repeated_in_its_midst() {
    let (servers, pool) = start().await;
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute(
            "CREATE PROCEDURE twice() LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO t (n) VALUES (1); COMMIT; PERFORM pg_sleep(60); END'",
        )
        .await
        .unwrap();
    let calling = sqlx::query("CALL twice()").execute(&pool);
    let ending = async {
        until("the first half", async || rows(&servers).await == 1).await;
        servers.terminate_backends(0).await.unwrap();
    };
    let (called, ()) = tokio::join!(soon("the call", calling), ending);
    let error = called.unwrap_err();
    assert_eq!(Error::from(error).sqlstate().as_deref(), Some("57P01"));
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn statements_through_switchovers() {
    let (servers, pool) = start().await;
    let writing = async {
        let mut written = 0;
        for _ in 0..300 {
            match insert(&pool).await {
                Ok(()) => written += 1,
                // A fast shutdown may break a connection off without a word.
                Err(error) => assert!(
                    matches!(Error::inside(&error), Some(Error::Interrupted(_))),
                    "{error:?}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        written
    };
    let (written, switched) = tokio::join!(writing, servers.switchover(1));
    switched.unwrap();
    assert!(written > 290, "{written}");
    assert!(rows(&servers).await >= written);
}

#[tokio::test]
async fn no_host_says_what_was_seen() {
    let options = PgPoolOptions::new().acquire_timeout(Duration::from_millis(400));
    let (servers, pool) = start_as(options).await;
    for host in 0..3 {
        servers.kill(host).await.unwrap();
    }
    let mut last = None;
    soon("an error that says it", async {
        loop {
            let error = insert(&pool).await.unwrap_err();
            if let Some(Error::Pool(leadpool::Error::NoHost(_))) = Error::inside(&error) {
                last = Some(error);
                break;
            }
        }
    })
    .await;
    let text = last.unwrap().to_string();
    assert!(text.contains(&port_of(&servers, 0).to_string()), "{text}");
}

#[tokio::test]
async fn a_stale_primary_gets_no_statements() {
    let (servers, pool) = start().await;
    insert(&pool).await.unwrap();
    until("its return", async || pool.num_idle() == 1).await;
    servers.promote(1).await.unwrap();
    follows(&servers, &pool, 1).await;
    insert(&pool).await.unwrap();
    assert_eq!(port(&pool).await, port_of(&servers, 1));
}

/// Makes the pool open all connections that it may, and lets the server close them while idle.
async fn close_all_idle(servers: &Servers, pool: &Pool) {
    let mut conns = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        let mut conn = soon("a connection", pool.acquire()).await.unwrap();
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *conn);
        pids.push(pid.await.unwrap());
        conns.push(conn);
    }
    let opened = conns.len();
    drop(conns);
    until("their return", async || pool.num_idle() == opened).await;
    let pids: Vec<i32> = pids;
    let admin = servers.connect(0).await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid";
    admin.execute(sql, &[&pids]).await.unwrap();
    until("their end", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)";
        admin
            .query_one(sql, &[&pids])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
    })
    .await;
}

#[tokio::test]
async fn more_dead_idle_connections_than_repeats_fail_nothing() {
    let (servers, pool) = start().await;
    close_all_idle(&servers, &pool).await;
    soon("a statement", insert(&pool)).await.unwrap();
    close_all_idle(&servers, &pool).await;
    let asking = pool.prepare(sqlx::SqlStr::from_static("SELECT 1"));
    soon("a question", asking).await.unwrap();
    close_all_idle(&servers, &pool).await;
    let writing = pool.run_tx(|mut tx| async move {
        sqlx::query("INSERT INTO t (n) VALUES (2)")
            .execute(&mut *tx)
            .await
    });
    soon("a transaction", writing).await.unwrap();
    assert_eq!(rows(&servers).await, 2);
}
