//! What a transaction is begun with, and how often it is tried.

use std::{fmt, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};

use crate::{
    config::TxSettings,
    error::Error,
    outcome::{Doubt, Evidence, Outcome, Proof},
    topology::{HostAddr, Target},
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

/// Tells an observer that a transaction is about to be tried again.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// pool.tx()
///     .on_retry(|retry| eprintln!("attempt {} on {:?}: {}", retry.attempt, retry.host, retry.error))
///     .run(|tx| async move { tx.execute("UPDATE jobs SET done = true", &[]).await?; Ok(()) })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Retry<'a> {
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// Where it ran, if it had got a connection.
    pub host: Option<&'a HostAddr>,
    /// How it failed.
    pub error: &'a Error,
    /// How long the next one will wait, unless it waits for a writer.
    pub pause: Duration,
}

type OnRetry = Arc<dyn Fn(&Retry<'_>) + Send + Sync>;

/// Tells an observer what became of a COMMIT in flight.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// pool.tx()
///     .on_resolved(|resolved| eprintln!("{}: {:?}", resolved.evidence, resolved.outcome))
///     .run(|tx| async move { tx.execute("UPDATE jobs SET done = true", &[]).await?; Ok(()) })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Resolved<'a> {
    /// The attempt whose COMMIT was in flight, from 1.
    pub attempt: u32,
    /// What was known of the transaction.
    pub evidence: &'a Evidence,
    /// What became of it, or why that can't be proved.
    pub outcome: Result<Outcome, Doubt>,
    /// How long it took to find out.
    pub elapsed: Duration,
}

type OnResolved = Arc<dyn Fn(&Resolved<'_>) + Send + Sync>;

/// The value that the setting `leadpool.transaction` has while a transaction of ours lasts.
pub(crate) const SIGN: &str = "ours";
const BEGIN: &str = "BEGIN;SET LOCAL leadpool.transaction='ours'";

/// The options of one transaction.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) target: Target,
    pub(crate) retries: u32,
    pub(crate) deadline: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    pub(crate) isolation: Option<IsolationLevel>,
    pub(crate) read_only: Option<bool>,
    pub(crate) deferrable: bool,
    pub(crate) evidence: bool,
    pub(crate) proof: Proof,
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
            backoff_min,
            backoff_max,
            isolation: None,
            read_only: None,
            deferrable: false,
            evidence,
            proof,
            on_retry: None,
            on_resolved: None,
        }
    }

    /// The pauses between attempts: each twice the one before, with jitter.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + 'static {
        let longest = self.backoff_max;
        ExponentialBuilder::default()
            .with_min_delay(self.backoff_min)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times()
            .build()
            .map(move |pause| pause.min(longest))
    }

    /// The statements that begin it, with a sign by which COMMIT knows it again.
    ///
    /// Characteristics are a statement of their own, because what is sent behind a `BEGIN` that
    /// failed would run by itself, while what is sent behind a failed `SET TRANSACTION` fails too.
    pub(crate) fn begin_sql(&self) -> std::borrow::Cow<'static, str> {
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
        if modes.is_empty() {
            BEGIN.into()
        } else {
            format!("{BEGIN};SET TRANSACTION {}", modes.join(",")).into()
        }
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
