//! The error that handlers end with.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use leadpool::web::{Problem, Reader};

use crate::answer::response;

/// What errors of other drivers than tokio-postgres say.
const READERS: &[Reader] = &[
    #[cfg(feature = "sqlx")]
    leadpool_sqlx::told,
    #[cfg(feature = "diesel")]
    leadpool_diesel::told,
    #[cfg(feature = "diesel-blocking")]
    leadpool_diesel::blocking::told,
];

/// Whatever went wrong in a handler, as the answer that it amounts to: see [`Problem`] for the
/// table.
///
/// `?` turns any error into one: leadpool's, the driver's, and the application's own, which are
/// judged by the first in their chain of [`source`](StdError::source)s that is one of those. With
/// [`refuse`](Self::refuse) a handler says itself what the client is told.
///
/// The answer tells the client nothing of what is inside. For logs the error itself is in it, as a
/// [`Cause`].
///
/// ```
/// use actix_web::{HttpResponse, web};
/// use leadpool_actix::{Error, Problem, leadpool::{self, Pool}};
///
/// async fn pay(pool: web::Data<Pool>, id: web::Path<i64>) -> Result<HttpResponse, Error> {
///     let id = id.into_inner();
///     pool.run_tx(|tx| async move {
///         match tx.execute("UPDATE orders SET paid = true WHERE id = $1", &[&id]).await? {
///             // From inside of a transaction.
///             0 => Err(leadpool::Error::user(Problem::refused(404, "there is no such order"))),
///             _ => Ok(()),
///         }
///     })
///     .await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
///
/// let error = Error::from(leadpool::Error::Closed);
/// assert_eq!(error.problem().status(), 503);
/// ```
pub struct Error {
    problem: Problem,
    cause: Option<Cause>,
}

/// The error behind an answer, in the [`Error`] that the response holds: for logs, not for clients.
///
/// ```
/// use actix_web::{Error as ActixError, body::MessageBody, dev, middleware::Next};
/// use leadpool_actix::Error;
///
/// // For `actix_web::middleware::from_fn`.
/// async fn log(
///     request: dev::ServiceRequest,
///     next: Next<impl MessageBody>,
/// ) -> Result<dev::ServiceResponse<impl MessageBody>, ActixError> {
///     let response = next.call(request).await?;
///     let error = response.response().error().and_then(ActixError::as_error::<Error>);
///     if let Some(cause) = error.and_then(Error::cause) {
///         eprintln!("{}: {cause}", response.status());
///     }
///     Ok(response)
/// }
/// ```
#[derive(Clone)]
pub struct Cause(Arc<Mutex<dyn StdError + Send>>);

impl Cause {
    /// Looks at the error itself. It is locked meanwhile, since not every error may be looked at
    /// from several threads at once.
    pub fn with<R>(&self, look: impl FnOnce(&(dyn StdError + 'static)) -> R) -> R {
        look(&*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Error {
    /// Refuses the request with a status of 400 to 599, and a text for the client.
    ///
    /// ```
    /// use leadpool_actix::Error;
    ///
    /// # fn f(amount: i64) -> Result<(), Error> {
    /// if amount < 0 {
    ///     return Err(Error::refuse(422, "the amount must not be negative"));
    /// }
    /// # Ok(())
    /// # }
    /// # assert_eq!(f(-1).unwrap_err().problem().status(), 422);
    /// ```
    #[must_use]
    pub fn refuse(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::refused(status, detail).into()
    }

    /// What it amounts to in an answer.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What went wrong.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }
}

impl<E: StdError + Send + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            problem: Problem::of(&error, READERS),
            cause: Some(Cause(Arc::new(Mutex::new(error)))),
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        response(self.problem.answer())
    }
}

/// The error of an answer whose handler's transaction was rolled back, if more is known by that:
/// what was interrupted in it did not happen.
pub(crate) fn rolled_back(error: &actix_web::Error) -> Option<Error> {
    let error: &Error = error.as_error()?;
    let problem = error.problem.clone().rolled_back();
    (problem != error.problem).then(|| Error {
        problem,
        cause: error.cause.clone(),
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.problem, f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("problem", &self.problem)
            .field("cause", &self.cause)
            .finish()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|error| fmt::Display::fmt(error, f))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|error| fmt::Debug::fmt(error, f))
    }
}
