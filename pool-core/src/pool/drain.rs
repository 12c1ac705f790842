//! The end of a pool.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Driver, SubPools, clock::after};

/// How a pool was drained.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// let drained = pool.drain(std::time::Duration::from_secs(10)).await;
/// if drained.aborted > 0 {
///     eprintln!("{} connections were still in use", drained.aborted);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// How many connections were still open when the time was over, and were aborted.
    pub aborted: usize,
}

impl<D: Driver> SubPools<D> {
    /// Closes the pool and waits until what is checked out has come back, for `timeout` at most;
    /// then aborts it.
    ///
    /// # Cancel safety
    ///
    /// The pool stays closed when the future is dropped; what is checked out is not aborted then.
    pub async fn close_within(&self, timeout: Duration) -> Drained {
        self.close_until(after(Instant::now(), timeout)).await
    }

    /// The same, but serves the checkouts that wait already, and the transactions that run, first.
    ///
    /// # Cancel safety
    ///
    /// The pool goes on refusing new checkouts when the future is dropped.
    pub async fn drain(&self, timeout: Duration) -> Drained {
        let deadline = after(Instant::now(), timeout);
        self.refuse_new();
        self.busy.close();
        // In time or not: the next step is the same.
        let _ = timeout_at(deadline, self.busy.wait()).await;
        self.close_until(deadline).await
    }

    async fn close_until(&self, deadline: Instant) -> Drained {
        self.close();
        self.generations.close();
        // Whatever is left of it is aborted.
        let _ = timeout_at(deadline, self.generations.wait()).await;
        let aborted = self.abort();
        Drained { aborted }
    }
}
