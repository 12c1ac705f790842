//! Sessions whose settings survive a failover.

use deadpool_postgres::Client;
use leadpool::{Error, IsolationLevel, KeptSession, Pool};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

async fn text(client: &Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).await.unwrap();
    row.get(0)
}

/// A setting that was made once is empty afterwards, and not unknown again.
const STATE: &str = "SELECT concat_ws(' ', current_user, \
                     coalesce(nullif(current_setting('app.tenant', true), ''), '-'), \
                     current_setting('default_transaction_read_only'), \
                     current_setting('default_transaction_isolation'))";

/// A session with settings that depend on their order: the role may not set the first one.
async fn configured(pool: &Pool) -> KeptSession {
    let mut session = pool.session();
    session.set("log_statement", "all").await.unwrap();
    session.set("app.tenant", "x").await.unwrap();
    session.set_role("clerk").await.unwrap();
    session.set_read_only(true).await.unwrap();
    session
        .set_isolation(IsolationLevel::RepeatableRead)
        .await
        .unwrap();
    session.set("app.Tenant", r"it's \7").await.unwrap();
    session
}

const CONFIGURED: &str = r"clerk it's \7 on repeatable read";
const FRESH: &str = "postgres - off read committed";

async fn start_with_role() -> (Servers, Pool) {
    let (servers, pool) = start().await;
    let admin = servers.connect(0).await.unwrap();
    admin.batch_execute("CREATE ROLE clerk").await.unwrap();
    servers.wait_replayed().await.unwrap();
    (servers, pool)
}

