//! What ends the wait of a checkout.

use std::{error::Error as StdError, fmt, time::Duration};

use super::BoxError;
use crate::topology::{HostAddr, Target};

/// No host was usable for a checkout until its deadline: what was seen on each.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use leadpool::Error;
///
/// if let Err(Error::NoHost(error)) = pool.get().await {
///     for line in &error.seen {
///         eprintln!("{line}");
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NoHost {
    /// What the checkout asked for.
    pub target: Target,
    /// How long it waited.
    pub waited: Duration,
    /// One line a host: what was last seen there; and one for the last attempt to connect.
    pub seen: Vec<String>,
    pub(crate) source: Option<BoxError>,
}

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no host was usable as {} within {:.1?}; seen: {}",
            self.target,
            self.waited,
            self.seen.join("; ")
        )
    }
}

impl StdError for NoHost {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|error| error.as_ref() as _)
    }
}

/// All connections of a host were in use until the checkout's deadline.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use leadpool::Error;
///
/// if let Err(Error::QueueFull(error)) = pool.get().await {
///     eprintln!("{} of {} in use, {} wait", error.size, error.max_size, error.waiting);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueFull {
    /// The host.
    pub host: HostAddr,
    /// How long the checkout waited.
    pub waited: Duration,
    /// How many connections the sub-pool has.
    pub size: usize,
    /// How many it may have.
    pub max_size: usize,
    /// How many checkouts are waiting with this one.
    pub waiting: usize,
}

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no connection to {} became free within {:.1?}: {} of {} are open, {} checkouts wait; \
             raise the pool's size, or look for connections that are held too long",
            self.host, self.waited, self.size, self.max_size, self.waiting
        )
    }
}

/// As many checkouts of the pool wait as [may](crate::config::LimitSettings::max_waiting), so this
/// one was refused at once. Nothing was done.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use leadpool::Error;
///
/// if let Err(Error::Overloaded(error)) = pool.get().await {
///     eprintln!("answer 503, {} wait already", error.waiting);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overloaded {
    /// What the checkout asked for.
    pub target: Target,
    /// How many checkouts were waiting.
    pub waiting: usize,
    /// How many may wait.
    pub max_waiting: usize,
}

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "refused at once: {} checkouts wait and {} may; try later, or raise `max_waiting`",
            self.waiting, self.max_waiting
        )
    }
}

/// The pool was [paused](crate::Pool::pause) until the checkout's deadline. Nothing was done.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use leadpool::Error;
///
/// if let Err(Error::Paused(error)) = pool.get().await {
///     eprintln!("still paused after {:?}", error.waited);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Paused {
    /// What the checkout asked for.
    pub target: Target,
    /// How long it waited.
    pub waited: Duration,
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pool was paused for the whole {:.1?}: resume it, or give checkouts more time than \
             planned work takes",
            self.waited
        )
    }
}
