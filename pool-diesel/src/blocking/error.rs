//! Errors, and the way between diesel's, leadpool's and these.

use std::{error::Error as StdError, fmt};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use leadpool::error::{Disposition, DriverError, TxPhase};

use super::deadlock;

/// What can go wrong in a checkout, and in [`Pool::run_tx`](super::Pool::run_tx).
///
/// ```no_run
/// # fn f(pool: leadpool_diesel::blocking::Pool) {
/// use leadpool_diesel::{blocking::Error, leadpool};
///
/// match pool.get() {
///     Err(Error::Pool(leadpool::Error::NoHost(error))) => eprintln!("answer 503: {error}"),
///     Err(error) => eprintln!("{error}"),
///     Ok(conn) => drop(conn),
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// diesel's own: of a statement, or made by the closure.
    Diesel(DieselError),
    /// leadpool's: no host in time, a COMMIT in doubt, retries exhausted ...
    Pool(leadpool::Error),
}

impl Error {
    /// The SQLSTATE that the server answered with, as far as diesel passes it on: of most codes it
    /// keeps the message only.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Diesel(error) => classified(error).0,
            Self::Pool(error) => error.sqlstate(),
        }
    }

    /// Whether a later try may succeed, and repeating is safe: nothing was committed.
    ///
    /// Of an error of diesel's it says so as if it had ended a transaction before its COMMIT.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Diesel(error) => match classified(error) {
                (Some("25006"), _) | (None, true) => true,
                (Some(code), _) => matches!(
                    Disposition::of_sqlstate(code, TxPhase::Open),
                    Disposition::RetryHere | Disposition::WaitTopology
                ),
                (None, false) => false,
            },
            Self::Pool(error) => error.is_transient(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diesel(error) => fmt::Display::fmt(error, f),
            Self::Pool(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Diesel(error) => Some(error),
            Self::Pool(error) => Some(error),
        }
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        Self::Diesel(error)
    }
}

impl From<leadpool::Error> for Error {
    fn from(error: leadpool::Error) -> Self {
        match error {
            leadpool::Error::Driver(driver) => match driver.into_source().downcast() {
                Ok(diesel) => Self::Diesel(*diesel),
                Err(source) => Self::Pool(leadpool::Error::User(source)),
            },
            error => Self::Pool(error),
        }
    }
}

/// For leadpool's retry loop; [`Error::from`] takes it out again.
pub(super) fn into_pool(error: DieselError) -> leadpool::Error {
    let (sqlstate, is_lost) = classified(&error);
    let driver = DriverError::new(error, sqlstate, is_lost);
    leadpool::Error::Driver(Box::new(driver))
}

/// The same for an error with which the server has answered to COMMIT.
pub(super) fn refused(error: DieselError) -> leadpool::Error {
    let driver = match classified(&error).0 {
        Some(sqlstate) => DriverError::new(error, Some(sqlstate), false),
        None => DriverError::answered(error),
    };
    leadpool::Error::Driver(Box::new(driver))
}

/// The same for an error that has one of diesel's among its sources.
pub(super) fn wrap<E: StdError + Send + Sync + 'static>(error: E) -> leadpool::Error {
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(link) = next {
        if let Some(diesel) = link.downcast_ref::<DieselError>() {
            let (sqlstate, is_lost) = classified(diesel);
            let wrapped = DriverError::new(error, sqlstate, is_lost);
            return leadpool::Error::Driver(Box::new(wrapped));
        }
        next = link.source();
    }
    leadpool::Error::user(error)
}

/// The reverse of [`wrap`].
pub(super) fn unwrap<E: StdError + From<Error> + 'static>(error: leadpool::Error) -> E {
    let source = match error {
        leadpool::Error::Driver(driver) => driver.into_source(),
        leadpool::Error::User(source) => source,
        error => return Error::from(error).into(),
    };
    match source.downcast::<E>() {
        Ok(own) => *own,
        Err(source) => match source.downcast::<DieselError>() {
            Ok(diesel) => Error::Diesel(*diesel).into(),
            Err(source) => Error::Pool(leadpool::Error::User(source)).into(),
        },
    }
}

/// The SQLSTATE, and whether the connection is gone or of no more use.
///
/// diesel has a kind for some codes. A deadlock is known in every language; of the others the
/// server's own words are left, in English if `lc_messages` says so, and whether something is
/// repeated depends on none of those.
pub(super) fn classified(error: &DieselError) -> (Option<&'static str>, bool) {
    use DatabaseErrorKind as Kind;

    let (kind, information) = match error {
        DieselError::DatabaseError(kind, information) => (kind, information),
        DieselError::RollbackErrorOnCommit { commit_error, .. } => return classified(commit_error),
        DieselError::BrokenTransactionManager => return (None, true),
        _ => return (None, false),
    };
    let code = match kind {
        Kind::UniqueViolation => "23505",
        Kind::ForeignKeyViolation => "23503",
        Kind::NotNullViolation => "23502",
        Kind::CheckViolation => "23514",
        Kind::RestrictViolation => "23001",
        Kind::ExclusionViolation => "23P01",
        Kind::SerializationFailure => "40001",
        Kind::ReadOnlyTransaction => "25006",
        Kind::UnableToSendCommand | Kind::ClosedConnection => return (None, true),
        _ if information.details().is_some_and(deadlock::is_circle) => "40P01",
        _ => match information.message() {
            // As raised by a function.
            "deadlock detected" | "deadlock_detected" => "40P01",
            text if text.starts_with("current transaction is aborted") => "25P02",
            text if text.starts_with("canceling statement due to") => "57014",
            _ => return (None, false),
        },
    };
    (Some(code), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: DatabaseErrorKind, text: &str) -> Error {
        DieselError::DatabaseError(kind, Box::new(text.to_owned())).into()
    }

    #[test]
    fn codes_that_diesel_keeps_to_itself() {
        use DatabaseErrorKind::{SerializationFailure, UniqueViolation, Unknown};
        let cases = [
            (SerializationFailure, "", Some("40001"), true),
            (Unknown, "deadlock detected", Some("40P01"), true),
            (Unknown, "division by zero", None, false),
            (UniqueViolation, "", Some("23505"), false),
            (DatabaseErrorKind::ClosedConnection, "", None, true),
            (
                DatabaseErrorKind::ReadOnlyTransaction,
                "",
                Some("25006"),
                true,
            ),
        ];
        for (kind, text, sqlstate, is_transient) in cases {
            let error = error(kind, text);
            assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
            assert_eq!(error.is_transient(), is_transient, "{error:?}");
        }
    }
}
