//! What a transaction is begun with, and how often it is tried.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};

use super::hooks::{OnAttempt, OnResolved, OnRetry};
use crate::{
    config::{Milliseconds, TxSettings},
    outcome::Proof,
    topology::Target,
};

/// The isolation level of a transaction
/// ([PostgreSQL documentation, section 13.2](https://www.postgresql.org/docs/current/transaction-iso.html)).
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use leadpool::IsolationLevel;
///
/// let n: i64 = pool.tx()
///     .isolation(IsolationLevel::Serializable)
///     .run(|tx| async move { Ok(tx.query_one("SELECT count(*) FROM orders", &[]).await?.get(0)) })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// Each statement sees what was committed before it began: PostgreSQL's default.
    ReadCommitted,
    /// All statements see what was committed before the first of them.
    RepeatableRead,
    /// As if transactions ran one after the other; a standby can't do that.
    Serializable,
}

impl IsolationLevel {
    /// As the setting `transaction_isolation` has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }

    fn as_sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
            Self::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
            Self::Serializable => "ISOLATION LEVEL SERIALIZABLE",
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

type Pauses = Box<dyn Iterator<Item = Duration> + Send>;
type Backoff = Arc<dyn Fn() -> Pauses + Send + Sync>;

/// Each twice the one before, with jitter.
fn exponential(shortest: Duration, longest: Duration) -> Backoff {
    Arc::new(move || {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times()
            .build();
        Box::new(pauses.map(move |pause| pause.min(longest)))
    })
}

/// The value that the setting `leadpool.transaction` has while a transaction of ours lasts.
pub(crate) const SIGN: &str = "ours";
const BEGIN: &str = "BEGIN;SET LOCAL leadpool.transaction='ours'";

/// The options of one transaction.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) target: Target,
    pub(crate) retries: u32,
    pub(crate) deadline: Duration,
    backoff: Backoff,
    pub(crate) isolation: Option<IsolationLevel>,
    pub(crate) read_only: Option<bool>,
    pub(crate) deferrable: bool,
    pub(crate) statement_timeout: Option<Duration>,
    pub(crate) evidence: bool,
    pub(crate) proof: Proof,
    /// `None`: until the deadline.
    pub(crate) resolve_within: Option<Duration>,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) on_attempt: Option<OnAttempt>,
    pub(crate) on_retry: Option<OnRetry>,
    pub(crate) on_resolved: Option<OnResolved>,
}

impl Options {
    pub(crate) fn new(settings: &TxSettings) -> Self {
        let TxSettings {
            retries,
            deadline,
            backoff_min,
            backoff_max,
            evidence,
            proof,
            ..
        } = *settings;
        Self {
            target: Target::Primary,
            retries,
            deadline,
            backoff: exponential(backoff_min, backoff_max),
            isolation: None,
            read_only: None,
            deferrable: false,
            statement_timeout: None,
            evidence,
            proof,
            resolve_within: None,
            name: None,
            on_attempt: None,
            on_retry: None,
            on_resolved: None,
        }
    }

    /// The pauses between attempts.
    pub(crate) fn pauses(&self) -> Pauses {
        (self.backoff)()
    }

    pub(crate) fn set_backoff<I>(&mut self, pauses: impl Fn() -> I + Send + Sync + 'static)
    where
        I: IntoIterator<Item = Duration>,
        I::IntoIter: Send + 'static,
    {
        self.backoff = Arc::new(move || Box::new(pauses().into_iter()));
    }

    /// The statements that begin it, with a sign by which COMMIT knows it again.
    ///
    /// Characteristics are a statement of their own, because what is sent behind a `BEGIN` that
    /// failed would run by itself, while what is sent behind a failed `SET TRANSACTION` fails too.
    pub(crate) fn begin_sql(&self) -> Cow<'static, str> {
        let mut modes = Vec::new();
        modes.extend(self.isolation.map(IsolationLevel::as_sql));
        modes.extend(self.read_only.map(
            |read_only| {
                if read_only { "READ ONLY" } else { "READ WRITE" }
            },
        ));
        if self.deferrable {
            modes.push("DEFERRABLE");
        }
        if modes.is_empty() && self.statement_timeout.is_none() {
            return BEGIN.into();
        }
        let mut sql = BEGIN.to_owned();
        if let Some(limit) = self.statement_timeout.map(Milliseconds::from) {
            let _ = write!(sql, ";SET LOCAL statement_timeout={limit}");
        }
        if !modes.is_empty() {
            let _ = write!(sql, ";SET TRANSACTION {}", modes.join(","));
        }
        sql.into()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("target", &self.target)
            .field("retries", &self.retries)
            .field("deadline", &self.deadline)
            .field("begin", &self.begin_sql())
            .finish_non_exhaustive()
    }
}
