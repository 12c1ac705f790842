//! Which answer an error amounts to.

use std::{borrow::Cow, error::Error as StdError, fmt};

use serde_json::json;

use super::Answer;
use crate::{
    consistency::Standing,
    error::{Disposition, DriverError, Error, TxPhase, is_connection_loss},
};

/// What an error amounts to in an answer: a status, and a body by
/// [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) that says what the client may do about it and
/// nothing of what is inside: no host, no statement, no text of a driver or server.
///
/// | what happened | status | `code` | `Retry-After` |
/// |---|--:|---|--:|
/// | no usable host in time | 503 | `unavailable` | 2 |
/// | the pool is paused, or is being closed | 503 | `unavailable` | 2 |
/// | all connections were in use, too many wait, the server has no room | 503 | `overloaded` | 1 |
/// | a transaction lost its host before COMMIT; a serialization failure, a deadlock; a statement that a standby refuses; a consistency token that is ahead of what is known here | 503 | `try_again` | 1 |
/// | a connection was lost outside of `run_tx` with a statement in flight, which may have happened | 503 | `interrupted` | |
/// | the deadline passed; a statement timeout | 504 | `deadline` | |
/// | COMMIT was never answered, and it can't be proved what became of it | 500 | `outcome_unknown` | |
/// | committed, but perhaps on one server only | 500 | `not_replicated` | |
/// | anything else | 500 | `internal` | |
/// | one of these that travelled in [`Error::User`] | its own | its own | its own |
///
/// Where a client is told to come again, the transaction or the statement that failed did not
/// happen. What the handler had done before it, outside of it, is not taken back.
///
/// ```
/// use leadpool::{Error, web::Problem};
///
/// let problem = Problem::of(&Error::Closed, &[]);
/// assert_eq!((problem.status(), problem.code()), (503, "unavailable"));
///
/// // An application's own, which a closure of `run_tx` may end with.
/// let refused = Error::user(Problem::refused(409, "sold out"));
/// assert_eq!(Problem::of(&refused, &[]).status(), 409);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    code: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u32>,
}

