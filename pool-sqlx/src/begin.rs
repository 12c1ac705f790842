//! `BEGIN`, brought to its end.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use leadpool::adapter::Generation;
use sqlx::{Postgres, SqlStr, Transaction, pool::PoolConnection};
use tokio::runtime::Handle;

type Begun = Result<Transaction<'static, Postgres>, sqlx::Error>;

/// A `BEGIN` in flight.
///
/// sqlx counts a transaction when its `BEGIN` is answered, and rolls back what it has counted. So a
/// future of its `begin` that is dropped before the answer gives the connection back in an open
/// transaction, and the next one's statements become part of that (sqlx-postgres 0.9.0,
/// `src/transaction.rs`). Here the answer is waited for, and then the transaction is dropped.
pub(crate) struct Beginning {
    begun: Option<BoxFuture<'static, Begun>>,
    generation: Arc<Generation>,
}

impl Beginning {
    pub(crate) fn new(
        conn: PoolConnection<Postgres>,
        generation: Arc<Generation>,
        statement: Option<SqlStr>,
    ) -> Self {
        Self {
            begun: Some(Transaction::begin(conn, statement)),
            generation,
        }
    }

    /// Waits for the answer; `None` if the host is invalidated meanwhile.
    pub(crate) async fn answer(mut self) -> Option<Begun> {
        let answer = first(self.begun.as_mut()?, &self.generation).await;
        // Of an invalidated host nothing comes back into use.
        self.begun = None;
        answer
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let Some(mut begun) = self.begun.take() else {
            return;
        };
        if Handle::try_current().is_err() {
            return;
        }
        let generation = self.generation.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by its generation, whose end is its own: as sqlx returns connections"
        )]
        tokio::spawn(async move { drop(first(&mut begun, &generation).await) });
    }
}

async fn first(begun: &mut BoxFuture<'static, Begun>, generation: &Generation) -> Option<Begun> {
    tokio::select! {
        biased;
        begun = begun => Some(begun),
        () = generation.aborted() => None,
    }
}
