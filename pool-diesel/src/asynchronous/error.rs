//! Errors, and the way between diesel's, leadpool's and these.

use std::{error::Error as StdError, fmt};

use diesel::{
    ConnectionError,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::pooled_connection::PoolError as Refused;
use leadpool::{
    adapter::Answers,
    error::{Disposition, DriverError, TxPhase},
};

use super::PoolError;

/// What can go wrong in [`Pool::run_tx`](crate::Pool::run_tx), and what a pool can end with.
///
/// Where diesel's and diesel-async's signatures want their own errors, it travels inside of one:
/// [`Error::inside`] finds it there.
///
/// ```no_run
/// # async fn f(pool: leadpool_diesel::Pool) {
/// use leadpool_diesel::{Error, diesel, leadpool};
///
/// let done = pool.run_tx(|tx| async move { drop(tx); Err::<(), _>(diesel::NotFound) }).await;
/// match done {
///     Err(Error::Diesel { source: diesel::NotFound, .. }) => eprintln!("not found"),
///     Err(Error::Pool(leadpool::Error::Unknown(doubt))) => eprintln!("{doubt}"),
///     _ => {}
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// diesel's own: of a statement, or made by the closure.
    #[non_exhaustive]
    Diesel {
        /// The error.
        source: DieselError,
        /// The SQLSTATE that the server answered with, of which diesel tells only some.
        sqlstate: Option<String>,
    },
    /// leadpool's: no host in time, a COMMIT in doubt, retries exhausted ...
    Pool(leadpool::Error),
}

impl Error {
    /// The error that travels inside of one that a pool has given, if there is one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool) {
    /// use leadpool_diesel::Error;
    ///
    /// if let Err(error) = pool.get().await {
    ///     match Error::inside(&error) {
    ///         Some(what) if what.is_transient() => eprintln!("answer 503: {what}"),
    ///         _ => eprintln!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn inside(error: &PoolError) -> Option<&Self> {
        match error {
            PoolError::Backend(Refused::ConnectionError(
                ConnectionError::CouldntSetupConfiguration(error),
            )) => Self::inside_diesels(error),
            _ => None,
        }
    }

    /// The error that travels inside of one of diesel's, if there is one.
    #[must_use]
    pub fn inside_diesels(error: &DieselError) -> Option<&Self> {
        match error {
            DieselError::QueryBuilderError(inside) => inside.downcast_ref(),
            _ => None,
        }
    }

    /// The SQLSTATE that the server answered with.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Diesel { sqlstate, .. } => sqlstate.as_deref(),
            Self::Pool(error) => error.sqlstate(),
        }
    }

    /// Whether a later try may succeed, and repeating is safe: nothing was committed.
    ///
    /// Of an error of diesel's it says so as if it had ended a transaction before its COMMIT.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Diesel { source, sqlstate } => {
                let disposition = match sqlstate {
                    Some(code) if code == "25006" => return true,
                    Some(code) => Disposition::of_sqlstate(code, TxPhase::Open),
                    None if is_lost(source) => Disposition::of_lost_connection(TxPhase::Open),
                    None => Disposition::Fail,
                };
                matches!(
                    disposition,
                    Disposition::RetryHere | Disposition::WaitTopology
                )
            }
            Self::Pool(error) => error.is_transient(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diesel { source, .. } => fmt::Display::fmt(source, f),
            Self::Pool(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Diesel { source, .. } => Some(source),
            Self::Pool(error) => Some(error),
        }
    }
}

impl From<leadpool::Error> for Error {
    fn from(error: leadpool::Error) -> Self {
        match error {
            leadpool::Error::Driver(driver) => {
                let sqlstate = driver.sqlstate().map(str::to_owned);
                match driver.into_source().downcast() {
                    Ok(source) => Self::diesels(*source, sqlstate),
                    Err(source) => Self::Pool(leadpool::Error::User(source)),
                }
            }
            error => Self::Pool(error),
        }
    }
}

/// One that travels inside comes out again.
impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        let sqlstate = code_of_kind(&error).map(str::to_owned);
        Self::diesels(error, sqlstate)
    }
}

/// One that travels inside comes out again.
impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Closed => Self::Pool(leadpool::Error::Closed),
            PoolError::Backend(Refused::ConnectionError(
                ConnectionError::CouldntSetupConfiguration(error),
            ))
            | PoolError::Backend(Refused::QueryError(error)) => error.into(),
            error => Self::Pool(leadpool::Error::user(error)),
        }
    }
}

/// So that `?` works in functions that return diesel's.
impl From<Error> for DieselError {
    fn from(error: Error) -> Self {
        match error {
            Error::Diesel { source, .. } => source,
            error => Self::QueryBuilderError(Box::new(error)),
        }
    }
}

impl Error {
    fn diesels(source: DieselError, sqlstate: Option<String>) -> Self {
        match source {
            DieselError::QueryBuilderError(inside) => match inside.downcast::<Self>() {
                Ok(inside) => *inside,
                Err(inside) => Self::Diesel {
                    source: DieselError::QueryBuilderError(inside),
                    sqlstate,
                },
            },
            source => Self::Diesel { source, sqlstate },
        }
    }
}