/// What an error of a driver says of the request, as the driver's adapter reads it.
///
/// ```
/// use leadpool::web::{Problem, Told};
///
/// assert_eq!(Problem::of_told(&Told::Server("40001".into())).status(), 503);
/// assert_eq!(Problem::of_told(&Told::Server("23505".into())).status(), 500);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Told<'a> {
    /// It is one of leadpool's, in other clothes.
    Pool(&'a Error),
    /// The server answered with this SQLSTATE.
    Server(Cow<'a, str>),
    /// The connection was lost, and no answer came.
    Lost,
    /// All connections were in use.
    Busy,
    /// The pool has been closed.
    Closed,
}

/// Reads an error, if it is of the driver's types: not those in its
/// [`source`](StdError::source)s, which are tried next.
pub type Reader = for<'a> fn(&'a (dyn StdError + 'static)) -> Option<Told<'a>>;

impl Problem {
    /// The problem that an error amounts to: by the first error in its chain of
    /// [`source`](StdError::source)s that says anything. The readers are those of the drivers other
    /// than tokio-postgres.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static), readers: &[Reader]) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(problem) = Self::of_one(error, readers) {
                return problem;
            }
            next = error.source();
        }
        Self::internal()
    }

    fn of_one(error: &(dyn StdError + 'static), readers: &[Reader]) -> Option<Self> {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return Some(problem.clone());
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            return Self::of_pool(error);
        }
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return Some(Self::of_driver(error));
        }
        if let Some(error) = error.downcast_ref::<DriverError>() {
            return match (error.sqlstate(), error.is_connection_loss()) {
                (Some(code), _) => Some(Self::of_sqlstate(code)),
                (None, true) => Some(Self::interrupted()),
                (None, false) => None,
            };
        }
        let told = readers.iter().find_map(|reader| reader(error))?;
        Some(Self::of_told(&told))
    }

    /// The problem that a driver's error amounts to.
    #[must_use]
    pub fn of_told(told: &Told<'_>) -> Self {
        match told {
            Told::Pool(error) => Self::of(*error, &[]),
            Told::Server(code) => Self::of_sqlstate(code),
            Told::Lost => Self::interrupted(),
            Told::Busy => Self::overloaded(),
            Told::Closed => Self::unavailable(),
        }
    }

    /// `None` where the source says what it was.
    fn of_pool(error: &Error) -> Option<Self> {
        Some(match error {
            Error::NoHost(_) | Error::Paused(_) | Error::Closed => Self::unavailable(),
            Error::QueueFull(_) | Error::Overloaded(_) => Self::overloaded(),
            Error::Invalidated { .. }
            | Error::CommitLost { .. }
            | Error::RetriesExhausted { .. }
            | Error::SessionMoved(_) => Self::try_again(),
            // Perhaps of a failover that is not known here yet.
            Error::TokenRefused(refused) if refused.standing == Standing::Future => {
                Self::try_again()
            }
            Error::TxDeadline { .. } => Self::deadline(),
            Error::Unknown(_) | Error::BeginRefused { .. } => Self::outcome_unknown(),
            Error::NotReplicated { .. } => Self::not_replicated(),
            Error::Config(_)
            | Error::Connect(_)
            | Error::AnswerLost { .. }
            | Error::IsolationChanged { .. }
            | Error::TokenRefused(_)
            | Error::RolledBack
            | Error::EndedByClosure
            | Error::Escaped => Self::internal(),
            Error::Postgres(_) | Error::Driver(_) | Error::User(_) => return None,
        })
    }

    fn of_driver(error: &tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) => Self::of_sqlstate(code.code()),
            None if is_connection_loss(error) => Self::interrupted(),
            None => Self::internal(),
        }
    }

    /// What the server answered with an error did not happen.
    fn of_sqlstate(code: &str) -> Self {
        match Disposition::of_sqlstate(code, TxPhase::Open) {
            // Insufficient resources: connections, memory, disk space.
            _ if code.starts_with("53") => Self::overloaded(),
            // A statement timeout, above all.
            _ if code == "57014" => Self::deadline(),
            // The one answer of a standby that is hardly ever anything else.
            _ if code == "25006" => Self::try_again(),
            Disposition::RetryHere | Disposition::WaitTopology => Self::try_again(),
            Disposition::Fail | Disposition::CheckRole | Disposition::Resolve => Self::internal(),
        }
    }

    /// A refusal of the application's own, with a text for the client. The status is one of 400 to
    /// 599; another one counts as 500.
    #[must_use]
    pub fn refused(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        let (status, code) = match status {
            400..=599 => (status, "refused"),
            _ => (500, "internal"),
        };
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
        }
    }

    pub(super) fn unavailable() -> Self {
        Self {
            status: 503,
            code: "unavailable",
            detail: "The service can't reach its data at the moment. Try again later.".into(),
            retry_after: Some(2),
        }
    }

    fn overloaded() -> Self {
        Self {
            status: 503,
            code: "overloaded",
            detail: "Too much is asked of the service at the moment. Try again later.".into(),
            retry_after: Some(1),
        }
    }

    pub(super) fn crowded() -> Self {
        Self {
            detail: "Too many watch this page at the moment. Try again later.".into(),
            retry_after: Some(5),
            ..Self::overloaded()
        }
    }

    fn try_again() -> Self {
        Self {
            status: 503,
            code: "try_again",
            detail: "The request did not come through. Try it again.".into(),
            retry_after: Some(1),
        }
    }

    fn interrupted() -> Self {
        Self {
            status: 503,
            code: "interrupted",
            detail: "The request was interrupted, and may have been done or not. Look before you \
                     repeat it."
                .into(),
            retry_after: None,
        }
    }

    pub(super) fn deadline() -> Self {
        Self {
            status: 504,
            code: "deadline",
            detail: "The request's time was over before it was done.".into(),
            retry_after: None,
        }
    }

    fn outcome_unknown() -> Self {
        Self {
            status: 500,
            code: "outcome_unknown",
            detail: "Whether the request was done can't be told. Look before you repeat it.".into(),
            retry_after: None,
        }
    }

    fn not_replicated() -> Self {
        Self {
            status: 500,
            code: "not_replicated",
            detail: "The request was done, but may be lost again. Do not repeat it; look later \
                     whether it has lasted."
                .into(),
            retry_after: None,
        }
    }

    /// What went wrong is nothing that the client can do anything about.
    #[must_use]
    pub fn internal() -> Self {
        Self {
            status: 500,
            code: "internal",
            detail: "The service failed.".into(),
            retry_after: None,
        }
    }

    /// The service is put together wrongly: a sentence for who does that, which tells no secret.
    #[must_use]
    pub fn misassembled(detail: &'static str) -> Self {
        Self {
            status: 500,
            code: "misassembled",
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// The same once it is known that the transaction in which it happened was rolled back: what
    /// was interrupted did not happen then.
    #[must_use]
    pub fn rolled_back(self) -> Self {
        match self.code {
            "interrupted" => Self::try_again(),
            _ => self,
        }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The word that stands in the body's member `code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence that stands in the body's member `detail`.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// After how many seconds the client should try again, if it should.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// The answer that says so.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let body = json!({
            "type": "about:blank",
            "title": title(self.status),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        });
        let answer = Answer::problem(self.status, &body);
        match self.retry_after {
            Some(seconds) => answer.with("retry-after", seconds.to_string()),
            None => answer,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.status, self.code, self.detail)
    }
}

impl StdError for Problem {}

/// As RFC 9457, section 4.2.1 asks for with `about:blank`: the status's own words.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ if status < 500 => "Client Error",
        _ => "Server Error",
    }
}

#[cfg(test)]
mod tests;
