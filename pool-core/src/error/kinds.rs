//! The error type and its parts.

use std::{error::Error as StdError, fmt, time::Duration};

use super::{
    Disposition, DriverError, HookFailed, NoHost, Overloaded, Paused, QueueFull, SessionMoved,
    TokenRefused, TxPhase, adapter_error, in_words, is_connection_loss,
};
use crate::{
    config::ConfigError,
    outcome::{Doubt, Evidence},
    topology::HostAddr,
};

/// Any error that can cross threads.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What can go wrong between an application and its cluster.
///
/// Every variant says which host was concerned and what to do next, and keeps its source. No
/// variant ever holds a password.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use leadpool::Error;
///
/// match pool.get().await {
///     Ok(client) => { client.simple_query("SELECT 1").await?; }
///     Err(Error::NoHost(error)) => eprintln!("answer 503: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is unusable.
    Config(ConfigError),
    /// The deadline passed while no host was usable for the checkout.
    NoHost(Box<NoHost>),
    /// The deadline passed while all connections of the host were in use.
    QueueFull(Box<QueueFull>),
    /// As many checkouts wait as may: this one failed at once.
    Overloaded(Box<Overloaded>),
    /// The deadline passed while the pool was paused.
    Paused(Box<Paused>),
    /// A host refused the connection for a reason that waiting does not cure.
    Connect(Box<ConnectError>),
    /// A consistency token that no host of this cluster can serve.
    TokenRefused(Box<TokenRefused>),
    /// The pool has been closed.
    Closed,
    /// A statement failed; the driver's own error.
    Postgres(tokio_postgres::Error),
    /// A statement failed; the error of another driver, where an adapter brought it.
    Driver(Box<DriverError>),
    /// The host was invalidated while a transaction ran there. COMMIT had not been sent: nothing
    /// was committed.
    #[non_exhaustive]
    Invalidated {
        /// The host that lost its role or its life.
        host: HostAddr,
    },
    /// COMMIT was sent and never answered, and it can't be proved whether it happened.
    Unknown(Box<InDoubt>),
    /// COMMIT was lost on its way: it is proved that nothing was committed.
    #[non_exhaustive]
    CommitLost {
        /// The host that COMMIT was sent to.
        host: HostAddr,
        /// How it was lost.
        source: Option<BoxError>,
    },
    /// The transaction was committed, but its wait for synchronous standbys was broken off: a
    /// failover may still lose it. It must not be repeated.
    ///
    /// It was looked for on the standbys' side for five seconds. If waits of several transactions on
    /// one host end in the same moment and evidence is switched off, one that has reached a standby
    /// may be told so too.
    #[non_exhaustive]
    NotReplicated {
        /// The host that has it.
        host: HostAddr,
    },
    /// A transaction of [one statement](crate::Pool::execute_tx) was committed, and the answer to
    /// its statement was lost with the connection. It must not be repeated.
    #[non_exhaustive]
    AnswerLost {
        /// The host that COMMIT was sent to.
        host: HostAddr,
    },
    /// The server refused BEGIN, when the first statement was on its way behind it already: that
    /// ran outside of any transaction, and stands if it did not fail. It must not be repeated
    /// unseen.
    ///
    /// A server refuses a bare BEGIN hardly ever: for a cancel request of an earlier statement that
    /// comes late, a `statement_timeout` of a few milliseconds, or want of memory.
    #[non_exhaustive]
    BeginRefused {
        /// The host.
        host: HostAddr,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// The closure changed the transaction's isolation level behind the back of `run_tx`. Nothing
    /// was committed.
    #[non_exhaustive]
    IsolationChanged {
        /// The level that the transaction was begun with.
        asked: String,
        /// The level that it had later.
        found: String,
    },
    /// The server answered COMMIT with ROLLBACK: a statement had failed, and the closure returned
    /// `Ok` all the same. Nothing was committed.
    RolledBack,
    /// The closure ended the transaction by itself (`COMMIT` or `ROLLBACK` as a statement), or
    /// returned before a statement of its own was answered. Of what came after its last own
    /// COMMIT, nothing was committed.
    EndedByClosure,
    /// The closure returned, but its `Tx` lives on somewhere: nothing was committed.
    Escaped,
    /// The deadline of the transaction passed before COMMIT was sent: nothing was committed.
    #[non_exhaustive]
    TxDeadline {
        /// How long the transaction has run, all attempts together.
        elapsed: Duration,
        /// How many attempts were begun.
        attempts: u32,
        /// What was last seen on the host of the attempt that it ended.
        seen: Option<String>,
        /// What ended the last attempt before, if there was one.
        source: Option<Box<Self>>,
    },
    /// Every attempt failed in a way that another attempt may cure. Nothing was committed.
    #[non_exhaustive]
    RetriesExhausted {
        /// How many attempts were made.
        attempts: u32,
        /// Whether the pool's shared retry budget ended it, not the limit of this transaction.
        budget: bool,
        /// What ended the last one.
        source: Box<Self>,
    },
    /// A [`KeptSession`](crate::KeptSession) goes on with another connection. Said once, by the
    /// first use after the loss.
    SessionMoved(Box<SessionMoved>),
    /// The closure's own error. Nothing was committed.
    User(BoxError),
}