/// In the words of deadpool, as diesel-async's own pool would say it.
pub(super) fn into_pooled(error: leadpool::Error) -> PoolError {
    use deadpool::managed::TimeoutType;

    match error {
        leadpool::Error::Closed => PoolError::Closed,
        leadpool::Error::QueueFull(full) => {
            tracing::warn!(target: "leadpool::checkout", "{full}");
            PoolError::Timeout(TimeoutType::Wait)
        }
        error => PoolError::Backend(Refused::ConnectionError(
            ConnectionError::CouldntSetupConfiguration(Error::Pool(error).into()),
        )),
    }
}

/// For leadpool's retry loop; [`Error::from`] takes it out again.
pub(super) fn into_pool(error: DieselError, answers: &Answers) -> leadpool::Error {
    match Error::from(error) {
        Error::Pool(error) => error,
        Error::Diesel { source, .. } => {
            let (sqlstate, is_lost) = classified(&source, answers);
            leadpool::Error::Driver(Box::new(DriverError::new(
                source,
                sqlstate.as_deref(),
                is_lost,
            )))
        }
    }
}

/// The same for an error that has one of diesel's among its sources.
pub(super) fn wrap<E: StdError + Send + Sync + 'static>(
    error: E,
    answers: &Answers,
) -> leadpool::Error {
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(link) = next {
        let diesels = match link.downcast_ref::<Error>() {
            Some(Error::Diesel { source, .. }) => Some(source),
            _ => link.downcast_ref::<DieselError>(),
        };
        if let Some(diesels) = diesels {
            let (sqlstate, is_lost) = classified(diesels, answers);
            let wrapped = DriverError::new(error, sqlstate.as_deref(), is_lost);
            return leadpool::Error::Driver(Box::new(wrapped));
        }
        next = link.source();
    }
    leadpool::Error::user(error)
}

/// The reverse of [`wrap`].
pub(super) fn unwrap<E: StdError + From<Error> + 'static>(error: leadpool::Error) -> E {
    let (source, sqlstate) = match error {
        leadpool::Error::Driver(driver) => {
            let sqlstate = driver.sqlstate().map(str::to_owned);
            (driver.into_source(), sqlstate)
        }
        leadpool::Error::User(source) => (source, None),
        error => return Error::from(error).into(),
    };
    match source.downcast::<E>() {
        Ok(own) => *own,
        Err(source) => match source.downcast::<DieselError>() {
            Ok(diesels) => Error::diesels(*diesels, sqlstate).into(),
            Err(source) => Error::Pool(leadpool::Error::User(source)).into(),
        },
    }
}

/// The SQLSTATE, and whether the connection is gone or of no more use.
pub(super) fn classified(error: &DieselError, answers: &Answers) -> (Option<String>, bool) {
    let told = told_by_server(error).and_then(|message| answers.sqlstate(message));
    let sqlstate = told.or_else(|| code_of_kind(error).map(str::to_owned));
    (sqlstate, is_lost(error))
}

/// The message of the server's error, as diesel passes it on.
fn told_by_server(error: &DieselError) -> Option<&str> {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, _) => None,
        DieselError::DatabaseError(_, information) => Some(information.message()),
        DieselError::RollbackErrorOnCommit { commit_error, .. } => told_by_server(commit_error),
        _ => None,
    }
}

/// The codes that diesel has a kind for: all others it calls unknown.
pub(super) fn code_of_kind(error: &DieselError) -> Option<&'static str> {
    use DatabaseErrorKind::{
        CheckViolation, ExclusionViolation, ForeignKeyViolation, NotNullViolation,
        ReadOnlyTransaction, RestrictViolation, SerializationFailure, UniqueViolation,
    };

    match error {
        DieselError::DatabaseError(kind, _) => match kind {
            UniqueViolation => Some("23505"),
            ForeignKeyViolation => Some("23503"),
            RestrictViolation => Some("23001"),
            ExclusionViolation => Some("23P01"),
            NotNullViolation => Some("23502"),
            CheckViolation => Some("23514"),
            SerializationFailure => Some("40001"),
            ReadOnlyTransaction => Some("25006"),
            _ => None,
        },
        DieselError::RollbackErrorOnCommit { commit_error, .. } => code_of_kind(commit_error),
        _ => None,
    }
}

/// Whether a statement failed because its connection is gone or of no more use. diesel-async calls
/// every error of tokio-postgres so that no server answered, and keeps nothing of it but the text.
pub(super) fn is_lost(error: &DieselError) -> bool {
    const LOST: [&str; 4] = [
        "connection closed",
        "error communicating with the server",
        "unexpected message from server",
        "error parsing response from server",
    ];
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, information) => LOST
            .iter()
            .any(|text| information.message().starts_with(text)),
        DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => true,
        DieselError::RollbackErrorOnCommit { commit_error, .. } => is_lost(commit_error),
        _ => false,
    }
}
