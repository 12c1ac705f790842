//! What happens to a used connection before it is handed out again.

use std::{sync::Arc, time::Duration};

use diesel::result::Error;
use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        PoolError,
        deadpool::{Hook, HookError},
    },
};
use futures_util::future::try_join3;
use leadpool::{Config, adapter::recycling_sql};
use tokio::time::timeout;

/// Ends a transaction that was left open by a statement of the application's own, which diesel
/// knows nothing of, without a warning in the server's log when there is none.
const END: &str = "BEGIN;ROLLBACK";

/// diesel counts on it, and sets it on each new connection; `RESET ALL` takes it back.
const TIME_ZONE: &str = "SET TIME ZONE 'UTC'";

/// What is done by the configuration's policy.
#[derive(Clone)]
pub(super) struct Cleaning {
    sql: Arc<str>,
    limit: Duration,
}

impl Cleaning {
    /// `None` if nothing is.
    pub(super) fn of(config: &Config) -> Option<Self> {
        Some(Self {
            sql: recycling_sql(config)?.into(),
            limit: config.pool().connect_timeout,
        })
    }

    /// The connection has to be closed if this fails: also if it takes longer than opening another
    /// one may.
    pub(super) async fn clean(&self, conn: &AsyncPgConnection) -> Result<(), Error> {
        match timeout(self.limit, clean(conn, &self.sql)).await {
            Ok(cleaned) => cleaned.inspect_err(|_| {
                // Not its text: what a server says may quote what the application sent.
                tracing::debug!(target: "leadpool::pool", "used connection closed: not cleaned");
            }),
            Err(_) => Err(Error::QueryBuilderError("not cleaned in time".into())),
        }
    }
}

/// For deadpool; `None` if nothing is done.
pub(super) fn hook(config: &Config) -> Option<Hook<AsyncPgConnection>> {
    let cleaning = Cleaning::of(config)?;
    Some(Hook::async_fn(move |conn: &mut AsyncPgConnection, _| {
        let cleaning = cleaning.clone();
        Box::pin(async move {
            let cleaned = cleaning.clean(conn).await;
            cleaned.map_err(|error| HookError::Backend(PoolError::QueryError(error)))
        })
    }))
}

/// The messages go out at once: together they would be one transaction, which not everything can
/// run in.
async fn clean(conn: &AsyncPgConnection, sql: &str) -> Result<(), Error> {
    let (mut first, mut second, mut third) = (conn, conn, conn);
    let end = first.batch_execute(END);
    if sql.is_empty() {
        return end.await;
    }
    try_join3(
        end,
        second.batch_execute(sql),
        third.batch_execute(TIME_ZONE),
    )
    .await?;
    Ok(())
}