impl Error {
    /// Wraps an application's error, so that a `run_tx` closure can end with it.
    pub fn user(error: impl Into<BoxError>) -> Self {
        Self::User(error.into())
    }

    /// The SQLSTATE that the server answered with, if an answer of the server is at the root.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        let ours = driver_error(self).and_then(|error| Some(error.code()?.code()));
        ours.or_else(|| adapter_error(self)?.sqlstate())
    }

    /// Whether a later try may succeed, and repeating is safe: nothing was committed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoHost(_)
            | Self::QueueFull(_)
            | Self::Overloaded(_)
            | Self::Paused(_)
            | Self::Invalidated { .. }
            | Self::SessionMoved(_)
            | Self::CommitLost { .. }
            | Self::TxDeadline { .. }
            | Self::RetriesExhausted { .. } => true,
            // The one answer of a standby that is hardly ever anything else.
            Self::Postgres(_) | Self::Driver(_) | Self::User(_)
                if self.sqlstate() == Some("25006") =>
            {
                true
            }
            Self::Postgres(_) | Self::Driver(_) | Self::User(_) => matches!(
                self.disposition(TxPhase::Open),
                Disposition::RetryHere | Disposition::WaitTopology
            ),
            Self::Config(_)
            | Self::Connect(_)
            | Self::TokenRefused(_)
            | Self::Closed
            | Self::Unknown(_)
            | Self::NotReplicated { .. }
            | Self::AnswerLost { .. }
            | Self::BeginRefused { .. }
            | Self::IsolationChanged { .. }
            | Self::RolledBack
            | Self::EndedByClosure
            | Self::Escaped => false,
        }
    }

    /// The class that the AWS drivers give to such an error: `08S01` no failover in time, `08S02`
    /// the connection was lost but the transaction can be repeated, `08007` whether the
    /// transaction was committed is unknown.
    #[must_use]
    pub fn failover_class(&self) -> Option<&'static str> {
        match self {
            Self::NoHost(_) | Self::TxDeadline { .. } => Some("08S01"),
            Self::Invalidated { .. } | Self::CommitLost { .. } | Self::SessionMoved(_) => {
                Some("08S02")
            }
            Self::Unknown(_) => Some("08007"),
            Self::RetriesExhausted { source, .. } => source.failover_class(),
            Self::Postgres(error) if is_connection_loss(error) => Some("08S02"),
            Self::Driver(error) if error.is_connection_loss() => Some("08S02"),
            _ => None,
        }
    }

    /// What to do after this error, if it ended a transaction in this phase.
    pub(crate) fn disposition(&self, phase: TxPhase) -> Disposition {
        match self {
            Self::Invalidated { .. } | Self::CommitLost { .. } => Disposition::WaitTopology,
            Self::Postgres(_) | Self::User(_) => driver_error(self)
                .map_or(Disposition::Fail, |error| {
                    Disposition::of_driver(error, phase)
                }),
            Self::Driver(error) => Disposition::of_adapter(error, phase),
            _ => Disposition::Fail,
        }
    }
}

