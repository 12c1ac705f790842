//! Reading one's own writes. Who serves is leadpool's own choice, and tested there; here it is that
//! diesel-async's connections go that way.

use std::time::Duration;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool},
};
use diesel_async::RunQueryDsl as _;
use leadpool_diesel::{
    Error, Pool,
    diesel_async::{self, AsyncPgConnection},
    leadpool::{
        self,
        consistency::{ConsistencyToken, ServedBy, Standing},
        topology::Lsn,
    },
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

/// Two standbys that are behind by the time that a commit has been for so long.
async fn behind() -> Servers {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    for standby in [1, 2] {
        let client = servers.connect(standby).await.unwrap();
        let delay = "ALTER SYSTEM SET recovery_min_apply_delay = '100ms'";
        client.batch_execute(delay).await.unwrap();
        let reload = "SELECT pg_reload_conf()";
        client.batch_execute(reload).await.unwrap();
    }
    servers
}

/// So that the standbys, and not the writer, serve.
fn patient(servers: &Servers) -> String {
    servers.url() + "?consistency_wait=15s"
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = Bool)]
    on_standby: bool,
}

async fn found(conn: &mut AsyncPgConnection, n: i64) -> diesel::QueryResult<(i64, bool)> {
    let sql = "SELECT count(*) AS rows, pg_is_in_recovery() AS on_standby FROM t WHERE n = $1";
    let found: Found = sql_query(sql).bind::<BigInt, _>(n).get_result(conn).await?;
    Ok((found.rows, found.on_standby))
}

async fn write(pool: &Pool, n: i64) -> ConsistencyToken {
    let written = pool.tx().run_with_token(|mut tx| async move {
        let insert = sql_query("INSERT INTO t (n) VALUES ($1)");
        insert.bind::<BigInt, _>(n).execute(&mut tx).await
    });
    written.await.unwrap().1
}

#[tokio::test]
async fn a_handle_reads_what_was_written_from_standbys_that_are_behind() {
    let servers = behind().await;
    let pool = Pool::connect(&patient(&servers)).await.unwrap();
    seen(&pool, "the standbys", |topology| {
        let hosts = topology.hosts().iter();
        hosts.filter(|host| host.is_reader()).count() == 2
    })
    .await;
    for n in 0..10 {
        let token = write(&pool, n).await;
        let reader = pool.reader_at(&token);
        let mut conn = reader.get().await.unwrap();
        assert_eq!(found(&mut conn, n).await.unwrap(), (1, true));
        drop(conn);
        let in_tx = reader
            .tx()
            .run(|mut tx| async move { found(&mut tx, n).await });
        assert_eq!(in_tx.await.unwrap(), (1, true));
    }
    // Of what anybody has committed.
    let mut conn = pool.get().await.unwrap();
    let insert = sql_query("INSERT INTO t (n) VALUES (777)");
    insert.execute(&mut conn).await.unwrap();
    let token = pool.token().await.unwrap();
    let limit = Duration::from_secs(20);
    let (mut conn, served) = pool.get_at(&token, limit).await.unwrap();
    assert_eq!(
        (served.by, served.standing),
        (ServedBy::Waited, Standing::Current)
    );
    assert_eq!(found(&mut conn, 777).await.unwrap(), (1, true));
}

#[tokio::test]
async fn a_token_that_nobody_can_serve_is_inside_of_the_error() {
    let (_servers, pool) = start().await;
    assert!(write(&pool, 1).await.position().is_some());
    let foreign = ConsistencyToken::new(Some(1), 1, Lsn::new(1));
    let reader = pool.reader_at(&foreign);
    let Err(error) = reader.get().await else {
        panic!("it serves");
    };
    let inside = Error::inside(&error);
    assert!(
        matches!(inside, Some(Error::Pool(leadpool::Error::TokenRefused(_)))),
        "{error}"
    );
    // A handle for something else asks for no token.
    for other in [reader.writer(), reader.reader()] {
        drop(other.get().await.unwrap());
    }
}
