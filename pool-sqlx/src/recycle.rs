//! What happens to a used connection before it is handed out again.

use std::sync::Arc;

use leadpool::{Config, adapter::recycling_sql};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::time::timeout;

use crate::{PgPoolOptions, options::Hook};

/// Ends a transaction that was left open by a statement of the application's own, which sqlx knows
/// nothing of, without a warning in the server's log when there is none. In one that has failed
/// `BEGIN` fails too: that connection is closed.
const END: &str = "BEGIN;ROLLBACK";

/// The configuration's policy, and the application's hook behind it; `None` if there is neither.
pub(crate) fn before_acquire(options: &PgPoolOptions, config: &Config) -> Option<Hook<bool>> {
    let theirs = options.before_acquire.clone();
    let Some(sql) = recycling_sql(config) else {
        return theirs;
    };
    let sql: Arc<str> = sql.into();
    let limit = config.pool().connect_timeout;
    Some(Arc::new(move |conn, meta| {
        let (sql, theirs) = (sql.clone(), theirs.clone());
        Box::pin(async move {
            match timeout(limit, clean(conn, &sql)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(target: "leadpool::pool", %error, "used connection closed");
                    return Ok(false);
                }
                Err(_) => return Ok(false),
            }
            match theirs {
                Some(theirs) => theirs(conn, meta).await,
                None => Ok(true),
            }
        })
    }))
}

async fn clean(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    conn.execute(END).await?;
    match sql {
        "" => conn.ping().await,
        sql => conn.execute(AssertSqlSafe(sql.to_owned())).await.map(drop),
    }
}
