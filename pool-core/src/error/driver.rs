//! Errors of drivers that leadpool itself does not know.

use std::{error::Error as StdError, fmt};

use super::{BoxError, ConnectError};

/// An error of a driver other than tokio-postgres, and what its adapter found out about it.
///
/// ```
/// use leadpool::error::DriverError;
///
/// let error = DriverError::new("duplicate key".to_owned(), Some("23505"), false);
/// assert_eq!(error.sqlstate(), Some("23505"));
/// assert!(!error.is_connection_loss());
/// ```
#[derive(Debug)]
pub struct DriverError {
    sqlstate: Option<Box<str>>,
    is_answer: bool,
    is_connection_loss: bool,
    source: BoxError,
}

impl DriverError {
    /// What went wrong, the SQLSTATE that the server answered with, and whether the connection
    /// is gone or of no more use.
    pub fn new(
        source: impl Into<BoxError>,
        sqlstate: Option<&str>,
        is_connection_loss: bool,
    ) -> Self {
        Self {
            sqlstate: sqlstate.map(Into::into),
            is_answer: sqlstate.is_some(),
            is_connection_loss,
            source: source.into(),
        }
    }

    /// An error with which the server answered, with an SQLSTATE that the driver keeps to itself.
    /// So to a COMMIT: nothing was committed, and nothing is in doubt.
    ///
    /// ```
    /// use leadpool::error::{Disposition, DriverError, TxPhase};
    ///
    /// let refused = DriverError::answered("a constraint of ours".to_owned());
    /// assert_eq!(refused.sqlstate(), None);
    /// let disposition = Disposition::of_adapter(&refused, TxPhase::CommitInFlight);
    /// assert_eq!(disposition, Disposition::Fail);
    /// ```
    pub fn answered(source: impl Into<BoxError>) -> Self {
        Self {
            is_answer: true,
            ..Self::new(source, None, false)
        }
    }

    /// The SQLSTATE that the server answered with, if it is known.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// Whether it is known that the server answered.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.is_answer
    }

    /// Whether the connection is gone or of no more use, without an answer.
    #[must_use]
    pub fn is_connection_loss(&self) -> bool {
        self.is_connection_loss
    }

    /// The error itself.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl StdError for DriverError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

impl ConnectError {
    /// The driver's error.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

/// The adapter's error at the root of another error, however deep.
pub(crate) fn adapter_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a DriverError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<DriverError>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
