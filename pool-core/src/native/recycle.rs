//! Cleaning a used connection before it is handed out again.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{ClientWrapper, Hook, HookError};
use futures_util::future::try_join;
use tokio::time::timeout;
use tokio_postgres::Error;

use crate::config::Config;

/// Ends a transaction that was left open, without a warning in the server's log when there is
/// none. In one that has failed `BEGIN` fails too: that connection is closed.
const END: &str = "BEGIN;ROLLBACK";

/// What is done by the configuration's policy; `None` if nothing is. The connection is closed if
/// it fails, or takes longer than opening another one may.
pub(super) fn hook(config: &Config) -> Option<Hook> {
    let sql: Arc<str> = config.session().recycling.sql()?.into();
    let limit = config.pool().connect_timeout;
    Some(Hook::async_fn(move |client, _| {
        let sql = sql.clone();
        Box::pin(async move {
            let cleaned = clean_within(limit, client, &sql).await;
            if let Err(error) = &cleaned {
                tracing::debug!(target: "leadpool::pool", %error, "used connection closed");
            }
            cleaned
        })
    }))
}

async fn clean_within(limit: Duration, client: &ClientWrapper, sql: &str) -> Result<(), HookError> {
    match timeout(limit, clean(client, sql)).await {
        Ok(cleaned) => cleaned.map_err(HookError::Backend),
        Err(_) => Err(HookError::message("not cleaned in time")),
    }
}

/// Both messages go out at once: together they would be one transaction, which not everything can
/// run in.
async fn clean(client: &ClientWrapper, sql: &str) -> Result<(), Error> {
    let end = client.batch_execute(END);
    if sql.is_empty() {
        return end.await;
    }
    try_join(end, client.batch_execute(sql)).await?;
    Ok(())
}
