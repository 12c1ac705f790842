//! Holding a transaction of `run_tx` open for somebody else.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

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
    verdict: oneshot::Receiver<Verdict>,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Commit,
    RollBack,
}

impl<T> Hold<T> {
    pub(super) fn new(give: oneshot::Sender<T>, verdict: oneshot::Receiver<Verdict>) -> Self {
        Self(Arc::new(Mutex::new(Some(Ends { give, verdict }))))
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
        let verdict = self.give(tx).ok_or_else(rolled_back)?;
        verdict.wait().await
    }

    /// Hands the transaction over. `None` if nobody waits for it any more, or if it was called
    /// before: what a request did can't be repeated here.
    pub fn give(self, tx: T) -> Option<Awaited> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Ends { give, verdict } = ends?;
        give.send(tx).ok()?;
        Some(Awaited(verdict))
    }
}

/// The end that a transaction waits for, once it was [handed over](Hold::give).
#[derive(Debug)]
pub struct Awaited(oneshot::Receiver<Verdict>);

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
        match self.0.await {
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
