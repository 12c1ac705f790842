//! Pausing and draining the pool.

use std::time::Duration;

use super::Pool;
use crate::pool::{Drained, PauseGuard};

impl Pool {
    /// Makes checkouts wait, for planned work like a switchover, and waits until everything in use
    /// has come back, for `within` at most. The pause lasts until its guard is dropped.
    ///
    /// Checkouts wait within their own deadlines, and fail with
    /// [`Error::Paused`](crate::Error::Paused) when those pass. What is in use is left alone,
    /// also after `within`: the guard tells [how much](PauseGuard::in_use) that is. Checkouts that
    /// stood in a host's own queue already are served. The monitor goes on, so that a switchover
    /// meanwhile becomes known. Connections that [`deadpool_pool`](Self::deadpool_pool) has handed
    /// out belong to another pool: [`Cluster::pause`](crate::Cluster::pause) makes it wait too, but
    /// can't tell how many are in use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the pause.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn switch_over() {}
    /// # async fn f(pool: leadpool::Pool) {
    /// let pause = pool.pause(std::time::Duration::from_secs(5)).await;
    /// match pause.in_use() {
    ///     0 => switch_over().await,
    ///     left => eprintln!("{left} connections are still in use: another time"),
    /// }
    /// // Dropped here: checkouts go on, the oldest first.
    /// # }
    /// ```
    pub async fn pause(&self, within: Duration) -> PauseGuard {
        self.sub_pools().pause(within).await
    }

    /// Ends all pauses of this pool that [`pause`](Self::pause) began; a pause of the cluster
    /// lasts.
    pub fn resume(&self) {
        self.sub_pools().resume();
    }

    /// Whether checkouts wait because of a pause, of this pool or of the cluster.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.sub_pools().is_paused()
    }

    /// Ends the pool in good order: new checkouts are refused with
    /// [`Error::Closed`](crate::Error::Closed), those that wait already are served, and
    /// transactions that run are brought to their end, repetitions included. Then, or after
    /// `timeout` at the latest, the pool is [closed](Self::close), and what is still in use is
    /// aborted.
    ///
    /// [`shutdown::on_signal`](crate::shutdown::on_signal) does so at a signal.
    ///
    /// # Cancel safety
    ///
    /// New checkouts are refused from the first poll on. When the future is dropped, nothing is
    /// closed nor aborted.
    pub async fn drain(&self, timeout: Duration) -> Drained {
        let drained = self.sub_pools().drain(timeout).await;
        self.cluster().close();
        drained
    }
}
