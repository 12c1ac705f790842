//! The application on tokio-postgres: on leadpool, and on plain deadpool-postgres.

use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use leadpool::{Error, Target, discovery::patroni::Patroni};
use tokio_postgres::NoTls;

use super::{
    book::Told,
    workload::{App, INSERT, READ},
};
use crate::{Result, servers::Stack};

/// On leadpool: `run_tx` on the writer, read-only transactions on the standbys.
#[derive(Clone)]
pub(super) struct Leadpool(leadpool::Pool);

impl App for Leadpool {
    const NAME: &'static str = "leadpool";

    async fn connect(servers: &Stack) -> Result<Self> {
        let (url, rest) = servers.urls();
        Ok(Self(match rest.is_empty() {
            true => leadpool::Pool::connect(&url).await?,
            false => {
                leadpool::Pool::builder(&url)
                    .discovery(Patroni::new(rest)?)
                    .build()
                    .await?
            }
        }))
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let Self(pool) = self;
        let result = pool
            .run_tx(|tx| async move {
                let insert = tx.prepare_cached(INSERT).await?;
                let row = tx.query_one(&insert, &[&worker, &entry]).await?;
                Ok((row.get(0), Instant::now()))
            })
            .await;
        match result {
            Ok((server, written)) => Told::Acknowledged { server, written },
            Err(Error::Unknown(_)) => Told::Unknown,
            Err(error) => Told::Error(error.to_string()),
        }
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let Self(pool) = self;
        let read = pool.tx().target(Target::PreferStandby).read_only(true);
        let result = read
            .run(|tx| async move {
                let statement = tx.prepare_cached(READ).await?;
                tx.query_one(&statement, &[&0_i32, &10_i64]).await?;
                Ok(())
            })
            .await;
        result.map_err(|error| error.to_string())
    }

    async fn close(self) {
        self.0.close(Duration::from_secs(1)).await;
    }
}

/// On plain deadpool-postgres pools with a multi-host URL.
#[derive(Clone)]
pub(super) struct Plain {
    writes: deadpool_postgres::Pool,
    reads: deadpool_postgres::Pool,
}

fn plain_pool(url: &str, attrs: &str) -> Result<deadpool_postgres::Pool> {
    let config = format!("{url}?target_session_attrs={attrs}").parse()?;
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
    Ok(deadpool_postgres::Pool::builder(manager)
        .max_size(16)
        .build()?)
}

impl App for Plain {
    const NAME: &'static str = "deadpool-postgres";

    async fn connect(servers: &Stack) -> Result<Self> {
        let (url, _) = servers.urls();
        Ok(Self {
            writes: plain_pool(&url, "read-write")?,
            reads: plain_pool(&url, "any")?,
        })
    }

    async fn write(&self, worker: i32, entry: i64) -> Told {
        let result = async {
            let mut client = self.writes.get().await.map_err(|error| error.to_string())?;
            let insert = async {
                let tx = client.transaction().await?;
                let insert = tx.prepare_cached(INSERT).await?;
                let server: String = tx.query_one(&insert, &[&worker, &entry]).await?.get(0);
                let written = Instant::now();
                tx.commit().await?;
                Ok::<_, tokio_postgres::Error>(Told::Acknowledged { server, written })
            };
            insert.await.map_err(|error| error.to_string())
        };
        result.await.unwrap_or_else(Told::Error)
    }

    async fn read(&self) -> std::result::Result<(), String> {
        let client = self.reads.get().await.map_err(|error| error.to_string())?;
        let read = async {
            let statement = client.prepare_cached(READ).await?;
            client.query_one(&statement, &[&0_i32, &10_i64]).await
        };
        read.await
            .map_err(|error: tokio_postgres::Error| error.to_string())?;
        Ok(())
    }

    async fn close(self) {
        self.writes.close();
        self.reads.close();
    }
}
