//! The names of [`diesel::r2d2`](https://docs.diesel.rs/2.3.x/diesel/r2d2/index.html), for
//! applications that come from there: the line that imports them changes, the rest does not.
//!
//! ```no_run
//! use diesel::prelude::*;
//! use leadpool_diesel::blocking::r2d2::{self, ConnectionManager};
//!
//! type DbPool = r2d2::Pool<ConnectionManager<PgConnection>>;
//!
//! fn pool() -> Result<DbPool, r2d2::PoolError> {
//!     let manager = ConnectionManager::<PgConnection>::new("postgres://app@db1,db2,db3/shop");
//!     r2d2::Pool::builder().max_size(15).build(manager)
//! }
//!
//! # fn f(pool: &DbPool) -> Result<(), Box<dyn std::error::Error>> {
//! let mut conn = pool.get()?;
//! let one: i32 = diesel::select(1.into_sql::<diesel::sql_types::Integer>()).get_result(&mut conn)?;
//! # Ok(())
//! # }
//! ```

use std::{error::Error as StdError, fmt, marker::PhantomData};

use diesel::{ConnectionError, connection::Connection};

pub use super::{Builder, Error as PoolError, Pool, PooledConnection, State};

/// What a pool is built of: the libpq URL or keyword/value string that names the hosts.
///
/// ```
/// use diesel::PgConnection;
/// use leadpool_diesel::blocking::r2d2::ConnectionManager;
///
/// let manager = ConnectionManager::<PgConnection>::new("postgres://app@db1,db2/shop");
/// ```
pub struct ConnectionManager<C> {
    pub(super) url: String,
    connection: PhantomData<fn() -> C>,
}

impl<C> ConnectionManager<C> {
    /// For the cluster that the URL names.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connection: PhantomData,
        }
    }
}

impl<C> Clone for ConnectionManager<C> {
    fn clone(&self) -> Self {
        Self::new(self.url.clone())
    }
}

impl<C> fmt::Debug for ConnectionManager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("ConnectionManager").finish_non_exhaustive()
    }
}

/// Looks at each connection when it has been opened, and before it is closed.
///
/// ```
/// use diesel::{PgConnection, connection::SimpleConnection as _};
/// use leadpool_diesel::blocking::r2d2::{CustomizeConnection, Error};
///
/// #[derive(Debug)]
/// struct SearchPath;
///
/// impl CustomizeConnection<PgConnection, Error> for SearchPath {
///     fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), Error> {
///         Ok(conn.batch_execute("SET search_path = shop")?)
///     }
/// }
/// ```
pub trait CustomizeConnection<C, E>: fmt::Debug + Send + Sync + 'static {
    /// Is called with each new connection, before anybody gets it. It may block; the connect
    /// timeout covers it.
    ///
    /// # Errors
    ///
    /// The connection is closed then, and the checkout goes on as if it could not be opened.
    fn on_acquire(&self, conn: &mut C) -> Result<(), E> {
        let _ = conn;
        Ok(())
    }

    /// Is called with each connection when it is closed. It must not wait: the host may be gone.
    fn on_release(&self, conn: C) {
        drop(conn);
    }
}

/// Begins a test transaction on each new connection, so that nothing is ever committed.
///
/// ```no_run
/// use diesel::PgConnection;
/// use leadpool_diesel::blocking::r2d2::{ConnectionManager, Pool, TestCustomizer};
///
/// let manager = ConnectionManager::<PgConnection>::new("postgres://localhost/test");
/// let pool = Pool::builder().max_size(1).connection_customizer(Box::new(TestCustomizer)).build(manager);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "as diesel's, so that who names it goes on to compile"
)]
pub struct TestCustomizer;

impl<C: Connection + 'static> CustomizeConnection<C, Error> for TestCustomizer {
    fn on_acquire(&self, conn: &mut C) -> Result<(), Error> {
        Ok(conn.begin_test_transaction()?)
    }
}

/// What a customizer may fail with, as [diesel's](https://docs.diesel.rs/2.3.x/diesel/r2d2/enum.Error.html).
///
/// ```
/// use leadpool_diesel::blocking::r2d2::Error;
///
/// let error = Error::from(diesel::result::Error::NotFound);
/// assert!(matches!(error, Error::QueryError(_)));
/// ```
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "as diesel's, so that a match goes on to compile"
)]
pub enum Error {
    /// A connection could not be opened.
    ConnectionError(ConnectionError),
    /// A statement failed.
    QueryError(diesel::result::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionError(error) => fmt::Display::fmt(error, f),
            Self::QueryError(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::ConnectionError(error) => Some(error),
            Self::QueryError(error) => Some(error),
        }
    }
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        Self::QueryError(error)
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        Self::ConnectionError(error)
    }
}
