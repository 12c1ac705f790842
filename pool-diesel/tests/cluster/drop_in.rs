//! Code that was written for diesel-async's pools runs on the pool as it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use diesel::{
    connection::{Instrumentation, InstrumentationEvent},
    dsl::sql,
    pg::Pg,
    prelude::*,
    sql_types::Text,
};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
    pooled_connection::deadpool::{self, Object},
};
use leadpool_diesel::{
    Error, Pool, PoolError, diesel_async,
    leadpool::{self, config::Recycling},
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

async fn with_any_connection<C>(conn: &mut C) -> QueryResult<Vec<i64>>
where
    C: AsyncConnection<Backend = Pg>,
{
    t::table.select(t::n).order(t::n).load(conn).await
}

/// What applications have as an extractor.
struct DatabaseConnection(Object<AsyncPgConnection>);

async fn taken(pool: &Pool) -> Result<DatabaseConnection, deadpool::PoolError> {
    Ok(DatabaseConnection(pool.get().await?))
}

#[tokio::test]
async fn every_way_to_run_a_statement() {
    let (_servers, pool) = start().await;
    let DatabaseConnection(mut conn) = taken(&pool).await.unwrap();
    let written = diesel::insert_into(t::table)
        .values([t::n.eq(3), t::n.eq(1)])
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(written, 2);
    insert(&mut conn, 2).await.unwrap();
    assert_eq!(with_any_connection(&mut conn).await.unwrap(), [1, 2, 3]);
    assert_eq!(with_any_connection(&mut *conn).await.unwrap(), [1, 2, 3]);
    let none = t::table.find(99).first::<(i64, i64)>(&mut conn).await;
    assert_eq!(none.unwrap_err(), diesel::NotFound);
    // Several at a time, on a shared reference.
    let (mut first, mut second) = (&*conn, &*conn);
    let counted = t::table.count().get_result::<i64>(&mut first);
    let least = t::table
        .select(diesel::dsl::min(t::n))
        .get_result::<Option<i64>>(&mut second);
    let (counted, least) = tokio::try_join!(counted, least).unwrap();
    assert_eq!((counted, least), (3, Some(1)));
    // Transactions of diesel's own.
    let id = conn
        .transaction(async |conn| {
            insert(conn, 4).await?;
            conn.transaction(async |conn| insert(conn, 5).await).await
        })
        .await
        .unwrap();
    assert_eq!(id, 5);
    let undone = conn
        .build_transaction()
        .serializable()
        .run(async |conn| {
            insert(conn, 6).await?;
            Err::<(), _>(diesel::result::Error::RollbackTransaction)
        })
        .await;
    assert!(undone.is_err());
    assert_eq!(
        t::table.count().get_result::<i64>(&mut conn).await.unwrap(),
        5
    );
    drop(conn);
    assert_eq!(idle(&pool), 1, "it was used all the time");
}

#[tokio::test]
async fn statements_in_a_spawned_task() {
    let (_servers, pool) = start().await;
    let mine = pool.clone();
    let task = tokio::spawn(async move {
        let mut conn = mine.get().await.unwrap();
        insert(&mut conn, 1).await.unwrap();
        mine.run_tx(|mut tx| async move { insert(&mut tx, 2).await })
            .await
            .unwrap()
    });
    assert_eq!(task.await.unwrap(), 2);
}

#[tokio::test]
async fn a_reader_is_served_by_a_standby() {
    let (servers, pool) = start().await;
    let mut conn = pool.reader().get().await.unwrap();
    assert_ne!(port(&mut conn).await, port_of(&servers, 0));
    let refused = insert(&mut conn, 1).await.unwrap_err();
    assert_eq!(Error::from(refused).sqlstate(), Some("25006"));
}

#[tokio::test]
async fn what_diesel_calls_unknown_has_its_sqlstate() {
    let (_servers, pool) = start().await;
    let mut conn = pool.get().await.unwrap();
    assert_eq!(pool.sqlstate(&conn), None);
    for code in ["40P01", "55P03", "57P01"] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");
        diesel::sql_query(raise)
            .execute(&mut conn)
            .await
            .unwrap_err();
        assert_eq!(pool.sqlstate(&conn).as_deref(), Some(code));
    }
    // Each connection has its own.
    let other = pool.get().await.unwrap();
    assert_eq!(pool.sqlstate(&other), None);
}

