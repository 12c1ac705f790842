//! Pools of bb8 and of mobc on diesel-async's manager whose connections follow the writer. Some
//! tests compare them with what they are on diesel-async's own. Those that `failover.rs` has of
//! all pools are there.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use diesel::{
    QueryResult,
    connection::{Instrumentation, InstrumentationEvent},
};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection as _, AsyncPgConnection, TransactionManager as _,
    pooled_connection::{AsyncDieselConnectionManager, PoolError, bb8, mobc},
};
use leadpool_diesel::{Pool, diesel_async, leadpool::config::Recycling};
use leadpool_testkit::Cluster as Servers;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    pools::{self, Gets},
    support::*,
};

/// As handlers of applications are.
async fn handle_bb8(mut conn: bb8::PooledConnection<'_, AsyncPgConnection>) -> QueryResult<i64> {
    conn.transaction(async |conn| insert(conn, 1).await).await
}

async fn handle_bb8s(pool: &bb8::Pool<AsyncPgConnection>) -> Result<i64, bb8::RunError> {
    let conn = pool.get().await?;
    let id = handle_bb8(conn).await;
    id.map_err(|error| bb8::RunError::User(PoolError::QueryError(error)))
}

async fn handle_mobc(conn: &mut mobc::PooledConnection<AsyncPgConnection>) -> QueryResult<i64> {
    conn.transaction(async |conn| insert(conn, 1).await).await
}

#[tokio::test]
async fn handlers_stay_as_they_are() {
    let (servers, pool) = start_one(2).await;
    let of_bb8 = pools::bb8(&pool, 2).await;
    let of_mobc = pools::mobc(&pool, 2);
    assert_eq!(handle_bb8s(&of_bb8).await.unwrap(), 1);
    let mut conn = of_mobc.get().await.unwrap();
    assert_eq!(handle_mobc(&mut conn).await.unwrap(), 2);
    // They live on by themselves.
    drop((conn, pool));
    handle_bb8s(&of_bb8).await.unwrap();
    handle_mobc(&mut of_mobc.get().await.unwrap())
        .await
        .unwrap();
    assert_eq!(rows(&servers).await, 4);
    drop((of_bb8, of_mobc));
    no_sessions(&servers).await;
}

#[tokio::test]
async fn bb8_hands_out_a_connection_again_without_a_round_trip() {
    let (servers, pool) = start_one(1).await;
    let pool = pools::bb8(&pool, 1).await;
    let first = backend(&mut pool.get().await.unwrap()).await;
    let before = servers.proxy(0).unwrap().turns();
    for _ in 0..50 {
        drop(pool.get().await.unwrap());
    }
    // The monitor looks after the host.
    let turns = servers.proxy(0).unwrap().turns() - before;
    assert!(turns < 25, "{turns}");
    assert_eq!(backend(&mut pool.get().await.unwrap()).await, first);
}

/// Several idle ones, and one that is being used; then as many at once as the pool has.
async fn nothing_of_the_old_host_is_handed_out(servers: &Servers, pool: &impl Gets) {
    for _ in 0..2 {
        let to = 1 - servers.primary();
        let mut taken = tokio::join!(pool.take(), pool.take(), pool.take(), pool.take());
        insert(&mut taken.0, 1).await.unwrap();
        drop((taken.1, taken.2, taken.3));
        servers.switchover(to).await.unwrap();
        let expected = port_of(servers, to);
        drop(taken.0);
        for _ in 0..5 {
            let all = async { tokio::join!(pool.take(), pool.take(), pool.take(), pool.take()) };
            let taken = soon("connections", all).await;
            for mut conn in [taken.0, taken.1, taken.2, taken.3] {
                assert_eq!(port(&mut conn).await, expected);
                insert(&mut conn, 1).await.unwrap();
            }
        }
        servers.wait_replayed().await.unwrap();
    }
    assert_eq!(rows(servers).await, 42);
}

#[tokio::test]
async fn nothing_of_a_former_writer_is_handed_out_and_writes_go_on() {
    for which in ["deadpool", "bb8", "mobc"] {
        let (servers, pool) = start().await;
        match which {
            "deadpool" => {
                let follower = pool.deadpool_pool();
                nothing_of_the_old_host_is_handed_out(&servers, &follower).await;
            }
            "bb8" => {
                let follower = pools::bb8(&pool, 4).await;
                nothing_of_the_old_host_is_handed_out(&servers, &follower).await;
            }
            _ => {
                let follower = pools::mobc(&pool, 4);
                nothing_of_the_old_host_is_handed_out(&servers, &follower).await;
            }
        }
    }
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

/// As a server that takes no connections, whatever those do that it has.
async fn refuse_all(listener: TcpListener) {
    let refusal = b"SFATAL\0VFATAL\0C57P03\0Mnot now\0\0";
    let length = u32::try_from(refusal.len()).unwrap() + 4;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1_024];
        // A request for TLS has eight bytes.
        while let Ok(8) = stream.read(&mut asked).await {
            stream.write_all(b"N").await.unwrap();
        }
        let message = [b"E", &length.to_be_bytes()[..], refusal].concat();
        drop(stream.write_all(&message).await);
    }
}

