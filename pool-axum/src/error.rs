//! The error that handlers end with.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use axum::response::{IntoResponse, Response};
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
/// The answer tells the client nothing of what is inside. For logs the error itself travels in the
/// response's extensions, as a [`Cause`].
///
/// ```
/// use axum::{extract::{Path, State}, http::StatusCode};
/// use leadpool_axum::{Error, Problem, leadpool::{self, Pool}};
///
/// async fn pay(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<StatusCode, Error> {
///     pool.run_tx(|tx| async move {
///         match tx.execute("UPDATE orders SET paid = true WHERE id = $1", &[&id]).await? {
///             // From inside of a transaction.
///             0 => Err(leadpool::Error::user(Problem::refused(404, "there is no such order"))),
///             _ => Ok(()),
///         }
///     })
///     .await?;
///     Ok(StatusCode::NO_CONTENT)
/// }
///
/// let error = Error::from(leadpool::Error::Closed);
/// assert_eq!(error.problem().status(), 503);
/// ```
pub struct Error {
    problem: Problem,
    cause: Option<Cause>,
}

/// The error behind an answer, in the extensions of the response: for logs, not for clients.
///
/// ```
/// use axum::{extract::Request, middleware::Next, response::Response};
/// use leadpool_axum::Cause;
///
/// // For `axum::middleware::from_fn`.
/// async fn log(request: Request, next: Next) -> Response {
///     let response = next.run(request).await;
///     if let Some(cause) = response.extensions().get::<Cause>() {
///         eprintln!("{}: {}", response.status(), cause);
///     }
///     response
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
    /// use leadpool_axum::Error;
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

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = response(self.problem.answer());
        let extensions = response.extensions_mut();
        extensions.insert(self.problem);
        if let Some(cause) = self.cause {
            extensions.insert(cause);
        }
        response
    }
}

/// The answer of a handler whose transaction was rolled back: what was interrupted in it is known
/// not to have happened.
pub(crate) fn rolled_back(answer: Response) -> Response {
    let Some(problem) = answer.extensions().get::<Problem>() else {
        return answer;
    };
    let known = problem.clone().rolled_back();
    if known == *problem {
        return answer;
    }
    let error = Error {
        problem: known,
        cause: answer.extensions().get::<Cause>().cloned(),
    };
    error.into_response()
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
