//! The closure's handle, and the way of its connection back.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use diesel_async::AsyncPgConnection;

use crate::asynchronous::lease::Lease;

/// An open transaction, handed to the closure of [`Pool::run_tx`](crate::Pool::run_tx).
///
/// It dereferences to [`AsyncPgConnection`], so `&mut tx` goes where diesel-async wants a
/// connection, and functions take it that want `&mut AsyncPgConnection`; `tx.transaction(..)` is a
/// savepoint. The transaction ends with the closure: by COMMIT when it returns `Ok`, by ROLLBACK
/// otherwise. So the handle must not be kept: one that outlives the closure makes the attempt fail
/// ([`Error::Escaped`](leadpool::Error::Escaped)).
///
/// ```no_run
/// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), leadpool_diesel::Error> {
/// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl as _};
///
/// pool.run_tx(|mut tx| async move {
///     diesel::sql_query("INSERT INTO orders DEFAULT VALUES").execute(&mut tx).await
/// })
/// .await?;
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
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.lease.as_deref().expect(LENT)
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.lease.as_deref_mut().expect(LENT)
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
