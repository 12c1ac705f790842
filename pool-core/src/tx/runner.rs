//! The loop around the attempts of a transaction.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Options, Retry, budget::Budget};
use crate::{
    error::{Disposition, Error},
    failover::Report,
    pool::Generation,
};

/// How long to wait for a look at the host before the next attempt.
const LOOK: Duration = Duration::from_millis(250);

/// An attempt that did not commit.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) disposition: Disposition,
    /// Where it ran, if it had got a connection.
    pub(crate) generation: Option<Arc<Generation>>,
}

/// Runs attempts until one commits, or must not be repeated, or a limit is reached: the number of
/// retries, the deadline, or the budget that all transactions of the pool share.
///
/// - An attempt that lost against another transaction is repeated after a pause.
/// - One that lost its host waits until that host has been looked at; its checkout then waits for
///   a writer. So an outage costs one attempt, however long it is.
/// - One whose COMMIT is in doubt is never repeated.
///
/// # Cancel safety
///
/// As that of the attempt.
pub(crate) async fn run<T, F, Fut>(
    options: &Options,
    budget: &Budget,
    mut attempt: F,
) -> Result<T, Error>
where
    F: FnMut(u32, Instant) -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    let begun = Instant::now();
    let deadline = begun
        .checked_add(options.deadline)
        .unwrap_or_else(|| begun + Duration::from_secs(86_400 * 365));
    let mut pauses = None;
    let mut last = None;
    let mut number = 0;
    loop {
        number += 1;
        let failure = match attempt(number, deadline).await {
            Ok(value) => {
                budget.deposit();
                return Ok(value);
            }
            Err(failure) => failure,
        };
        let waits_for_topology = match failure.disposition {
            Disposition::WaitTopology => true,
            Disposition::RetryHere => false,
            Disposition::Fail | Disposition::Resolve => {
                return Err(match failure.error {
                    Error::TxDeadline { .. } => Error::TxDeadline {
                        elapsed: begun.elapsed(),
                        attempts: number,
                        source: last,
                    },
                    error => error,
                });
            }
        };
        let spent = number > options.retries;
        if spent || !budget.withdraw() {
            return Err(Error::RetriesExhausted {
                attempts: number,
                budget: !spent,
                source: Box::new(failure.error),
            });
        }
        let pause = pauses
            .get_or_insert_with(|| options.pauses())
            .next()
            .unwrap_or(options.deadline);
        if Instant::now() + pause >= deadline {
            return Err(Error::TxDeadline {
                elapsed: begun.elapsed(),
                attempts: number,
                source: Some(Box::new(failure.error)),
            });
        }
        let host = failure.generation.as_deref().map(Generation::host);
        if let Some(observe) = &options.on_retry {
            observe(&Retry {
                attempt: number,
                host,
                error: &failure.error,
                pause,
            });
        }
        tracing::debug!(
            target: "leadpool::tx",
            attempt = number,
            host = host.map(tracing::field::display),
            error = %failure.error,
            "retry"
        );
        match (&failure.generation, waits_for_topology) {
            (Some(generation), true) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // What has been judged already needs no look, and a frozen host gives none.
                tokio::select! {
                    biased;
                    () = generation.retired() => {}
                    () = generation.verify(Report::ConnectionLost, LOOK.min(left)) => {}
                }
                // It is a writer still, so the transaction made itself read-only: no failover.
                if !generation.is_retired() && failure.error.sqlstate() == Some("25006") {
                    return Err(failure.error);
                }
                // It lives, and is what it was: the fault was the connection's alone. But what
                // keeps failing on a healthy host must not spin.
                if number > 1 && !generation.is_retired() {
                    sleep(pause).await;
                }
            }
            _ => sleep(pause).await,
        }
        last = Some(Box::new(failure.error));
    }
}
