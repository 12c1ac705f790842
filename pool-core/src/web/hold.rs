//! Holding a transaction of `run_tx` open for somebody else.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use super::Problem;
use crate::error::Error;

/// What a [`WebPool`](super::WebPool) runs a transaction with: it hands the transaction to the
/// request that asked for it, and waits until that has been answered.
///
/// ```
/// use leadpool::{Error, Pool, Tx, web::Hold};
///
/// // As a pool does it.
/// async fn transact(pool: Pool, hold: Hold<Tx>) -> Result<(), Error> {
///     pool.tx().retries(0).run(move |tx| hold.hold(tx)).await
/// }
/// ```
pub struct Hold<T>(Arc<Mutex<Option<Ends<T>>>>);

struct Ends<T> {
    give: oneshot::Sender<T>,
    awaited: Awaited,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Commit,
    RollBack,
}

impl<T> Hold<T> {
    /// `moved` is to be woken whenever the request may have sent something.
    pub(super) fn new(
        give: oneshot::Sender<T>,
        verdict: oneshot::Receiver<Verdict>,
        moved: Arc<AtomicWaker>,
    ) -> Self {
        let awaited = Awaited { verdict, moved };
        Self(Arc::new(Mutex::new(Some(Ends { give, awaited }))))
    }

    /// Hands the transaction over, and waits until the request has been answered.
    ///
    /// # Errors
    ///
    /// The transaction is to be rolled back: the answer is an error, or nobody waits for it any
    /// more.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, whoever has the transaction keeps it, and nothing commits it.
    pub async fn hold(self, tx: T) -> Result<(), Error> {
        let awaited = self.give(tx).ok_or_else(rolled_back)?;
        awaited.wait().await
    }

    /// Hands the transaction over. `None` if nobody waits for it any more, or if it was called
    /// before: what a request did can't be repeated here.
    pub fn give(self, tx: T) -> Option<Awaited> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Ends { give, awaited } = ends?;
        give.send(tx).ok()?;
        Some(awaited)
    }
}

/// The end that a transaction waits for, once it was [handed over](Hold::give).
///
/// Its wait is woken in vain whenever the request has had a turn: what gathers evidence behind a
/// transaction's statements then sees that there may be some.
#[derive(Debug)]
pub struct Awaited {
    verdict: oneshot::Receiver<Verdict>,
    moved: Arc<AtomicWaker>,
}

impl Awaited {
    /// Waits until the request has been answered.
    ///
    /// # Errors
    ///
    /// As [`Hold::hold`].
    ///
    /// # Cancel safety
    ///
    /// As [`Hold::hold`].
    pub async fn wait(self) -> Result<(), Error> {
        let Self { mut verdict, moved } = self;
        let told = poll_fn(|cx| {
            moved.register(cx.waker());
            pin!(&mut verdict).poll(cx)
        });
        match told.await {
            Ok(Verdict::Commit) => Ok(()),
            Ok(Verdict::RollBack) | Err(_) => Err(rolled_back()),
        }
    }
}

/// No driver's error is at its root, so nothing is repeated, and the connection is kept.
fn rolled_back() -> Error {
    Error::user(Problem::internal())
}

impl<T> Clone for Hold<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Hold<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
