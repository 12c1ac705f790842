//! What an observer of a transaction is told.

use std::{sync::Arc, time::Duration};

use crate::{
    error::Error,
    outcome::{Doubt, Evidence, Outcome},
    topology::HostAddr,
};

/// Tells an observer that an attempt of a transaction begins: it has got its connection.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// pool.tx()
///     .name("close jobs")
///     .on_attempt(|begun| eprintln!("{:?}: attempt {} on {}", begun.name, begun.attempt, begun.host))
///     .run(|tx| async move { tx.execute("UPDATE jobs SET done = true", &[]).await?; Ok(()) })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The transaction's name, if it has one.
    pub name: Option<&'a str>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where it runs.
    pub host: &'a HostAddr,
    /// How long it has waited for its connection.
    pub waited: Duration,
}

pub(crate) type OnAttempt = Arc<dyn Fn(&Attempt<'_>) + Send + Sync>;

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
    /// The transaction's name, if it has one.
    pub name: Option<&'a str>,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// Where it ran, if it had got a connection.
    pub host: Option<&'a HostAddr>,
    /// How it failed.
    pub error: &'a Error,
    /// How long the next one will wait, unless it waits for a writer.
    pub pause: Duration,
}

pub(crate) type OnRetry = Arc<dyn Fn(&Retry<'_>) + Send + Sync>;

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
    /// The transaction's name, if it has one.
    pub name: Option<&'a str>,
    /// The attempt whose COMMIT was in flight, from 1.
    pub attempt: u32,
    /// What was known of the transaction.
    pub evidence: &'a Evidence,
    /// What became of it, or why that can't be proved.
    pub outcome: Result<Outcome, Doubt>,
    /// How long it took to find out.
    pub elapsed: Duration,
}

pub(crate) type OnResolved = Arc<dyn Fn(&Resolved<'_>) + Send + Sync>;
