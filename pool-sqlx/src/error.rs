//! Errors, and the way between sqlx's, leadpool's and these.

use std::{error::Error as StdError, fmt, io};

use leadpool::{
    HostAddr,
    error::{Disposition, DriverError, TxPhase},
};
#[cfg(feature = "migrate")]
use sqlx::migrate::MigrateError;

/// What can go wrong in [`Pool::run_tx`](crate::Pool::run_tx), and what statements on a
/// [`Pool`](crate::Pool) can end with beyond sqlx's errors.
///
/// Where sqlx's traits want a [`sqlx::Error`], it travels inside of one:
/// [`Error::inside`] finds it there.
///
/// ```no_run
/// # async fn f(pool: leadpool_sqlx::Pool) {
/// use leadpool_sqlx::Error;
///
/// let paid = sqlx::query("UPDATE orders SET paid = true WHERE id = 7").execute(&pool).await;
/// if let Err(error) = paid {
///     match Error::inside(&error) {
///         Some(Error::Interrupted(what)) => eprintln!("look whether order 7 is paid: {what}"),
///         _ => eprintln!("{error}"),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// sqlx's own: of a statement, or made by the closure.
    Sqlx(sqlx::Error),
    /// leadpool's: no host in time, a COMMIT in doubt, retries exhausted ...
    Pool(leadpool::Error),
    /// A single statement was sent, and its connection was lost before it was answered.
    Interrupted(Box<Interrupted>),
    /// [`Pool::migrate`](crate::Pool::migrate) did not come to its end in time.
    #[cfg(feature = "migrate")]
    MigrationDeadline(Box<crate::MigrationDeadline>),
}

/// A single statement that was sent and not answered: it may have run or not.
///
/// In [`Pool::run_tx`](crate::Pool::run_tx) that is found out.
///
/// ```no_run
/// # fn f(interrupted: leadpool_sqlx::Interrupted) {
/// eprintln!("sent to {}", interrupted.host);
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Interrupted {
    /// The host that it was sent to.
    pub host: HostAddr,
    /// How the connection was lost; `None` if the host was invalidated meanwhile.
    pub(crate) source: Option<sqlx::Error>,
}

impl Error {
    /// The error that travels inside of one of sqlx's, if there is one.
    #[must_use]
    pub fn inside(error: &sqlx::Error) -> Option<&Self> {
        let inner: &(dyn StdError + 'static) = match error {
            sqlx::Error::Io(io) => io.get_ref()?,
            sqlx::Error::Configuration(source) => source.as_ref(),
            #[cfg(feature = "migrate")]
            sqlx::Error::Migrate(error) => match error.as_ref() {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                    return Self::inside(error);
                }
                _ => return None,
            },
            _ => return None,
        };
        inner.downcast_ref()
    }

    /// The SQLSTATE that the server answered with.
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Sqlx(error) => Some(error.as_database_error()?.code()?.into_owned()),
            Self::Pool(error) => error.sqlstate().map(str::to_owned),
            Self::Interrupted(_) => None,
            #[cfg(feature = "migrate")]
            Self::MigrationDeadline(_) => None,
        }
    }

    /// Whether a later try may succeed, and repeating is safe: nothing was committed.
    ///
    /// Of an error of sqlx's it says so as if it had ended a transaction before its COMMIT.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Sqlx(error) => {
                let known = classified(error);
                known.0.as_deref() == Some("25006")
                    || matches!(
                        disposition(error, TxPhase::Open),
                        Disposition::RetryHere | Disposition::WaitTopology
                    )
            }
            Self::Pool(error) => error.is_transient(),
            Self::Interrupted(_) => false,
            #[cfg(feature = "migrate")]
            Self::MigrationDeadline(_) => true,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlx(error) => fmt::Display::fmt(error, f),
            Self::Pool(error) => fmt::Display::fmt(error, f),
            Self::Interrupted(interrupted) => fmt::Display::fmt(interrupted, f),
            #[cfg(feature = "migrate")]
            Self::MigrationDeadline(what) => fmt::Display::fmt(what, f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Sqlx(error) => Some(error),
            Self::Pool(error) => Some(error),
            Self::Interrupted(interrupted) => interrupted.source(),
            #[cfg(feature = "migrate")]
            Self::MigrationDeadline(_) => None,
        }
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a statement was sent to {}, and the connection was lost before it was answered: it \
             may have run or not; look for its effect before you repeat it, or use run_tx, which \
             finds out",
            self.host
        )
    }
}

impl StdError for Interrupted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}

