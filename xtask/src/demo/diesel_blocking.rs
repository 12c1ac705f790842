//! The application on diesel's `PgConnection`: on leadpool-diesel, and on diesel's own r2d2. It is
//! synchronous code, in threads of the demo's runtime.

use std::time::{Duration, Instant};

use diesel::{
    Connection as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl as _,
    r2d2::ConnectionManager,
    sql_types::{BigInt, Integer, Text},
};
use leadpool::discovery::patroni::Patroni;
use leadpool_diesel::blocking;
use tokio::task::spawn_blocking;

use super::{
    book::Told,
    workload::{App, INSERT, READ},
};
use crate::{Result, servers::Stack};

#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = Text)]
    server: String,
}

#[derive(QueryableByName)]
struct Read {
    #[diesel(sql_type = BigInt)]
    #[expect(dead_code, reason = "asked for, and not looked at")]
    count: i64,
}

/// What both applications have in common: functions on diesel's own types.
fn insert(conn: &mut PgConnection, worker: i32, entry: i64) -> QueryResult<String> {
    let written: Written = diesel::sql_query(format!("{INSERT} AS server"))
        .bind::<Integer, _>(worker)
        .bind::<BigInt, _>(entry)
        .get_result(conn)?;
    Ok(written.server)
}

fn count(conn: &mut PgConnection) -> QueryResult<Read> {
    diesel::sql_query(READ)
        .bind::<Integer, _>(0)
        .bind::<BigInt, _>(10)
        .get_result(conn)
}

/// On leadpool-diesel: `run_tx` on the writer, and on the standbys.
#[derive(Clone)]
pub(super) struct Leadpool(blocking::Pool);

impl App for Leadpool {
    const NAME: &'static str = "leadpool-diesel, blocking";

    async fn connect(servers: &Stack) -> Result<Self> {
        let (url, rest) = servers.urls();
        let mut builder = blocking::Pool::builder();
        if !rest.is_empty() {
            builder = builder.discovery(Patroni::new(rest)?);
        }
        let manager = blocking::r2d2::ConnectionManager::new(url);
        Ok(Self(spawn_blocking(|| builder.build(manager)).await??))
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let Self(pool) = self.clone();
        let written = spawn_blocking(move || {
            pool.run_tx(|conn| Ok((insert(conn, worker, entry)?, Instant::now())))
        });
        match written.await {
            Ok(Ok((server, written))) => Told::Acknowledged { server, written },
            Ok(Err(blocking::Error::Pool(leadpool::Error::Unknown(_)))) => Told::Unknown,
            Ok(Err(error)) => Told::Error(error.to_string()),
            Err(error) => Told::Error(error.to_string()),
        }
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let reader = self.0.reader();
        let reading = spawn_blocking(move || {
            // Repeated, unlike a statement on a connection that was taken for it.
            let read = reader.run_tx(|conn| count(conn));
            read.map_err(|error| error.to_string())
        });
        let read = reading.await.map_err(|error| error.to_string())?;
        read.map(drop)
    }

    async fn close(self) {
        let _ = spawn_blocking(move || self.0.close_within(Duration::from_secs(1))).await;
    }
}

/// On diesel's own pool with its default options. It can be told one host: the primary.
#[derive(Clone)]
pub(super) struct Plain(diesel::r2d2::Pool<ConnectionManager<PgConnection>>);

impl App for Plain {
    const NAME: &'static str = "diesel::r2d2";

    async fn connect(servers: &Stack) -> Result<Self> {
        let url = servers.host_url(servers.primary().await?)?;
        let builder = diesel::r2d2::Pool::builder().max_size(16);
        let pool = spawn_blocking(move || builder.build(ConnectionManager::new(url))).await??;
        Ok(Self(pool))
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let Self(pool) = self.clone();
        let written = spawn_blocking(move || {
            let conn = &mut pool.get().map_err(|error| error.to_string())?;
            conn.transaction(|conn| Ok((insert(conn, worker, entry)?, Instant::now())))
                .map_err(|error: diesel::result::Error| error.to_string())
        });
        match written.await {
            Ok(Ok((server, written))) => Told::Acknowledged { server, written },
            Ok(Err(error)) => Told::Error(error),
            Err(error) => Told::Error(error.to_string()),
        }
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let Self(pool) = self.clone();
        let reading = spawn_blocking(move || {
            let conn = &mut pool.get().map_err(|error| error.to_string())?;
            count(conn).map_err(|error| error.to_string())
        });
        let read = reading.await.map_err(|error| error.to_string())?;
        read.map(drop)
    }

    async fn close(self) {
        // It is closed when its last handle is dropped.
    }
}
