//! Cleaning a used connection before it is handed out again.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{ClientWrapper, Hook, HookError};
use futures_util::future::try_join;
use tokio::time::timeout;
use tokio_postgres::{Error, error::SqlState};

use crate::{config::Config, observe::rows, topology::HostAddr};

/// Ends a transaction that was left open, without a warning in the server's log when there is
/// none. In one that has failed `BEGIN` fails too: that connection is closed.
const END: &str = "BEGIN;ROLLBACK";

/// What is done by the configuration's policy; `None` if nothing is. The connection is closed if
/// it fails, or takes longer than opening another one may; that is told with the host, if all
/// connections of the pool are to one.
pub(super) fn hook(config: &Config, host: Option<&HostAddr>) -> Option<Hook> {
    let sql: Arc<str> = config.session().recycling.sql()?.into();
    let limit = config.pool().connect_timeout;
    let place = Arc::new((config.pool_name().to_owned(), host.cloned()));
    Some(Hook::async_fn(move |client, _| {
        let (sql, place) = (sql.clone(), place.clone());
        Box::pin(async move {
            let cleaned = clean_within(limit, client, &sql).await;
            cleaned.inspect_err(|error| tell(error, &place.0, place.1.as_ref()))
        })
    }))
}

/// Not the error's text: what a server says may quote what the application sent.
fn tell(error: &HookError, pool: &str, host: Option<&HostAddr>) {
    let code = match error {
        HookError::Backend(error) => error.code().map(SqlState::code),
        HookError::Message(_) => None,
    };
    tracing::event!(
        name: rows::NOT_CLEANED.name,
        target: rows::NOT_CLEANED.target,
        rows::NOT_CLEANED.level,
        {
            db.client.connection.pool.name = pool,
            server.address = host.map(HostAddr::name),
            server.port = host.map(HostAddr::port),
            db.response.status_code = code,
        },
        "a used connection could not be cleaned, and is closed"
    );
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
