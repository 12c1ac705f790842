//! Reading one's own writes. Who serves is leadpool's own choice, and tested there; here it is that
//! sqlx's connections go that way.

use std::time::Duration;

use leadpool_sqlx::{
    Error, PgPoolOptions, Pool,
    leadpool::{
        self,
        consistency::{ConsistencyToken, ServedBy, Standing},
        topology::Lsn,
    },
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

/// Long enough for a slow machine.
const PATIENT: Duration = Duration::from_secs(15);

/// Two standbys that are behind by the time that a commit has been for so long.
async fn behind(delay: &str) -> (Servers, Pool) {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    for standby in [1, 2] {
        let client = servers.connect(standby).await.unwrap();
        let delay = format!("ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'");
        client.batch_execute(&delay).await.unwrap();
        let reload = "SELECT pg_reload_conf()";
        client.batch_execute(reload).await.unwrap();
    }
    let pool = PgPoolOptions::new()
        .configure(|config| config.consistency_wait(PATIENT))
        .connect(&servers.url())
        .await
        .unwrap();
    seen(&pool, "the standbys", |topology| {
        topology
            .hosts()
            .iter()
            .filter(|host| host.is_reader())
            .count()
            == 2
    })
    .await;
    (servers, pool)
}

async fn write(pool: &Pool, n: i64) -> ConsistencyToken {
    let written = pool.tx().run_with_token(|mut tx| async move {
        let insert = sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n);
        insert.execute(&mut *tx).await
    });
    written.await.unwrap().1
}

const FOUND: &str = "SELECT count(*), bool_and(pg_is_in_recovery()) FROM t WHERE n = $1";

#[tokio::test]
async fn a_handle_reads_what_was_written_from_standbys_that_are_behind() {
    let (_servers, pool) = behind("100ms").await;
    for n in 0..10 {
        let token = write(&pool, n).await;
        let reader = pool.reader_at(&token);
        let found: (i64, Option<bool>) = sqlx::query_as(FOUND)
            .bind(n)
            .fetch_one(&reader)
            .await
            .unwrap();
        assert_eq!(found, (1, Some(true)));
        let mut conn = reader.acquire().await.unwrap();
        let found: (i64, Option<bool>) = sqlx::query_as(FOUND)
            .bind(n)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(found, (1, Some(true)));
        drop(conn);
        // What is known and idle is there without waiting.
        soon("an idle connection", async {
            while reader.try_acquire().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let next = write(&pool, 100 + n).await;
        assert!(pool.reader_at(&next).try_acquire().is_none());
        let in_tx = reader.tx().run(|mut tx| async move {
            sqlx::query_as::<_, (i64, Option<bool>)>(FOUND)
                .bind(n)
                .fetch_one(&mut *tx)
                .await
        });
        assert_eq!(in_tx.await.unwrap(), (1, Some(true)));
    }
    // Of what anybody has committed.
    sqlx::query("INSERT INTO t (n) VALUES (777)")
        .execute(&pool)
        .await
        .unwrap();
    let token = pool.token().await.unwrap();
    let (mut conn, served) = pool.acquire_at(&token, PATIENT).await.unwrap();
    assert_eq!(
        (served.by, served.standing),
        (ServedBy::Waited, Standing::Current)
    );
    let found: (i64, Option<bool>) = sqlx::query_as(FOUND)
        .bind(777_i64)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(found, (1, Some(true)));
}

#[tokio::test]
async fn where_no_standby_has_it_the_writer_serves() {
    let (_servers, pool) = behind("1h").await;
    let token = write(&pool, 1).await;
    let short = Duration::from_millis(300);
    let (mut conn, served) = pool.acquire_at(&token, short).await.unwrap();
    assert_eq!(served.by, ServedBy::Writer);
    let found: (i64, Option<bool>) = sqlx::query_as(FOUND)
        .bind(1_i64)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(found, (1, Some(false)));
}

#[tokio::test]
async fn a_token_that_nobody_can_serve_is_inside_of_the_error() {
    let (_servers, pool) = start().await;
    let token = write(&pool, 1).await;
    let foreign = ConsistencyToken::new(Some(1), 1, Lsn::new(1));
    let error = sqlx::query("SELECT 1")
        .execute(&pool.reader_at(&foreign))
        .await
        .unwrap_err();
    let inside = Error::inside(&error).unwrap();
    assert!(
        matches!(inside, Error::Pool(leadpool::Error::TokenRefused(refused)) if refused.standing == Standing::Foreign),
        "{error}"
    );
    // A handle for something else asks for no token.
    let reader = pool.reader_at(&foreign);
    for other in [reader.writer(), reader.reader()] {
        sqlx::query("SELECT 1").execute(&other).await.unwrap();
    }
    let elsewhere = reader.tx().target(leadpool::Target::Primary);
    elsewhere.run(|_| async { Ok(()) }).await.unwrap();
    assert!(token.position().is_some());
}
