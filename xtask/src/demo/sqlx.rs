//! The application on sqlx: on leadpool-sqlx, and on a plain `sqlx::PgPool`.

use std::time::{Duration, Instant};

use leadpool::discovery::patroni::Patroni;
use sqlx::PgConnection;

use super::{
    book::Told,
    workload::{App, INSERT, READ},
};
use crate::{Result, servers::Stack};

/// What both applications have in common: functions on sqlx's own types.
async fn insert(conn: &mut PgConnection, worker: i32, entry: i64) -> sqlx::Result<String> {
    sqlx::query_scalar(INSERT)
        .bind(worker)
        .bind(entry)
        .fetch_one(conn)
        .await
}

async fn count(pool: impl sqlx::PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar(READ)
        .bind(0_i32)
        .bind(10_i64)
        .fetch_one(pool)
        .await
}

/// On leadpool-sqlx: `run_tx` on the writer, single statements on the standbys.
#[derive(Clone)]
pub(super) struct Leadpool(leadpool_sqlx::Pool);

impl App for Leadpool {
    const NAME: &'static str = "leadpool-sqlx";

    async fn connect(servers: &Stack) -> Result<Self> {
        let (url, rest) = servers.urls();
        let mut options = leadpool_sqlx::PgPoolOptions::new();
        if !rest.is_empty() {
            options = options.discovery(Patroni::new(rest)?);
        }
        Ok(Self(options.connect(&url).await?))
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
            Err(leadpool_sqlx::Error::Pool(leadpool::Error::Unknown(_))) => Told::Unknown,
            Err(error) => Told::Error(error.to_string()),
        }
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let result = count(&self.0.reader()).await;
        result.map(drop).map_err(|error| error.to_string())
    }

    async fn close(self) {
        self.0.close_within(Duration::from_secs(1)).await;
    }
}

/// On a plain pool with sqlx's default options. It can be told one host: the primary.
#[derive(Clone)]
pub(super) struct Plain(sqlx::PgPool);

impl App for Plain {
    const NAME: &'static str = "sqlx::PgPool";

    async fn connect(servers: &Stack) -> Result<Self> {
        let url = servers.host_url(servers.primary().await?)?;
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(16);
        Ok(Self(options.connect(&url).await?))
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let result = async {
            let mut tx = self.0.begin().await?;
            let server = insert(&mut tx, worker, entry).await?;
            let written = Instant::now();
            tx.commit().await?;
            sqlx::Result::Ok(Told::Acknowledged { server, written })
        };
        result
            .await
            .unwrap_or_else(|error: sqlx::Error| Told::Error(error.to_string()))
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let result = count(&self.0).await;
        result.map(drop).map_err(|error| error.to_string())
    }

    async fn close(self) {
        // It waits for all connections to come back, without limit.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.close()).await;
    }
}
