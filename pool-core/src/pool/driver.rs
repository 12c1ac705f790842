//! The seam between the pool's logic and a driver.

use std::{error::Error as StdError, future::poll_fn, iter, pin::pin, sync::Arc, task::Poll};

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

    /// Takes an idle connection, hands it out if it is fit, and says what becomes of it otherwise,
    /// or of there being none. A driver does it by itself to move the connection once less.
    #[inline(always)]
    fn with_idle<T>(
        pool: &Self::Pool,
        is_fit: impl FnOnce(&Self::Conn) -> bool,
        hand_out: impl FnOnce(Self::Conn) -> T,
        otherwise: impl FnOnce(Missed<Self::Conn>) -> T,
    ) -> T {
        match Self::try_get(pool) {
            Some(conn) if is_fit(&conn) => hand_out(conn),
            Some(conn) => otherwise(Missed::Unfit(conn)),
            None => otherwise(Missed::NotIdle),
        }
    }

    /// Takes a connection, waiting for one to be returned or opened. Dropping the future must leak
    /// nothing.
    fn get(
        pool: &Self::Pool,
    ) -> impl Future<Output = Result<Self::Conn, GetError<Self::Error>>> + Send;

    /// Opens one more connection, which is idle then, if there is room. Dropping the future must
    /// leak nothing.
    ///
    /// As it stands it is for drivers whose [`get`](Self::get) begins to open one in its first poll
    /// if none is idle.
    fn add(pool: &Self::Pool) -> impl Future<Output = Result<(), GetError<Self::Error>>> + Send {
        async {
            let mut getting = pin!(Self::get(pool));
            let first = {
                // What is idle is held for the blink of an eye, so that the pool opens another.
                let idle = iter::from_fn(|| Self::try_get(pool));
                let mut idle: Vec<_> = idle.take(Self::counts(pool).max_size).collect();
                let first = poll_fn(|cx| Poll::Ready(getting.as_mut().poll(cx))).await;
                // In the order in which they were.
                while let Some(conn) = idle.pop() {
                    drop(conn);
                }
                first
            };
            match first {
                Poll::Ready(got) => got.map(drop),
                Poll::Pending => getting.await.map(drop),
            }
        }
    }

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

/// Why an idle connection was not handed out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Missed<C> {
    /// This one is not fit.
    Unfit(C),
    /// None is idle; there may be room to open one.
    NotIdle,
    /// None is idle, and there is no room to open one.
    Exhausted,
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
