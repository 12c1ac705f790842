//! The application on diesel-async: on leadpool-diesel, and on diesel-async's own deadpool.

use std::time::{Duration, Instant};

use diesel::{
    QueryResult, QueryableByName, sql_query,
    sql_types::{BigInt, Integer, Text},
};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl,
    pooled_connection::{AsyncDieselConnectionManager, deadpool},
};
use leadpool::discovery::patroni::Patroni;

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
struct Counted {
    #[diesel(sql_type = BigInt, column_name = "count")]
    _count: i64,
}

/// What both applications have in common: functions on diesel-async's own connection.
async fn insert(conn: &mut AsyncPgConnection, worker: i32, entry: i64) -> QueryResult<String> {
    let written: Written = sql_query(format!("{INSERT} AS server"))
        .bind::<Integer, _>(worker)
        .bind::<BigInt, _>(entry)
        .get_result(conn)
        .await?;
    Ok(written.server)
}

async fn count(conn: &mut AsyncPgConnection) -> QueryResult<Counted> {
    let counting = sql_query(READ).bind::<Integer, _>(0).bind::<BigInt, _>(10);
    counting.get_result(conn).await
}

/// On leadpool-diesel: `run_tx` on the writer and on the standbys.
#[derive(Clone)]
pub(super) struct Leadpool(leadpool_diesel::Pool);

impl App for Leadpool {
    const NAME: &'static str = "leadpool-diesel";

    async fn connect(servers: &Stack) -> Result<Self> {
        let (url, rest) = servers.urls();
        let mut pool = leadpool_diesel::Pool::builder(&url);
        if !rest.is_empty() {
            pool = pool.discovery(Patroni::new(rest)?);
        }
        Ok(Self(pool.build().await?))
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let Self(pool) = self;
        let result = pool
            .run_tx(|mut tx| async move {
                let server = insert(&mut tx, worker, entry).await?;
                Ok((server, Instant::now()))
            })
            .await;
        match result {
            Ok((server, written)) => Told::Acknowledged { server, written },
            Err(leadpool_diesel::Error::Pool(leadpool::Error::Unknown(_))) => Told::Unknown,
            Err(error) => Told::Error(error.to_string()),
        }
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let reading = self.0.tx().reader();
        let result = reading
            .run(|mut tx| async move { count(&mut tx).await })
            .await;
        result.map(drop).map_err(|error| error.to_string())
    }

    async fn close(self) {
        self.0.close_within(Duration::from_secs(1)).await;
    }
}

/// On a plain pool of diesel-async with its default options. It can be told one host: the primary.
#[derive(Clone)]
pub(super) struct Plain(deadpool::Pool<AsyncPgConnection>);

impl App for Plain {
    const NAME: &'static str = "diesel-async's deadpool";

    async fn connect(servers: &Stack) -> Result<Self> {
        let url = servers.host_url(servers.primary().await?)?;
        let manager = AsyncDieselConnectionManager::new(url);
        Ok(Self(deadpool::Pool::builder(manager).max_size(16).build()?))
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let result = async {
            let mut conn = self.0.get().await.map_err(|error| error.to_string())?;
            let writing = conn.transaction(async |conn| {
                let server = insert(conn, worker, entry).await?;
                QueryResult::Ok((server, Instant::now()))
            });
            writing.await.map_err(|error| error.to_string())
        };
        match result.await {
            Ok((server, written)) => Told::Acknowledged { server, written },
            Err(error) => Told::Error(error),
        }
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let mut conn = self.0.get().await.map_err(|error| error.to_string())?;
        let result = count(&mut conn).await;
        result.map(drop).map_err(|error| error.to_string())
    }

    async fn close(self) {
        self.0.close();
    }
}
