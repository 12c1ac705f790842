//! Pauses: checkouts wait while planned work goes on.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Driver, SubPools, clock::after};
use crate::{
    failover::Event,
    monitor::{Cluster, Follower as _},
};

/// How often to look whether everything has come back: the drivers' objects tell nobody of their
/// return.
const LOOK: Duration = Duration::from_millis(2);

/// A pause of a [pool](crate::Pool::pause) or of a [cluster](crate::Cluster::pause): checkouts
/// wait while it exists. Dropping it lets them on, so that no pause is forgotten.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use std::time::Duration;
///
/// let pause = pool.pause(Duration::from_secs(5)).await;
/// if pause.in_use() == 0 {
///     // Switch over, now that nothing runs.
/// }
/// pause.resume();
/// # Ok(())
/// # }
/// ```
#[must_use = "checkouts wait only as long as it exists"]
pub struct PauseGuard {
    paused: Arc<dyn Pausable>,
    number: u64,
}

/// What can be paused.
pub(crate) trait Pausable: Send + Sync {
    /// Begins a pause, and says its number.
    fn begin(&self) -> u64;

    /// Ends it.
    fn end(&self, number: u64);

    /// How many connections are in use or about to be.
    fn in_use(&self) -> usize;
}

/// Pauses, and waits until everything in use has come back, for `within` at most.
///
/// # Cancel safety
///
/// Dropping the future ends the pause.
async fn pause(paused: Arc<dyn Pausable>, within: Duration) -> PauseGuard {
    let number = paused.begin();
    let guard = PauseGuard { paused, number };
    guard.wait(within).await;
    guard
}

impl PauseGuard {
    /// How many connections are still in use, or will be: checkouts that stood in a host's own
    /// queue when the pause began are served. 0 means that nothing runs, and nothing will until
    /// the pause ends.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.paused.in_use()
    }

    /// Goes on waiting until everything in use has come back, for `within` at most; says how many
    /// connections have not.
    ///
    /// # Cancel safety
    ///
    /// The pause lasts when the future is dropped.
    pub async fn wait(&self, within: Duration) -> usize {
        let deadline = after(Instant::now(), within);
        loop {
            let in_use = self.in_use();
            let now = Instant::now();
            if in_use == 0 || now >= deadline {
                return in_use;
            }
            sleep_until((now + LOOK).min(deadline)).await;
        }
    }

    /// Lets the checkouts on that wait, the oldest first.
    pub fn resume(self) {
        drop(self);
    }
}

impl Drop for PauseGuard {
    fn drop(&mut self) {
        self.paused.end(self.number);
    }
}

impl fmt::Debug for PauseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PauseGuard")
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

impl<D: Driver> SubPools<D> {
    /// Whether checkouts wait because of a pause, of this pool or of the cluster.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.routes.load().state.paused
    }

    /// Makes checkouts wait until the guard is dropped, and waits until everything in use has come
    /// back, for `within` at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the pause.
    pub async fn pause(self: &Arc<Self>, within: Duration) -> PauseGuard {
        pause(self.clone(), within).await
    }

    /// Ends all pauses of this pool.
    pub fn resume(&self) {
        if self.pauses.end_all() {
            self.resumed();
        }
    }

    fn resumed(&self) {
        // What was planned has happened meanwhile.
        self.cluster.probe_now();
        self.pauses_changed();
        self.cluster.emit(Event::Resumed { all: false });
    }
}

impl<D: Driver> Pausable for SubPools<D> {
    fn begin(&self) -> u64 {
        let (number, is_first) = self.pauses.begin();
        self.pauses_changed();
        if is_first {
            self.cluster.emit(Event::Paused { all: false });
        }
        number
    }

    fn end(&self, number: u64) {
        if self.pauses.end(number) {
            self.resumed();
        }
    }

    fn in_use(&self) -> usize {
        crate::monitor::Follower::in_use(self)
    }
}

impl Cluster {
    /// Makes checkouts of all pools of the cluster wait, those of pools that are made meanwhile
    /// too, and waits until everything in use has come back: see
    /// [`Pool::pause`](crate::Pool::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the pause.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(cluster: leadpool::Cluster) {
    /// let pause = cluster.pause(std::time::Duration::from_secs(5)).await;
    /// println!("{} connections are still in use", pause.in_use());
    /// # }
    /// ```
    pub async fn pause(&self, within: Duration) -> PauseGuard {
        pause(Arc::new(self.clone()), within).await
    }

    /// Ends all pauses that [`pause`](Self::pause) began.
    pub fn resume(&self) {
        if self.pauses().end_all() {
            self.resumed();
        }
    }

    fn resumed(&self) {
        self.probe_now();
        self.tell_pools();
        self.emit(Event::Resumed { all: true });
    }

    fn tell_pools(&self) {
        for pool in self.followers() {
            pool.pauses_changed();
        }
    }
}

impl Pausable for Cluster {
    fn begin(&self) -> u64 {
        let (number, is_first) = self.pauses().begin();
        self.tell_pools();
        if is_first {
            self.emit(Event::Paused { all: true });
        }
        number
    }

    fn end(&self, number: u64) {
        if self.pauses().end(number) {
            self.resumed();
        }
    }

    fn in_use(&self) -> usize {
        self.followers().iter().map(|pool| pool.in_use()).sum()
    }
}