impl From<leadpool::Error> for Error {
    fn from(error: leadpool::Error) -> Self {
        match error {
            leadpool::Error::Driver(driver) => match driver.into_source().downcast() {
                Ok(sqlx) => Self::Sqlx(*sqlx),
                Err(source) => Self::Pool(leadpool::Error::User(source)),
            },
            error => Self::Pool(error),
        }
    }
}

/// One that travels inside comes out again.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if Self::inside(&error).is_none() {
            return Self::Sqlx(error);
        }
        let inner = match error {
            sqlx::Error::Io(io) => io.into_inner(),
            sqlx::Error::Configuration(source) => Some(source),
            error => return Self::Sqlx(error),
        };
        match inner.map(|inner| inner.downcast::<Self>()) {
            Some(Ok(inner)) => *inner,
            Some(Err(source)) => Self::Sqlx(sqlx::Error::Configuration(source)),
            None => Self::Pool(leadpool::Error::Closed),
        }
    }
}

/// So that `?` works in functions that return sqlx's.
impl From<Error> for sqlx::Error {
    fn from(error: Error) -> Self {
        use leadpool::Error::{Closed, Config, Connect, NoHost, Paused, QueueFull, TxDeadline};

        let kind = match &error {
            Error::Pool(NoHost(_) | Paused(_) | TxDeadline { .. }) => io::ErrorKind::TimedOut,
            #[cfg(feature = "migrate")]
            Error::MigrationDeadline(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::ConnectionAborted,
        };
        match error {
            Error::Sqlx(error) => error,
            Error::Pool(Closed) => Self::PoolClosed,
            Error::Pool(QueueFull(full)) => {
                tracing::warn!(target: "leadpool::checkout", "{full}");
                Self::PoolTimedOut
            }
            Error::Pool(Config(_)) => Self::Configuration(Box::new(error)),
            Error::Pool(Connect(connect)) => {
                let host = connect.host.clone();
                match connect.into_source().downcast() {
                    Ok(sqlx) => *sqlx,
                    Err(source) => Self::Configuration(format!("{host}: {source}").into()),
                }
            }
            error => Self::Io(io::Error::new(kind, error)),
        }
    }
}

pub(crate) fn into_sqlx(error: leadpool::Error) -> sqlx::Error {
    Error::from(error).into()
}

/// For leadpool's retry loop; [`Error::from`] takes it out again.
pub(crate) fn into_pool(error: sqlx::Error) -> leadpool::Error {
    match Error::from(error) {
        Error::Pool(error) => error,
        Error::Sqlx(error) => leadpool::Error::Driver(Box::new(driver_error(error))),
        error => leadpool::Error::user(error),
    }
}

pub(crate) fn driver_error(error: sqlx::Error) -> DriverError {
    let (sqlstate, is_lost) = classified(&error);
    DriverError::new(error, sqlstate.as_deref(), is_lost)
}

/// The same for an error that has one of sqlx's among its sources.
pub(crate) fn wrap<E: StdError + Send + Sync + 'static>(error: E) -> leadpool::Error {
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(link) = next {
        if let Some(sqlx) = link.downcast_ref::<sqlx::Error>() {
            let (sqlstate, is_lost) = classified(sqlx);
            let wrapped = DriverError::new(error, sqlstate.as_deref(), is_lost);
            return leadpool::Error::Driver(Box::new(wrapped));
        }
        next = link.source();
    }
    leadpool::Error::user(error)
}

/// The reverse of [`wrap`].
pub(crate) fn unwrap<E: StdError + From<Error> + 'static>(error: leadpool::Error) -> E {
    let source = match error {
        leadpool::Error::Driver(driver) => driver.into_source(),
        leadpool::Error::User(source) => source,
        error => return Error::from(error).into(),
    };
    match source.downcast::<E>() {
        Ok(own) => *own,
        Err(source) => match source.downcast::<sqlx::Error>() {
            Ok(sqlx) => Error::from(*sqlx).into(),
            Err(source) => Error::Pool(leadpool::Error::User(source)).into(),
        },
    }
}

/// The SQLSTATE, and whether the connection is gone or of no more use.
pub(crate) fn classified(error: &sqlx::Error) -> (Option<String>, bool) {
    match error {
        sqlx::Error::Database(database) => (database.code().map(Into::into), false),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => (None, true),
        // BEGIN was answered, but did not begin anything: somebody else's transaction had failed.
        sqlx::Error::BeginFailed => (None, true),
        _ => (None, false),
    }
}

/// What an error asks for in a phase.
pub(crate) fn disposition(error: &sqlx::Error, phase: TxPhase) -> Disposition {
    match classified(error) {
        (Some(code), _) => Disposition::of_sqlstate(&code, phase),
        (None, true) => Disposition::of_lost_connection(phase),
        (None, false) => Disposition::Fail,
    }
}
