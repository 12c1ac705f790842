//! The connection of one attempt, and the handle that the closure has on it.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use deadpool_postgres::{Client, Object};

/// An open transaction, handed to the closure of [`Pool::run_tx`](crate::Pool::run_tx).
///
/// It dereferences to [`deadpool_postgres::Client`], so `query`, `execute`, `prepare_cached` and
/// the rest are there, and `&*tx` goes where `&impl GenericClient` is wanted. The transaction
/// ends with the closure: by COMMIT when it returns `Ok`, by ROLLBACK otherwise. So the handle
/// must not be kept: one that outlives the closure makes the attempt fail
/// ([`Error::Escaped`](crate::Error::Escaped)).
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// let id: i64 = pool
///     .run_tx(|tx| async move {
///         let insert = tx.prepare_cached("INSERT INTO orders DEFAULT VALUES RETURNING id").await?;
///         Ok(tx.query_one(&insert, &[]).await?.get(0))
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Tx {
    lease: Arc<Lease>,
}

impl Deref for Tx {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.lease.touched.store(true, Ordering::Relaxed);
        self.lease.client()
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

/// Holds a connection while a transaction is open on it. Unless it is released in good order, the
/// connection is closed instead of returned, so that nobody inherits the transaction.
pub(super) struct Lease {
    /// `None` only while it is being released or dropped.
    client: Option<Client>,
    /// Whether the closure has touched it lately.
    touched: AtomicBool,
}

impl Lease {
    pub(super) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client: Some(client),
            touched: AtomicBool::new(false),
        })
    }

    /// The closure's handle.
    pub(super) fn lend(self: &Arc<Self>) -> Tx {
        Tx {
            lease: self.clone(),
        }
    }

    /// Whether the closure's handle still lives.
    pub(super) fn is_lent(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether the closure has touched it since this was last asked.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    /// Returns the connection to the pool.
    pub(super) fn release(self: Arc<Self>) {
        if let Some(mut lease) = Arc::into_inner(self) {
            drop(lease.client.take());
        }
    }

    pub(super) fn client(&self) -> &Client {
        self.client
            .as_ref()
            .expect("invariant: the connection leaves only in `release` and `drop`")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}