#[tokio::test]
async fn a_full_pool_times_out_and_a_closed_one_says_so() {
    let (servers, pool) = start_one(1).await;
    let conn = pool.get().await.unwrap();
    let error = refusal(pool.get_within(Duration::from_millis(50)).await);
    assert!(matches!(error, PoolError::Timeout(_)), "{error:?}");
    drop(conn);
    drop(pool.get().await.unwrap());
    pool.close();
    assert!(matches!(refusal(pool.get().await), PoolError::Closed));
    no_sessions(&servers).await;
}

#[tokio::test]
async fn closing_aborts_what_does_not_end() {
    let (servers, pool) = start_one(1).await;
    let mut conn = pool.get().await.unwrap();
    let sleeping = diesel::sql_query("SELECT pg_sleep(60)").execute(&mut conn);
    let closing = pool.close_within(Duration::from_millis(50));
    let (slept, ()) = tokio::join!(soon("its end", sleeping), soon("the end", closing));
    slept.unwrap_err();
    drop(conn);
    // The server itself finds out later.
    servers.terminate_backends(0).await.unwrap();
    no_sessions(&servers).await;
}

#[tokio::test]
async fn dropping_the_pools_ends_their_connections() {
    let (servers, pool) = start_one(2).await;
    let both = tokio::join!(pool.get(), pool.get());
    drop((both.0.unwrap(), both.1.unwrap()));
    let follower = pool.deadpool_pool();
    drop(follower.get().await.unwrap());
    drop(pool);
    // It lives on by itself.
    let mut conn = follower.get().await.unwrap();
    insert(&mut conn, 1).await.unwrap();
    drop((conn, follower));
    no_sessions(&servers).await;
}

#[tokio::test]
async fn no_host_says_what_was_seen() {
    let (servers, pool) = start().await;
    for host in 0..3 {
        servers.kill(host).await.unwrap();
    }
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let error = refusal(pool.get_within(Duration::from_millis(100)).await);
    let Some(Error::Pool(leadpool::Error::NoHost(inside))) = Error::inside(&error) else {
        panic!("{error:?}");
    };
    assert_eq!(inside.seen.len(), 3, "{error}");
    assert!(
        error
            .to_string()
            .contains(&port_of(&servers, 0).to_string()),
        "{error}"
    );
    // And out again, through diesel's type too.
    let error = diesel::result::Error::from(Error::from(error));
    assert!(Error::from(error).is_transient());
}

#[tokio::test]
async fn a_connection_is_handed_out_without_a_round_trip() {
    let (servers, pool) = start_one(1).await;
    drop(pool.get().await.unwrap());
    let host = servers.proxy(0).unwrap();
    let before = host.turns();
    for _ in 0..50 {
        drop(pool.get().await.unwrap());
    }
    // A probe may be counted too.
    assert!(host.turns() - before <= 2);
}

#[tokio::test]
async fn a_broken_transaction_is_not_handed_on() {
    let (servers, pool) = start_one(1).await;
    let mut conn = pool.get().await.unwrap();
    let first = backend(&mut conn).await;
    // Dropped in its midst: diesel leaves it open.
    let unfinished = conn.transaction(async |conn| {
        insert(conn, 1).await?;
        std::future::pending::<QueryResult<()>>().await
    });
    drop(tokio::time::timeout(Duration::from_millis(200), unfinished).await);
    drop(conn);
    let mut conn = pool.get().await.unwrap();
    assert_ne!(backend(&mut conn).await, first);
    no_open_transactions(&servers).await;
    assert_eq!(rows(&servers).await, 0);
}

/// Counts what it is told of.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU32>);

