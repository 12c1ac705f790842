//! What a transaction is begun with, and how often it is tried.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};

use super::{
    TokenSlot,
    hooks::{OnAttempt, OnResolved, OnRetry},
};
use crate::{
    config::{Milliseconds, TxSettings},
    consistency::ConsistencyToken,
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
pub const SIGN: &str = "ours";
const BEGIN: &str = "BEGIN;SET LOCAL leadpool.transaction='ours'";

/// The options of one transaction.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where it runs.
    pub target: Target,
    /// What it must see, if it reads at a token: then a standby that has it, or the writer, serves
    /// it, whatever the target.
    pub token: Option<ConsistencyToken>,
    /// How often it is repeated.
    pub retries: u32,
    /// How long it may take.
    pub deadline: Duration,
    backoff: Backoff,
    /// Its isolation level, unless it is the server's default.
    pub isolation: Option<IsolationLevel>,
    /// Whether it only reads, unless it is as the server has it.
    pub read_only: Option<bool>,
    /// Whether it waits for a snapshot that can't fail.
    pub deferrable: bool,
    /// How long each statement may take, unless it is as the connection has it; zero: no limit.
    pub statement_timeout: Option<Duration>,
    /// Whether it gathers evidence.
    pub evidence: bool,
    /// How sure a verdict has to be.
    pub proof: Proof,
    /// How long to look for what became of its COMMIT. `None`: until the deadline.
    pub resolve_within: Option<Duration>,
    /// Its name, for logs and observers.
    pub name: Option<Cow<'static, str>>,
    /// Is told of each attempt.
    pub on_attempt: Option<OnAttempt>,
    /// Is told before each retry.
    pub on_retry: Option<OnRetry>,
    /// Is told what became of a COMMIT in flight.
    pub on_resolved: Option<OnResolved>,
    /// Where its token is wanted.
    pub(super) slot: Option<TokenSlot>,
}

impl Options {
    /// As the settings have them: on the writer, and nothing of its own.
    #[must_use]
    pub fn new(settings: &TxSettings) -> Self {
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
            token: None,
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
            slot: None,
        }
    }

    /// The pauses between attempts.
    pub(crate) fn pauses(&self) -> Pauses {
        (self.backoff)()
    }

    /// Has the writer asked, when the transaction is committed, what a read must have seen in order
    /// to see it: as [`Cluster::token`](crate::Cluster::token), which takes a round trip. It is
    /// found in the slot then.
    #[must_use]
    pub fn ask_for_token(&mut self) -> TokenSlot {
        self.slot.get_or_insert_default().clone()
    }

    /// Sets the pauses between attempts.
    pub fn set_backoff<I>(&mut self, pauses: impl Fn() -> I + Send + Sync + 'static)
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
    #[must_use]
    pub fn begin_sql(&self) -> Cow<'static, str> {
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
