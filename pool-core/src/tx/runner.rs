//! The loop around the attempts of a transaction.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Options, Retry, budget::Budget};
use crate::{
    error::{Disposition, Error},
    failover::Report,
    observe::{RetryReason, TransactionMeters, error_type, rows},
    pool::Generation,
    topology::HostAddr,
};

/// How long to wait for a look at the host before the next attempt.
const LOOK: Duration = Duration::from_millis(250);

/// An attempt that did not commit.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// How it failed.
    pub error: Error,
    /// What to do now.
    pub disposition: Disposition,
    /// Where it ran, if it had got a connection.
    pub generation: Option<Arc<Generation>>,
    /// How long it ran, once it had its connection.
    pub ran: Duration,
}

/// Runs attempts until one commits, or must not be repeated, or a limit is reached: the number of
/// retries, the deadline, or the budget that all transactions of the pool share.
///
/// - An attempt that lost against another transaction is repeated after a pause, if the time that
///   is left is as long as it ran.
/// - One that lost its host waits until that host has been looked at; its checkout then waits for
///   a writer. So an outage costs one attempt, however long it is.
/// - One that was refused as a standby would refuse it is repeated if its host is one now.
/// - One whose COMMIT is in doubt is never repeated.
///
/// # Cancel safety
///
/// As that of the attempt.
pub(super) async fn run<T, F, Fut>(
    options: &Options,
    budget: &Budget,
    meters: &TransactionMeters,
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
        let out_of_time = |seen, source| Error::TxDeadline {
            elapsed: begun.elapsed(),
            attempts: number,
            seen,
            source,
        };
        let reason = match failure.disposition {
            Disposition::WaitTopology => RetryReason::Lost,
            Disposition::RetryHere => RetryReason::Conflict,
            Disposition::CheckRole if was_demoted(&failure, deadline).await => RetryReason::Refused,
            Disposition::Fail | Disposition::Resolve | Disposition::CheckRole => {
                return Err(match failure.error {
                    Error::TxDeadline { seen, .. } => out_of_time(seen, last),
                    error => error,
                });
            }
        };
        let lost_host = !matches!(reason, RetryReason::Conflict);
        let pause = pauses.get_or_insert_with(|| options.pauses()).next();
        let is_spent = number > options.retries || pause.is_none();
        let pause = pause.unwrap_or_default();
        // What lost its host says nothing of how long the next one will run.
        let needed = if lost_host {
            Duration::ZERO
        } else {
            failure.ran
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if !is_spent && left <= pause.saturating_add(needed) {
            return Err(out_of_time(None, Some(Box::new(failure.error))));
        }
        if is_spent || !budget.withdraw() {
            return Err(Error::RetriesExhausted {
                attempts: number,
                budget: !is_spent,
                source: Box::new(failure.error),
            });
        }
        meters.retried(reason);
        announce(options, meters, &failure, number, pause);
        match &failure.generation {
            Some(generation) if lost_host => {
                // What has been judged already needs no look, and a frozen host gives none.
                tokio::select! {
                    biased;
                    () = generation.retired() => {}
                    () = generation.verify(Report::ConnectionLost, LOOK.min(left)) => {}
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

/// Whether the host that refused is no writer any more; if it still is, the fault was the
/// transaction's own.
async fn was_demoted(failure: &Failure, deadline: Instant) -> bool {
    let Some(generation) = &failure.generation else {
        return false;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::select! {
        biased;
        () = generation.retired() => {}
        () = generation.verify(Report::WriteRefused, LOOK.min(left)) => {}
    }
    generation.is_retired() || !generation.is_writer()
}

/// Tells the observers that another attempt follows.
fn announce(
    options: &Options,
    meters: &TransactionMeters,
    failure: &Failure,
    number: u32,
    pause: Duration,
) {
    let host = failure.generation.as_deref().map(Generation::host);
    let name = options.name.as_deref();
    if let Some(observe) = &options.on_retry {
        observe(&Retry {
            name,
            attempt: number,
            host,
            error: &failure.error,
            pause,
        });
    }
    // Not its text: what a server says may quote what the application sent.
    tracing::event!(
        name: rows::RETRY.name,
        target: rows::RETRY.target,
        rows::RETRY.level,
        {
            db.client.connection.pool.name = meters.meters().pool(),
            leadpool.transaction.name = name,
            leadpool.attempt = number,
            server.address = host.map(HostAddr::name),
            server.port = host.map(HostAddr::port),
            error.type = error_type(&failure.error),
            db.response.status_code = failure.error.sqlstate(),
        },
        "retry"
    );
}