/// The driver's error at the root of another error, however deep.
pub(crate) fn driver_error<'a>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a tokio_postgres::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<tokio_postgres::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => fmt::Display::fmt(error, f),
            Self::NoHost(error) => fmt::Display::fmt(error, f),
            Self::QueueFull(error) => fmt::Display::fmt(error, f),
            Self::Overloaded(error) => fmt::Display::fmt(error, f),
            Self::Paused(error) => fmt::Display::fmt(error, f),
            Self::Connect(error) => fmt::Display::fmt(error, f),
            Self::TokenRefused(error) => fmt::Display::fmt(error, f),
            Self::Closed => f.write_str("the pool is closed: build a new one to go on"),
            Self::Postgres(error) => match error.as_db_error() {
                Some(db) => write!(
                    f,
                    "the server answered {}: {}",
                    db.code().code(),
                    db.message()
                ),
                None => fmt::Display::fmt(error, f),
            },
            Self::Invalidated { host } => write!(
                f,
                "{host} was invalidated while the transaction ran there; nothing was committed, \
                 repeat it"
            ),
            Self::Unknown(in_doubt) => fmt::Display::fmt(in_doubt, f),
            Self::CommitLost { host, .. } => write!(
                f,
                "COMMIT was lost on its way to {host}; nothing was committed, repeat it"
            ),
            Self::NotReplicated { host } => write!(
                f,
                "committed on {host}, but its wait for synchronous standbys was broken off, so a \
                 failover may lose it; do not repeat it, look whether the standbys have it"
            ),
            Self::AnswerLost { host } => write!(
                f,
                "committed on {host}, but the answer to the statement was lost with the \
                 connection; do not repeat it, look for what it wrote"
            ),
            Self::BeginRefused { host, source } => write!(
                f,
                "{host} refused BEGIN ({source}), so the statement behind it ran by itself and \
                 stands unless it failed; look before you repeat it"
            ),
            Self::IsolationChanged { asked, found } => write!(
                f,
                "the closure changed the isolation level from {asked} to {found}, nothing was \
                 committed; set it with `pool.tx().isolation(..)`"
            ),
            Self::RolledBack => f.write_str(
                "the transaction was rolled back at COMMIT because a statement in it had failed; \
                 return that statement's error from the closure, or use a savepoint",
            ),
            Self::EndedByClosure => f.write_str(
                "the closure ended the transaction by itself, or returned before a statement was \
                 answered; leave BEGIN, COMMIT and ROLLBACK to run_tx, and await every statement",
            ),
            Self::Escaped => f.write_str(
                "the transaction handle was kept beyond its closure, so nothing was committed; \
                 drop it before the closure returns",
            ),
            Self::TxDeadline {
                elapsed,
                attempts,
                seen,
                ..
            } => {
                write!(
                    f,
                    "the transaction's deadline passed after {elapsed:.1?} and {attempts} \
                     attempts; nothing was committed"
                )?;
                seen.iter().try_for_each(|seen| write!(f, "; seen: {seen}"))
            }
            Self::RetriesExhausted {
                attempts,
                budget: false,
                source,
            } => write!(
                f,
                "given up after {attempts} attempts, nothing was committed; the last one: {source}"
            ),
            Self::RetriesExhausted {
                attempts, source, ..
            } => write!(
                f,
                "given up after {attempts} attempts because the pool's retry budget is spent, \
                 nothing was committed; the last one: {source}"
            ),
            Self::SessionMoved(moved) => fmt::Display::fmt(moved, f),
            Self::Driver(error) => fmt::Display::fmt(error, f),
            Self::User(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::NoHost(error) => error.source(),
            Self::QueueFull(_) | Self::Overloaded(_) | Self::Paused(_) => None,
            Self::Connect(error) => error.source(),
            Self::Postgres(error) | Self::BeginRefused { source: error, .. } => Some(error),
            Self::Unknown(in_doubt) => in_doubt.source(),
            Self::CommitLost { source, .. } => source.as_ref().map(|error| error.as_ref() as _),
            Self::TxDeadline { source, .. } => source
                .as_deref()
                .map(|error| error as &(dyn StdError + 'static)),
            Self::RetriesExhausted { source, .. } => Some(source.as_ref()),
            Self::Driver(error) => Some(error.as_ref()),
            Self::User(error) => Some(error.as_ref()),
            Self::Closed
            | Self::TokenRefused(_)
            | Self::Invalidated { .. }
            | Self::SessionMoved(_)
            | Self::NotReplicated { .. }
            | Self::AnswerLost { .. }
            | Self::IsolationChanged { .. }
            | Self::RolledBack
            | Self::EndedByClosure
            | Self::Escaped => None,
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// A host refused a connection for a reason that waiting does not cure.
///
/// ```no_run
/// # async fn f() {
/// use leadpool::{Error, Pool};
///
/// if let Err(Error::Connect(error)) = Pool::connect("postgres://nobody@db1/shop").await {
///     eprintln!("{} refuses us: {error}", error.host);
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// The host.
    pub host: HostAddr,
    pub(crate) source: BoxError,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hook) = self.source.downcast_ref::<HookFailed>() {
            return fmt::Display::fmt(hook, f);
        }
        write!(f, "cannot open a session on {}: ", self.host)?;
        match driver_error(self.source.as_ref()) {
            Some(error) => f.write_str(&in_words(error)),
            None => fmt::Display::fmt(&self.source, f),
        }
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// A COMMIT that was sent and never answered, and whose outcome can't be proved.
///
/// The transaction may have been committed or not. Keep the evidence, and ask again with
/// [`Pool::resolve`](crate::Pool::resolve) once the cause has passed, or look in the data.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use leadpool::Error;
///
/// let paid = pool.run_tx(|tx| async move {
///     tx.execute("UPDATE orders SET paid = true WHERE id = 7", &[]).await?;
///     Ok(())
/// });
/// if let Err(Error::Unknown(in_doubt)) = paid.await {
///     eprintln!("look whether order 7 is paid: {in_doubt}");
///     if let Some(evidence) = &in_doubt.evidence {
///         eprintln!("{evidence}"); // for `pool.resolve`, now or after a restart
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct InDoubt {
    /// The host that COMMIT was sent to.
    pub host: HostAddr,
    /// Which attempt it was, from 1; 0 if only the evidence is left of it.
    pub attempt: u32,
    /// What is known of the transaction; `None` if evidence is switched off.
    pub evidence: Option<Evidence>,
    /// Why it can't be proved.
    pub doubt: Doubt,
    pub(crate) source: Option<BoxError>,
}

impl fmt::Display for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "COMMIT was sent to {} and not answered, and whether the transaction happened can't be \
             proved: {}; look for its effect before you repeat it",
            self.host, self.doubt
        )?;
        match &self.evidence {
            Some(evidence) => write!(f, " (evidence {evidence})"),
            None => Ok(()),
        }
    }
}

impl StdError for InDoubt {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|error| error.as_ref() as _)
    }
}
