//! What applications rely on in diesel's r2d2.

use std::{sync::mpsc, thread, time::Duration};

use diesel::prelude::*;
use leadpool_diesel::{
    blocking::{Error, r2d2},
    leadpool,
};

use leadpool_testkit::Cluster as Servers;

use crate::support::*;

type DbConn = r2d2::PooledConnection<r2d2::ConnectionManager<PgConnection>>;

/// As an application has it that comes from diesel's r2d2.
fn add(conn: &mut DbConn, value: i64) -> QueryResult<i64> {
    diesel::insert_into(t::table)
        .values(t::n.eq(value))
        .returning(t::id)
        .get_result(conn)
}

#[tokio::test]
async fn handlers_of_r2d2_go_on_to_work_in_transactions() {
    let (servers, pool) = start().await;
    blocking(move || {
        pool.run_tx(|conn| add(conn, 10)).unwrap();
        pool.run_tx(|conn| conn.transaction(|conn| add(conn, 10)))
            .unwrap();
    })
    .await;
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn a_transaction_inside_of_a_tests_is_never_committed() {
    let builder = r2d2::Pool::builder()
        .max_size(1)
        .connection_customizer(Box::new(r2d2::TestCustomizer));
    let (servers, pool) = start_as(builder).await;
    blocking(move || {
        pool.run_tx(|conn| add(conn, 1)).unwrap();
        pool.run_tx(|conn| {
            add(conn, 2)?;
            Err::<(), _>(diesel::result::Error::RollbackTransaction)
        })
        .unwrap_err();
        let conn = &mut pool.get().unwrap();
        assert_eq!(number(conn, "SELECT count(*) AS n FROM t").unwrap(), 1);
    })
    .await;
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn who_waits_gets_the_connection_that_comes_back() {
    let (_servers, pool) = start_as(r2d2::Pool::builder().max_size(1)).await;
    let there = pool.clone();
    let held = blocking(move || there.get().unwrap()).await;
    let there = pool.clone();
    let waiting = tokio::spawn(blocking(move || backend(&mut there.get().unwrap())));
    until("the waiter", async || {
        let waiting = pool
            .status()
            .sub_pools
            .iter()
            .map(|pool| pool.counts.waiting)
            .sum::<usize>();
        waiting == 1
    })
    .await;
    drop(held);
    soon("the connection", waiting).await.unwrap();
}

#[tokio::test]
async fn a_minimum_is_kept_open() {
    let (_servers, pool) = start_as(r2d2::Pool::builder().max_size(3).min_idle(None)).await;
    until("three for each host", async || {
        pool.state().connections == 9
    })
    .await;
}

#[tokio::test]
async fn readers_lead_to_standbys() {
    let (servers, pool) = start().await;
    let found = blocking(move || port(&mut pool.reader().get().unwrap())).await;
    assert_ne!(found, port_of(&servers, 0));
}

#[tokio::test]
async fn readers_refuse_writes_if_asked_to() {
    let (_servers, pool) = start_as(r2d2::Pool::builder().refuse_writes(true)).await;
    let error = blocking(move || {
        let conn = &mut pool.reader().get().unwrap();
        t::table.count().get_result::<i64>(conn).unwrap();
        add(conn, 1).unwrap_err()
    })
    .await;
    assert!(error.to_string().contains("reader()"), "{error}");
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_at_once() {
    let servers = Servers::start().await.unwrap();
    let admin = servers.connect(0).await.unwrap();
    admin.batch_execute("CREATE ROLE app LOGIN").await.unwrap();
    servers.wait_replayed().await.unwrap();
    let url = servers.url();
    let builder = r2d2::Pool::builder()
        .connection_timeout(Duration::from_secs(3_600))
        .configure(|config| config.user("app"));
    let pool = blocking(move || builder.build(manager(url)).unwrap()).await;
    admin.batch_execute("ALTER ROLE app NOLOGIN").await.unwrap();
    let error = blocking(move || pool.get().unwrap_err()).await;
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Connect(_))),
        "{error:?}"
    );
    assert!(error.to_string().contains("app"), "{error}");
}

#[tokio::test]
async fn closing_ends_the_threads_and_who_waits() {
    let (_servers, pool) = start_as(r2d2::Pool::builder().max_size(1)).await;
    let there = pool.clone();
    let held = blocking(move || there.get().unwrap()).await;
    let (told, waiting) = mpsc::channel();
    let there = pool.clone();
    let waiter = thread::spawn(move || told.send(there.get().map(drop)).unwrap());
    until("the waiter", async || {
        let waiting = pool
            .status()
            .sub_pools
            .iter()
            .map(|pool| pool.counts.waiting)
            .sum::<usize>();
        waiting == 1
    })
    .await;
    let there = pool.clone();
    blocking(move || there.close_within(Duration::from_millis(10))).await;
    let error = waiting
        .recv_timeout(Duration::from_secs(20))
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Closed)),
        "{error:?}"
    );
    waiter.join().unwrap();
    drop(held);
    assert!(pool.is_closed());
    let there = pool.clone();
    let error = blocking(move || there.get().unwrap_err()).await;
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Closed)),
        "{error:?}"
    );
}

/// As careless applications do.
#[tokio::test]
async fn it_may_be_used_and_dropped_on_a_runtime() {
    let (_servers, pool) = start().await;
    let mut conn = pool.get().unwrap();
    diesel::sql_query("SELECT 1").execute(&mut conn).unwrap();
    pool.run_tx(|conn| insert(conn)).unwrap();
    drop(conn);
    drop(pool);
}
