//! The closure's handle, and the way of its connection back.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    Acquire, Either, Execute, Executor, PgConnection, Postgres, SqlStr, Transaction,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::lease::Lease;

/// An open transaction, handed to the closure of [`Pool::run_tx`](crate::Pool::run_tx).
///
/// It dereferences to [`PgConnection`], so statements run on `&mut *tx`, and functions take it
/// that want `&mut PgConnection`; `&mut tx` is an [`Executor`] and an [`Acquire`] too. The
/// transaction ends with the closure: by COMMIT when it returns `Ok`, by ROLLBACK otherwise. So
/// the handle must not be kept: one that outlives the closure makes the attempt fail
/// ([`Error::Escaped`](leadpool::Error::Escaped)).
///
/// ```no_run
/// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), leadpool_sqlx::Error> {
/// let id: i64 = pool
///     .run_tx(|mut tx| async move {
///         sqlx::query_scalar("INSERT INTO orders DEFAULT VALUES RETURNING id").fetch_one(&mut *tx).await
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Tx {
    /// `None` only while it is being dropped.
    lease: Option<Lease>,
    slot: Arc<Slot>,
}

/// Where a connection comes back to.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Lease>>);

impl Tx {
    /// Lends a connection to a closure. Dropped unasked, what comes back is closed.
    pub(super) fn lend(lease: Lease) -> (Self, Arc<Slot>) {
        let slot = Arc::new(Slot::default());
        let tx = Self {
            lease: Some(lease),
            slot: slot.clone(),
        };
        (tx, slot)
    }

    /// A nested transaction: a savepoint.
    ///
    /// # Errors
    ///
    /// What the server answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rolls back to before it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), leadpool_sqlx::Error> {
    /// pool.run_tx(|mut tx| async move {
    ///     let mut attempt = tx.begin().await?;
    ///     match sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *attempt).await {
    ///         Ok(_) => attempt.commit().await?,
    ///         Err(_) => attempt.rollback().await?,
    ///     }
    ///     Ok(())
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        Transaction::begin(&mut **self, None).await
    }
}

impl Slot {
    /// What has come back: `None` if the closure's handle still lives.
    pub(super) fn take(&self) -> Option<Lease> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const LENT: &str = "invariant: the connection leaves only in `drop`";

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.lease.as_deref().expect(LENT)
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.lease.as_deref_mut().expect(LENT)
    }
}

impl AsMut<PgConnection> for Tx {
    fn as_mut(&mut self) -> &mut PgConnection {
        self
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // If nobody waits for it, the slot is dropped with it, and it is closed.
        *self.slot.lock() = self.lease.take();
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl<'c> Executor<'c> for &'c mut Tx {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        (**self).fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        (**self).fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        (**self).prepare_with(sql, parameters)
    }

    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx_core::describe::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        (**self).describe(sql)
    }
}

impl<'c> Acquire<'c> for &'c mut Tx {
    type Database = Postgres;
    type Connection = &'c mut PgConnection;

    fn acquire(self) -> BoxFuture<'c, Result<&'c mut PgConnection, sqlx::Error>> {
        Box::pin(std::future::ready(Ok(&mut **self)))
    }

    fn begin(self) -> BoxFuture<'c, Result<Transaction<'c, Postgres>, sqlx::Error>> {
        Transaction::begin(&mut **self, None)
    }
}
