//! Instrumentation: the events of diesel's own connections.

use diesel::{
    Connection as _, PgConnection, QueryResult, RunQueryDsl as _,
    connection::set_default_instrumentation, prelude::*, result::Error as DieselError, sql_query,
};
use leadpool_diesel::blocking::{
    Builder, Pool,
    r2d2::{ConnectionManager, PooledConnection},
};
use leadpool_testkit::Cluster as Servers;

use crate::{events::*, support::*};

type Pooled = PooledConnection<ConnectionManager<PgConnection>>;

/// A pool of one connection, and the URL of its host.
async fn start_one() -> (Servers, Pool, String) {
    let (servers, pool) = start_as(Builder::new().max_size(1)).await;
    let url = servers.host_url(0).unwrap();
    (servers, pool, url)
}

fn fail(conn: &mut impl Runs) -> QueryResult<usize> {
    conn.run("SELECT 1 FROM nowhere")
}

/// What both connections do.
trait Runs: Connection<Backend = diesel::pg::Pg> {
    fn run(&mut self, sql: &str) -> QueryResult<usize>;
    fn add(&mut self, n: i64) -> QueryResult<i64>;
}

macro_rules! runs {
    ($conn:ty) => {
        impl Runs for $conn {
            fn run(&mut self, sql: &str) -> QueryResult<usize> {
                sql_query(sql).execute(self)
            }

            fn add(&mut self, n: i64) -> QueryResult<i64> {
                diesel::insert_into(t::table)
                    .values(t::n.eq(n))
                    .returning(t::id)
                    .get_result(self)
            }
        }
    };
}

runs!(PgConnection);
runs!(Pooled);

/// A bit of everything.
fn work(conn: &mut impl Runs) {
    conn.add(1).unwrap();
    conn.add(2).unwrap();
    conn.batch_execute("SET work_mem = '1MB'").unwrap();
    fail(conn).unwrap_err();
    conn.transaction(|conn| {
        conn.add(3)?;
        let nested = conn.transaction(|_| Err::<(), _>(DieselError::RollbackTransaction));
        nested.unwrap_err();
        Ok::<_, DieselError>(())
    })
    .unwrap();
    let ended = conn.transaction(|conn| {
        conn.add(4)?;
        fail(conn)
    });
    ended.unwrap_err();
}

#[tokio::test]
async fn a_pooled_connection_tells_what_diesels_own_does() {
    let (_servers, pool, url) = start_one().await;
    blocking(move || {
        let mut theirs = PgConnection::establish(&url).unwrap();
        let expected = Events::default();
        theirs.set_instrumentation(expected.clone());
        work(&mut theirs);
        let events = Events::default();
        let mut conn = pool.get().unwrap();
        conn.set_instrumentation(events.clone());
        work(&mut conn);
        let expected = expected.take();
        assert_eq!(expected.len(), 33, "{expected:#?}");
        assert_eq!(events.take(), expected);
        // It stays with its connection.
        drop(conn);
        fail(&mut pool.get().unwrap()).unwrap_err();
        let told = events.take();
        assert_eq!(told.last().unwrap(), "finish SELECT 1 FROM nowhere false");
    })
    .await;
}

#[tokio::test]
async fn run_tx_tells_what_diesels_transaction_does_and_the_question() {
    let (_servers, pool, url) = start_one().await;
    blocking(move || {
        let mut theirs = PgConnection::establish(&url).unwrap();
        let expected = Events::default();
        theirs.set_instrumentation(expected.clone());
        let events = Events::default();
        pool.get().unwrap().set_instrumentation(events.clone());
        for _ in 0..2 {
            theirs.transaction(|conn| conn.add(1)).unwrap();
            pool.run_tx(|conn| conn.add(1)).unwrap();
        }
        let with_question = events.take();
        let mut without = with_question.clone();
        without.retain(|event| !event.ends_with("EVIDENCE") && !event.contains("EVIDENCE "));
        assert_eq!(without, expected.take());
        // Of the cache once.
        assert_eq!(with_question.len() - without.len(), 5, "{with_question:?}");
        theirs.transaction(fail).unwrap_err();
        pool.run_tx(fail).unwrap_err();
        // It is rolled back behind the answer.
        drop(pool.get().unwrap());
        assert_eq!(events.take(), expected.take());
    })
    .await;
}

#[tokio::test]
async fn the_default_sees_a_connection_from_its_beginning() {
    let (servers, pool, url) = start_one().await;
    set_default_instrumentation(default_events).unwrap();
    blocking(move || {
        let mut theirs = PgConnection::establish(&url).unwrap();
        theirs.run("SELECT 'a sign'").unwrap();
        pool.get().unwrap().run("SELECT 'a sign'").unwrap();
    })
    .await;
    let told = of_those_that_were_told("a sign");
    let [theirs, ours] = &told[..] else {
        panic!("{told:?}");
    };
    let port = port_of(&servers, 0).to_string();
    assert!(theirs[0].starts_with("connect ") && ours[0].starts_with("connect "));
    assert!(ours[0].contains(&port), "{ours:?}");
    // Behind what leadpool asks each new connection.
    assert_eq!(ours[1..theirs.len() - 2], theirs[1..theirs.len() - 2]);
    assert_eq!(ours[ours.len() - 2..], theirs[theirs.len() - 2..]);
}