impl Instrumentation for Counting {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if matches!(event, InstrumentationEvent::StartQuery { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn instrumentation_is_the_applications() {
    let (_servers, pool) = start_one(1).await;
    let counting = Counting::default();
    let mut conn = pool.get().await.unwrap();
    conn.set_instrumentation(counting.clone());
    insert(&mut conn, 1).await.unwrap();
    assert_eq!(count(&counting.0), 1);
    diesel::sql_query("SELECT 1/0")
        .execute(&mut conn)
        .await
        .unwrap_err();
    assert_eq!(pool.sqlstate(&conn).as_deref(), Some("22012"));
    drop(conn);
    let before = count(&counting.0);
    pool.run_tx(|mut tx| async move { insert(&mut tx, 1).await })
        .await
        .unwrap();
    assert_eq!(
        count(&counting.0) - before,
        4,
        "BEGIN, INSERT, question, COMMIT"
    );
}

#[tokio::test]
async fn hooks_and_settings_of_the_configuration_hold() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = Pool::builder(&servers.url())
        .configure(|config| {
            config
                .session_setting("app.tenant", "7")
                .application_name("shop")
                .on_connect(|client| {
                    Box::pin(
                        async move { Ok(client.batch_execute("SET app.hooked = 'yes'").await?) },
                    )
                })
        })
        .build()
        .await
        .unwrap();
    let mut conn = pool.get().await.unwrap();
    let all = "concat_ws(',', current_setting('app.tenant'), current_setting('app.hooked'), \
               current_setting('application_name'), current_setting('TimeZone'))";
    let found: String = diesel::select(sql::<Text>(all))
        .get_result(&mut conn)
        .await
        .unwrap();
    assert_eq!(found, "7,yes,shop,UTC");
}

#[tokio::test]
async fn a_used_connection_is_cleaned_if_asked_for() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::builder(&servers.url())
        .max_size(1)
        .configure(|config| {
            config
                .recycling(Recycling::Clean)
                .session_setting("app.tenant", "7")
                .session_setting("TimeZone", "Asia/Tokyo")
        })
        .build()
        .await
        .unwrap();
    let mut conn = pool.get().await.unwrap();
    let first = backend(&mut conn).await;
    // Of which diesel knows nothing.
    let left = "SET app.tenant = '8'; BEGIN; INSERT INTO t (n) VALUES (1)";
    conn.batch_execute(left).await.unwrap();
    drop(conn);
    for follows in [false, true] {
        let follower = pool.deadpool_pool();
        let mut conn = match follows {
            false => pool.get().await.unwrap(),
            true => {
                drop(follower.get().await.unwrap());
                follower.get().await.unwrap()
            }
        };
        assert_eq!(backend(&mut conn).await == first, !follows);
        let all = "concat_ws(',', current_setting('app.tenant'), current_setting('TimeZone'))";
        let found = diesel::select(sql::<Text>(all)).get_result::<String>(&mut conn);
        assert_eq!(found.await.unwrap(), "7,UTC");
    }
    assert_eq!(rows(&servers).await, 0);
    pool.run_tx(|mut tx| async move { insert(&mut tx, 1).await })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_read_only_connection_refuses_to_write_before_the_server_does() {
    let (servers, pool) = start_one(1).await;
    // The only host is the writer.
    let mut conn = pool.reader().get_read_only().await.unwrap();
    assert_eq!(with_any_connection(&mut conn).await.unwrap(), [0; 0]);
    let before = servers.proxy(0).unwrap().turns();
    let refusals = [
        diesel::insert_into(t::table)
            .values(t::n.eq(1))
            .execute(&mut conn)
            .await,
        diesel::delete(t::table).execute(&mut conn).await,
        diesel::update(t::table)
            .set(t::n.eq(1))
            .execute(&mut conn)
            .await,
        t::table
            .select(t::n)
            .for_update()
            .load::<i64>(&mut conn)
            .await
            .map(|_| 0),
        conn.batch_execute("SELECT 1; TRUNCATE t").await.map(|()| 0),
    ];
    for refusal in refusals {
        let refusal = Error::from(refusal.unwrap_err());
        assert_eq!(refusal.sqlstate(), Some("25006"), "{refusal}");
    }
    let sent = servers.proxy(0).unwrap().turns() - before;
    assert!(sent <= 1, "{sent}: no more than a probe");
    // Its transactions are diesel's.
    let read = conn
        .transaction(async |conn| {
            conn.transaction(async |conn| with_any_connection(conn).await)
                .await
        })
        .await;
    assert_eq!(read.unwrap(), [0; 0]);
    drop(conn);
    no_open_transactions(&servers).await;
}
