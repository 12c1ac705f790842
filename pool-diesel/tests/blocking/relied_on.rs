//! What applications rely on in diesel's r2d2. It is compiled and run with diesel's own and with
//! leadpool's: the line that imports `r2d2` is all that differs.

use std::{thread, time::Duration};

use diesel::{
    connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager as _},
    prelude::*,
};
use leadpool_testkit::Cluster as Servers;

use super::r2d2::{self, ConnectionManager};
use crate::support::{INSERT, blocking, insert, number, prepare, rows, t};

type DbPool = r2d2::Pool<ConnectionManager<PgConnection>>;
type DbConn = r2d2::PooledConnection<ConnectionManager<PgConnection>>;

async fn start_as(
    options: impl FnOnce(
        r2d2::Builder<ConnectionManager<PgConnection>>,
    ) -> r2d2::Builder<ConnectionManager<PgConnection>>
    + Send
    + 'static,
) -> (Servers, DbPool) {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let manager = ConnectionManager::<PgConnection>::new(servers.url());
    let pool = blocking(move || {
        let builder = r2d2::Pool::builder().min_idle(Some(0));
        options(builder).build(manager).unwrap()
    })
    .await;
    (servers, pool)
}

async fn start() -> (Servers, DbPool) {
    start_as(|builder| builder).await
}

fn backend(conn: &mut DbConn) -> i64 {
    number(conn, "SELECT pg_backend_pid()::int8 AS n").unwrap()
}

fn add(conn: &mut DbConn, value: i64) -> QueryResult<i64> {
    diesel::insert_into(t::table)
        .values(t::n.eq(value))
        .returning(t::id)
        .get_result(conn)
}

/// For any connection, as libraries have it.
fn sum(conn: &mut impl LoadsFromPg) -> QueryResult<Vec<Option<i64>>> {
    conn.all()
}

trait LoadsFromPg {
    fn all(&mut self) -> QueryResult<Vec<Option<i64>>>;
}

impl<C> LoadsFromPg for C
where
    C: Connection<Backend = diesel::pg::Pg>
        + diesel::connection::LoadConnection<diesel::connection::DefaultLoadingMode>,
{
    fn all(&mut self) -> QueryResult<Vec<Option<i64>>> {
        t::table.select(t::n).order(t::id).load(self)
    }
}

#[tokio::test]
async fn a_pooled_connection_is_a_connection() {
    let (servers, pool) = start().await;
    blocking(move || {
        let conn = &mut pool.get().unwrap();
        assert_eq!(add(conn, 7).unwrap(), 1);
        conn.transaction(|conn| {
            add(conn, 8)?;
            conn.transaction(|conn| {
                add(conn, 9)?;
                Err::<(), _>(diesel::result::Error::RollbackTransaction)
            })
            .unwrap_err();
            QueryResult::Ok(())
        })
        .unwrap();
        // What only `PgConnection` has.
        conn.build_transaction().serializable().run(insert).unwrap();
        conn.batch_execute(INSERT).unwrap();
        assert_eq!(sum(conn).unwrap(), [Some(7), Some(8), Some(1), Some(1)]);
        let rows: Vec<i64> = t::table
            .select(t::id)
            .load_iter::<i64, diesel::connection::DefaultLoadingMode>(conn)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(rows.len(), 4);
        let error = diesel::sql_query("SELECT 1 FROM nowhere").execute(conn);
        assert!(error.is_err());
        assert!(sum(conn).is_ok());
    })
    .await;
    assert_eq!(rows(&servers).await, 4);
}

#[tokio::test]
async fn a_connection_comes_back_and_is_handed_out_again() {
    let (_servers, pool) = start().await;
    blocking(move || {
        let first = backend(&mut pool.get().unwrap());
        assert_eq!(pool.state().idle_connections, 1);
        assert_eq!(backend(&mut pool.get().unwrap()), first);
        assert_eq!(pool.state().connections, 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_with_an_open_transaction_is_closed() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    blocking(move || {
        let mut conn = there.get().unwrap();
        AnsiTransactionManager::begin_transaction(&mut *conn).unwrap();
        insert(&mut conn).unwrap();
        drop(conn);
        assert_eq!(there.state().connections, 0);
        let mut conn = there.get().unwrap();
        let panicked = thread::spawn(move || {
            insert(&mut conn).unwrap();
            panic!("as tests do");
        });
        panicked.join().unwrap_err();
        assert_eq!(there.state().connections, 0);
    })
    .await;
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_connection_timeout() {
    let (_servers, pool) = start_as(|builder| {
        let timeout = Duration::from_millis(200);
        builder.max_size(1).connection_timeout(timeout)
    })
    .await;
    blocking(move || {
        let held = pool.get().unwrap();
        assert!(pool.get().is_err());
        assert!(pool.get_timeout(Duration::from_millis(10)).is_err());
        assert!(pool.try_get().is_none());
        drop(held);
        pool.get().unwrap();
    })
    .await;
}

#[tokio::test]
async fn all_threads_are_served_by_fewer_connections() {
    let (servers, pool) = start_as(|builder| builder.max_size(3)).await;
    let there = pool.clone();
    blocking(move || {
        let threads: Vec<_> = (0..20)
            .map(|value| {
                let pool = there.clone();
                thread::spawn(move || add(&mut pool.get().unwrap(), value).unwrap())
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    })
    .await;
    assert!(pool.state().connections <= 3);
    assert_eq!(rows(&servers).await, 20);
}

#[tokio::test]
async fn the_tested_ones_are_tested() {
    let (servers, pool) = start_as(|builder| builder.test_on_check_out(true).max_size(1)).await;
    let there = pool.clone();
    let first = blocking(move || backend(&mut there.get().unwrap())).await;
    servers.terminate_backends(0).await.unwrap();
    let second = blocking(move || backend(&mut pool.get().unwrap())).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_test_transaction_is_never_committed() {
    let (servers, pool) = start_as(|builder| {
        let customizer = Box::new(r2d2::TestCustomizer);
        builder.max_size(1).connection_customizer(customizer)
    })
    .await;
    blocking(move || {
        insert(&mut pool.get().unwrap()).unwrap();
        let conn = &mut pool.get().unwrap();
        conn.transaction(|conn| insert(conn)).unwrap();
        assert_eq!(sum(conn).unwrap().len(), 2);
    })
    .await;
    assert_eq!(rows(&servers).await, 0);
}

#[derive(Debug)]
struct TimeZone;

impl r2d2::CustomizeConnection<PgConnection, r2d2::Error> for TimeZone {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), r2d2::Error> {
        Ok(conn.batch_execute("SET TIME ZONE 'Europe/Vienna'")?)
    }
}

#[tokio::test]
async fn a_customizer_sees_each_connection() {
    let (_servers, pool) =
        start_as(|builder| builder.connection_customizer(Box::new(TimeZone))).await;
    blocking(move || {
        let sql = "SELECT (current_setting('TimeZone') = 'Europe/Vienna')::int::int8 AS n";
        let mut held: Vec<DbConn> = (0..3).map(|_| pool.get().unwrap()).collect();
        for conn in &mut held {
            assert_eq!(number(conn, sql).unwrap(), 1);
        }
    })
    .await;
}
