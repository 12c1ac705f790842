//! What can go wrong with a session before and between its uses.

use std::{error::Error as StdError, fmt};

use super::{BoxError, driver_error};
use crate::topology::HostAddr;

/// A hook of [`on_connect`](crate::config::ConfigBuilder::on_connect) failed on a new connection,
/// which was closed: the [source](StdError::source) of an [`Error`](crate::Error).
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use std::error::Error as _;
/// use leadpool::{Error, error::HookFailed};
///
/// if let Err(Error::Connect(error)) = pool.get().await {
///     if let Some(hook) = error.source().and_then(|source| source.downcast_ref::<HookFailed>()) {
///         eprintln!("hook {} failed on {}", hook.hook, hook.host);
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct HookFailed {
    /// The host.
    pub host: HostAddr,
    /// Which of the hooks, from 1 in the order in which they were added.
    pub hook: usize,
    pub(crate) is_curable: bool,
    pub(crate) source: BoxError,
}

impl fmt::Display for HookFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, hook, .. } = self;
        write!(f, "hook {hook} of on_connect failed on {host}: ")?;
        match driver_error(self.source.as_ref()).and_then(tokio_postgres::Error::as_db_error) {
            Some(db) => write!(f, "{} ({})", db.message(), db.code().code()),
            None => fmt::Display::fmt(&self.source, f),
        }
    }
}

impl StdError for HookFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The connection of a [`KeptSession`](crate::KeptSession) was lost between two of its uses, and
/// another one has taken its place: what leadpool did not record is gone.
///
/// ```no_run
/// # async fn f(session: &mut leadpool::KeptSession) {
/// use leadpool::Error;
///
/// if let Err(Error::SessionMoved(moved)) = session.get().await {
///     println!("from {} to {}: begin anew", moved.from, moved.to);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionMoved {
    /// The host whose connection was lost.
    pub from: HostAddr,
    /// The host where the session goes on; the same one if only the connection was lost.
    pub to: HostAddr,
}

impl fmt::Display for SessionMoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(
            f,
            "the session's connection to {from} was lost; it goes on at {to} with the settings \
             that were recorded, without its open transaction, temporary tables, cursors and \
             locks: repeat what you were doing from its beginning"
        )
    }
}
