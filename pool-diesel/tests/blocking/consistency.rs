//! Reading one's own writes. Who serves is leadpool's own choice, and tested there; here it is that
//! diesel's connections go that way.

use std::time::Duration;

use diesel::{PgConnection, QueryableByName, RunQueryDsl as _, sql_query, sql_types};
use leadpool_diesel::{
    blocking::{Error, InteractPool, Pool},
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
    #[diesel(sql_type = sql_types::BigInt)]
    rows: i64,
    #[diesel(sql_type = sql_types::Bool)]
    on_standby: bool,
}

fn found(conn: &mut PgConnection, n: i64) -> diesel::QueryResult<(i64, bool)> {
    let sql = "SELECT count(*) AS rows, pg_is_in_recovery() AS on_standby FROM t WHERE n = $1";
    let found: Found = sql_query(sql)
        .bind::<sql_types::BigInt, _>(n)
        .get_result(conn)?;
    Ok((found.rows, found.on_standby))
}

fn write(conn: &mut PgConnection, n: i64) -> diesel::QueryResult<usize> {
    let insert = sql_query("INSERT INTO t (n) VALUES ($1)");
    insert.bind::<sql_types::BigInt, _>(n).execute(conn)
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_handle_reads_what_was_written_from_standbys_that_are_behind() {
    let servers = behind().await;
    let url = patient(&servers);
    let pool = blocking(move || Pool::connect(&url).unwrap()).await;
    seen(pool.cluster(), "the standbys").await;
    blocking(move || {
        for n in 0..10 {
            let (_, token) = pool.tx().run_with_token(|conn| write(conn, n)).unwrap();
            let reader = pool.reader_at(&token);
            let mut conn = reader.get().unwrap();
            assert_eq!(found(&mut conn, n).unwrap(), (1, true));
            drop(conn);
            // It is known now.
            let mut conn = reader.try_get().unwrap();
            assert_eq!(found(&mut conn, n).unwrap(), (1, true));
            drop(conn);
            assert_eq!(reader.run_tx(|conn| found(conn, n)).unwrap(), (1, true));
        }
        // Of what anybody has committed.
        write(&mut pool.get().unwrap(), 777).unwrap();
        let token = pool.token().unwrap();
        let (mut conn, served) = pool.get_at(&token, LIMIT).unwrap();
        assert_eq!(
            (served.by, served.standing),
            (ServedBy::Waited, Standing::Current)
        );
        assert_eq!(found(&mut conn, 777).unwrap(), (1, true));
    })
    .await;
}

#[tokio::test]
async fn so_does_that_of_the_pool_for_asynchronous_code() {
    let servers = behind().await;
    let pool = InteractPool::connect(&patient(&servers)).await.unwrap();
    seen(pool.cluster(), "the standbys").await;
    for n in 0..5 {
        let written = pool.tx().run_with_token(move |conn| write(conn, n));
        let (_, token) = written.await.unwrap();
        let reader = pool.reader_at(&token);
        let conn = reader.get().await.unwrap();
        let read = conn.interact(move |conn| found(conn, n)).await;
        assert_eq!(read.unwrap().unwrap(), (1, true));
        drop(conn);
        let in_tx = reader.run_tx(move |conn| found(conn, n));
        assert_eq!(in_tx.await.unwrap(), (1, true));
        let later = pool.token().await.unwrap();
        let (conn, _) = pool.get_at(&later, LIMIT).await.unwrap();
        let read = conn.interact(move |conn| found(conn, n)).await;
        assert_eq!(read.unwrap().unwrap(), (1, true));
    }
}

#[tokio::test]
async fn a_token_that_nobody_can_serve_is_in_the_error() {
    let (_servers, pool) = start().await;
    blocking(move || {
        let foreign = ConsistencyToken::new(Some(1), 1, Lsn::new(1));
        let reader = pool.reader_at(&foreign);
        let Err(error) = reader.get() else {
            panic!("it serves");
        };
        assert!(
            matches!(error, Error::Pool(leadpool::Error::TokenRefused(_))),
            "{error}"
        );
        // A handle for something else asks for no token.
        for other in [reader.writer(), reader.reader()] {
            drop(other.get().unwrap());
        }
    })
    .await;
}

async fn seen(cluster: &leadpool::Cluster, what: &str) {
    soon(what, async {
        let readers = || {
            let topology = cluster.topology();
            let hosts = topology.hosts().iter();
            hosts.filter(|host| host.is_reader()).count()
        };
        while readers() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
