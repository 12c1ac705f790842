//! The seam between the pool's logic and a driver.

use std::{error::Error as StdError, sync::Arc};

use super::{Generation, PoolCounts, Stamp};
use crate::error::BoxError;

/// A driver's own pool, seen from the logic that decides which host it serves.
///
/// The seam is at the pool of one host and not at the connection, so that applications keep
/// getting the driver's own objects.
pub trait Driver: Send + Sync + 'static {
    /// The driver's pool of one host.
    type Pool: Send + Sync + 'static;
    /// What a checkout yields.
    type Conn: Send + 'static;
    /// Why a connection could not be opened.
    type Error: StdError + Send + Sync + 'static;

    /// Makes a pool of connections to the generation's host. Opens none yet.
    fn open(&self, generation: &Arc<Generation>, size: usize) -> Self::Pool;

    /// Takes an idle connection; `None` if there is none at once. Must neither wait nor open one.
    fn try_get(pool: &Self::Pool) -> Option<Self::Conn>;

    /// The same where it is only held for a moment and goes back, so that nothing has to happen to
    /// it first.
    fn hold_idle(pool: &Self::Pool) -> Option<Self::Conn> {
        Self::try_get(pool)
    }

    /// Takes a connection, waiting for one to be returned or opened. If none is idle and there is
    /// room, its first poll begins to open one. Dropping the future must leak nothing.
    fn get(
        pool: &Self::Pool,
    ) -> impl Future<Output = Result<Self::Conn, GetError<Self::Error>>> + Send;

    /// Closes idle connections, wakes waiters with [`GetError::Closed`], and has those that are
    /// checked out closed on return. Must not block.
    fn close(pool: &Self::Pool);

    /// Closes a connection that is checked out.
    fn discard(conn: Self::Conn);

    /// Lets the pool hold more connections.
    fn grow(pool: &Self::Pool, size: usize);

    /// When a connection was opened, and taken just now. Must not read the clock. `None` where the
    /// driver's pool limits lives by itself.
    fn stamp(conn: &Self::Conn) -> Option<Stamp>;

    /// Closes the idle connections that have ended by themselves, and those that `keep` gives up;
    /// the longest unused come first. Must not block.
    fn retain(pool: &Self::Pool, keep: &mut dyn FnMut(Stamp) -> bool);

    /// The pool's gauges.
    fn counts(pool: &Self::Pool) -> PoolCounts;

    /// Whether waiting may cure a failure to connect.
    fn is_curable(error: &Self::Error) -> bool;

    /// What the application is shown of it.
    fn into_source(error: Self::Error) -> BoxError {
        Box::new(error)
    }
}

/// Why a driver's pool gave no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError<E> {
    /// The pool was closed: the host was invalidated, or the whole pool closed.
    Closed,
    /// A connection could not be opened.
    Connect(E),
}