/// The host refuses connections for a while, and nobody else leads: what was opened before is not
/// aborted, but not handed out either.
#[tokio::test]
async fn a_connection_of_before_a_loss_is_replaced() {
    for instrumented in [false, true] {
        let (servers, pool) = start_one(4).await;
        let follower = pools::bb8(&pool, 2).await;
        let counting = Counting::default();
        let mut both = (follower.take().await, follower.take().await);
        let first = [backend(&mut both.0).await, backend(&mut both.1).await];
        if instrumented {
            both.0.set_instrumentation(counting.clone());
            both.1.set_instrumentation(counting.clone());
            insert(&mut both.0, 1).await.unwrap();
            assert_eq!(count(&counting.0), 1);
        }
        drop(both);
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = servers.proxy(0).unwrap();
        host.set_target(refusing.local_addr().unwrap());
        let refusing = tokio::spawn(refuse_all(refusing));
        let client = servers.connect(0).await.unwrap();
        let monitors = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE application_name LIKE 'leadpool%'";
        assert!(!client.query(monitors, &[]).await.unwrap().is_empty());
        seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
        host.set_target(servers.addr(0).unwrap());
        seen(&pool, "the return", |topology| topology.writer.is_some()).await;
        refusing.abort();
        let open = backends(&servers).await;
        assert!(first.iter().all(|pid| open.contains(pid)));
        let mut now = BTreeSet::new();
        for _ in 0..4 {
            let mut conn = soon("a connection", follower.take()).await;
            now.insert(backend(&mut conn).await);
        }
        assert!(!first.iter().any(|pid| now.contains(pid)), "{instrumented}");
        // From then on they are kept again.
        assert_eq!(now.len(), 1, "{instrumented}");
    }
}

#[tokio::test]
async fn idle_connections_that_the_server_ended_are_not_handed_out() {
    let (servers, pool) = start_one(4).await;
    let follower = pools::bb8(&pool, 4).await;
    let taken = tokio::join!(follower.take(), follower.take(), follower.take());
    drop(taken);
    let before: BTreeSet<_> = backends(&servers).await.into_iter().collect();
    servers.terminate_backends(0).await.unwrap();
    until("the end of the old ones", async || {
        backends(&servers)
            .await
            .iter()
            .all(|pid| !before.contains(pid))
    })
    .await;
    until("new connections", async || {
        let mut conn = follower.take().await;
        insert(&mut conn, 1).await.is_ok()
    })
    .await;
}

/// diesel-async's manager tells mobc the contrary of what it asks when a connection comes back, in
/// 0.9.2: it keeps those only that it should close.
#[tokio::test]
async fn mobc_keeps_what_is_in_a_transaction_and_it_is_closed_instead_of_handed_on() {
    let (servers, pool) = start_one(4).await;
    let plain = AsyncDieselConnectionManager::new(servers.proxied_url());
    for (manager, hands_it_on) in [(plain, true), (pool.manager(), false)] {
        let pool: mobc::Pool<AsyncPgConnection> = mobc::Pool::builder().max_open(1).build(manager);
        let mut conn = pool.take().await;
        let first = backend(&mut conn).await;
        drop(conn);
        let mut conn = pool.take().await;
        let second = backend(&mut conn).await;
        assert_ne!(first, second, "a good one is not kept");
        AnsiTransactionManager::begin_transaction(&mut *conn)
            .await
            .unwrap();
        drop(conn);
        until("its return", async || pool.state().await.idle == 1).await;
        let mut conn = pool.take().await;
        assert_eq!(backend(&mut conn).await == second, hands_it_on);
    }
}

#[tokio::test]
async fn checkouts_wait_for_the_end_of_a_pause() {
    let (_servers, pool) = start_one(4).await;
    let follower = pools::bb8(&pool, 2).await;
    drop(follower.take().await);
    let pause = pool.cluster().pause(Duration::ZERO).await;
    let mut waiting = pin!(follower.take());
    for _ in 0..100 {
        assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        tokio::task::yield_now().await;
    }
    drop(pause);
    insert(&mut *soon("the end", waiting).await, 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_used_connection_is_cleaned_if_asked_for() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::builder(&servers.url())
        .configure(|config| config.recycling(Recycling::Clean))
        .build()
        .await
        .unwrap();
    let follower = pools::bb8(&pool, 1).await;
    let mut conn = follower.take().await;
    let first = backend(&mut conn).await;
    diesel_async::SimpleAsyncConnection::batch_execute(
        &mut *conn,
        "SET app.tenant = '8'; BEGIN; INSERT INTO t (n) VALUES (1)",
    )
    .await
    .unwrap();
    drop(conn);
    let mut conn = follower.take().await;
    assert_eq!(backend(&mut conn).await, first);
    let left = "coalesce(current_setting('app.tenant', true), '')";
    assert_eq!(text(&mut conn, left).await, "");
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_replaced() {
    let (servers, _) = start_one(1).await;
    let pool = Pool::builder(&servers.proxied_url())
        .configure(|config| config.max_lifetime(Some(Duration::from_millis(300))))
        .build()
        .await
        .unwrap();
    let follower = pools::bb8(&pool, 1).await;
    let first = backend(&mut *follower.take().await).await;
    until("another one", async || {
        backend(&mut *follower.take().await).await != first
    })
    .await;
}

#[tokio::test]
async fn without_a_writer_it_is_said_what_was_seen() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = Pool::builder(&servers.url())
        .wait_timeout(Duration::from_millis(300))
        .build()
        .await
        .unwrap();
    let follower = pools::mobc(&pool, 1);
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let Err(error) = soon("the end of the wait", follower.get()).await else {
        panic!("there was a connection");
    };
    let port = port_of(&servers, 0).to_string();
    assert!(error.to_string().contains(&port), "{error}");
}