/// The first use that succeeds; how often the session said before that it has moved.
async fn use_again(session: &mut KeptSession) -> (String, u32) {
    let mut moved = 0;
    loop {
        match session.get().await {
            Ok(client) => match client.query_one(STATE, &[]).await {
                Ok(row) => return (row.get(0), moved),
                // Its end had not been noticed yet.
                Err(error) => assert!(error.is_closed() || error.code().is_some(), "{error}"),
            },
            Err(Error::SessionMoved(_)) => moved += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn settings_survive_a_switchover() {
    let (servers, pool) = start_with_role().await;
    let mut session = configured(&pool).await;
    assert_eq!(text(session.get().await.unwrap(), STATE).await, CONFIGURED);
    assert_eq!(session.failovers(), 0);
    let from = session.host().unwrap().clone();
    servers.switchover(1).await.unwrap();
    let (found, moved) = soon("the session", use_again(&mut session)).await;
    assert_eq!((found.as_str(), moved), (CONFIGURED, 1));
    assert_eq!(session.failovers(), 1);
    assert_ne!(session.host(), Some(&from));
    assert_eq!(
        session.host().unwrap().port(),
        servers.addr(1).unwrap().port()
    );
    // The second time too.
    servers.heal().await.unwrap();
    servers.switchover(2).await.unwrap();
    let (found, moved) = soon("the session", use_again(&mut session)).await;
    assert_eq!((found.as_str(), moved), (CONFIGURED, 1));
}

#[tokio::test]
async fn a_move_is_told_in_the_class_of_the_aws_drivers_and_only_if_something_is_lost() {
    let (servers, pool) = start_with_role().await;
    let (mut used, mut unused) = (configured(&pool).await, configured(&pool).await);
    used.get().await.unwrap();
    servers.failover().await.unwrap();
    let error = soon("the loss", async {
        loop {
            if let Err(error) = used.get().await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let Error::SessionMoved(moved) = &error else {
        panic!("{error}");
    };
    assert_eq!(moved.from.port(), servers.addr(0).unwrap().port());
    assert_eq!(Some(&moved.to), used.host());
    assert_eq!(error.failover_class(), Some("08S02"));
    assert!(error.is_transient());
    assert_eq!(text(used.get().await.unwrap(), STATE).await, CONFIGURED);
    // Nobody had more of it than its settings.
    assert_eq!(text(unused.get().await.unwrap(), STATE).await, CONFIGURED);
    assert_eq!(unused.failovers(), 1);
}

#[tokio::test]
async fn a_statement_in_flight_fails_and_the_session_goes_on() {
    let (servers, pool) = start_with_role().await;
    let mut session = configured(&pool).await;
    let client = session.get().await.unwrap();
    servers.freeze(0).await.unwrap();
    let (answer, promoted) = tokio::join!(
        soon("the statement", client.simple_query("SELECT 1")),
        servers.failover()
    );
    promoted.unwrap();
    let error = Error::from(answer.unwrap_err());
    assert_eq!(error.failover_class(), Some("08S02"));
    let (found, moved) = soon("the session", use_again(&mut session)).await;
    assert_eq!((found.as_str(), moved), (CONFIGURED, 1));
}

#[tokio::test]
async fn a_setting_is_made_on_whatever_connection_there_is() {
    let (servers, pool) = start_with_role().await;
    let mut session = configured(&pool).await;
    servers.terminate_backends(0).await.unwrap();
    session.reset("role").await.unwrap();
    session.set("app.tenant", "8").await.unwrap();
    let state = text(session.get().await.unwrap(), STATE).await;
    assert_eq!(state, "postgres 8 on repeatable read");
    assert_eq!(session.failovers(), 1);
    let names: Vec<_> = session.settings().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "log_statement",
            "default_transaction_read_only",
            "default_transaction_isolation",
            "app.tenant"
        ]
    );
}

#[tokio::test]
async fn nobody_inherits_its_settings() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let admin = servers.connect(0).await.unwrap();
    admin.batch_execute("CREATE ROLE clerk").await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.writer_size(1))
        .await
        .unwrap();
    let pid = "SELECT pg_backend_pid()::text";
    let first = text(&pool.get().await.unwrap(), pid).await;

    // Ended in good order, also out of a transaction: the connection is clean.
    for leave in ["SELECT 1", "BEGIN"] {
        let mut session = configured(&pool).await;
        session
            .get()
            .await
            .unwrap()
            .batch_execute(leave)
            .await
            .unwrap();
        session.end().await;
        let client = pool.get().await.unwrap();
        assert_eq!(text(&client, STATE).await, FRESH);
        assert_eq!(text(&client, pid).await, first);
        let log = text(&client, "SELECT current_setting('log_statement')").await;
        assert_eq!(log, "none");
    }
    // From a transaction that has failed it can't be undone: closed.
    let mut session = configured(&pool).await;
    let client = session.get().await.unwrap();
    client
        .batch_execute("BEGIN; SELECT 1 / 0")
        .await
        .unwrap_err();
    session.end().await;
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert_eq!(text(&client, STATE).await, FRESH);
    let second = text(&client, pid).await;
    assert_ne!(second, first);
    drop(client);
    // Dropped: closed, unless nothing was set.
    pool.session().get().await.unwrap();
    assert_eq!(text(&pool.get().await.unwrap(), pid).await, second);
    drop(configured(&pool).await);
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert_eq!(text(&client, STATE).await, FRESH);
    assert_ne!(text(&client, pid).await, second);
}

#[tokio::test]
async fn what_was_broken_off_is_not_inherited_either() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    let pool = connect_with(&servers.proxied_url(), |config| config.writer_size(1))
        .await
        .unwrap();
    let each = std::time::Duration::from_millis(2);
    servers.proxy(0).unwrap().delay(each, each);
    for micros in (0..12_000).step_by(1_000) {
        let mut session = pool.session();
        session.get().await.unwrap();
        let limit = std::time::Duration::from_micros(micros);
        let broken = tokio::time::timeout(limit, session.set("app.tenant", "9")).await;
        let recorded = session.settings().count();
        assert_eq!(recorded, usize::from(broken.is_ok()));
        session.end().await;
        let client = soon("a checkout", pool.get()).await.unwrap();
        assert_eq!(text(&client, STATE).await, FRESH, "{micros} µs");
    }
}

#[tokio::test]
async fn what_is_refused_is_not_recorded() {
    let (servers, pool) = start_with_role().await;
    let mut session = pool.session();
    for name in ["", "a b", "x'; DROP TABLE t; --", "client_encoding"] {
        let error = session.set(name, "1").await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{name}: {error}");
    }
    let error = session.set("work_mem", "much").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22023"), "{error}");
    session.set_role("nobody").await.unwrap_err();
    assert_eq!(session.settings().count(), 0);

    // What the next host refuses is told, and not passed over.
    session.set_role("clerk").await.unwrap();
    let admin = servers.connect(0).await.unwrap();
    admin.batch_execute("DROP ROLE clerk").await.unwrap();
    servers.terminate_backends(0).await.unwrap();
    let error = soon("the refusal", async {
        loop {
            match session.get().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(matches!(error, Error::Connect(_)), "{error}");
    let host = servers.addr(0).unwrap().to_string();
    assert!(error.to_string().contains(&host), "{error}");
    assert!(error.to_string().contains("clerk"), "{error}");
}
