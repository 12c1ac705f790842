//! One attempt of a transaction over tokio-postgres.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{SimpleQueryStream, error::SqlState};

use super::{
    Native,
    capture::{Capture, Captured, run_behind},
    lease::{Lease, Tx},
    session::Sessions,
};
use crate::{
    error::{Disposition, Error, TxPhase, driver_error, is_connection_loss},
    failover::Report,
    pool::{Generation, Purpose, SubPools},
    topology::HostView,
    tx::{self, Failure, Options, Try},
};

/// After this long without an end the monitor looks whether the host lives, and again each time
/// as long passes.
const SLOW: Duration = Duration::from_millis(250);

/// One attempt: checkout, BEGIN, the closure, COMMIT.
///
/// # Cancel safety
///
/// Dropping the future closes the connection: the server rolls back, unless COMMIT has been sent,
/// when it does the one or the other.
pub(super) async fn attempt<T, F, Fut>(
    pools: &SubPools<Native>,
    sessions: &Sessions,
    options: &Options,
    closure: F,
    this: Try,
) -> Result<T, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let Try {
        number, deadline, ..
    } = this;
    let asked_at = Instant::now();
    let left = deadline.saturating_duration_since(asked_at);
    let purpose = match number {
        1 => Purpose::New,
        _ => Purpose::Retry,
    };
    let (client, generation) = pools
        .checkout(purpose, options.target, left, |client, generation| {
            (client, generation.clone())
        })
        .await
        .map_err(|error| Failure {
            error,
            disposition: Disposition::Fail,
            generation: None,
            ran: Duration::ZERO,
        })?;
    this.runs_on(&generation);
    let begun_at = Instant::now();
    if let Some(observe) = &options.on_attempt {
        observe(&tx::Attempt {
            name: options.name.as_deref(),
            attempt: number,
            host: generation.host(),
            waited: begun_at.duration_since(asked_at),
        });
    }
    let attempt = Attempt {
        number,
        begun_at,
        on_writer: generation.is_writer(),
        deadline,
        options,
        pools,
        sessions,
        generation,
    };
    let lease = Lease::new(client);
    let mut begun = match send(lease.client(), &options.begin_sql()) {
        Ok(begun) => Box::pin(begun),
        Err(error) => return Err(attempt.open_failure(error.into())),
    };
    let mut capture = attempt.capture(&lease);
    let closure = run_behind(closure(lease.lend()), capture.as_mut());
    let outcome = attempt.watch(closure).await?;
    let is_captured = capture.is_some();
    let captured = match (capture, &outcome) {
        (Some(capture), Ok(_)) => attempt.watch(capture.finish()).await?,
        // What failed first may be the capture: the closure saw only what followed from it.
        (Some(capture), Err(error)) if is_aborted(error) => attempt.watch(capture.finish()).await?,
        _ => Ok(Captured::default()),
    };
    if lease.is_lent() {
        return Err(attempt.failure(outcome.err().unwrap_or(Error::Escaped)));
    }
    let failed = match (outcome, captured) {
        (Ok(value), Ok(captured)) => {
            // Its answer came before those of the closure's statements.
            match attempt.watch(answered(&mut begun)).await? {
                Ok(()) => {
                    let sent = attempt.commit(lease, captured, is_captured).await;
                    return sent.map(|()| value);
                }
                Err(begin) => begin.into(),
            }
        }
        // Or it may be BEGIN.
        (_, Err(error)) | (Err(error), Ok(_)) => match answered(&mut begun).now_or_never() {
            Some(Err(begin)) => begin.into(),
            _ => error,
        },
    };
    let is_lost = driver_error(&failed).is_some_and(is_connection_loss);
    if is_lost {
        drop(lease);
    } else {
        roll_back(lease);
    }
    Err(attempt.open_failure(failed))
}

/// Whether it says no more than that a statement before it has failed.
fn is_aborted(error: &Error) -> bool {
    error.sqlstate() == Some(SqlState::IN_FAILED_SQL_TRANSACTION.code())
}

/// Ends the transaction; nobody waits for the answer, the next one's statements queue up behind
/// it.
pub(super) fn roll_back(lease: Arc<Lease>) {
    if !lease.client().is_closed() {
        drop(send(lease.client(), "ROLLBACK"));
        lease.release();
    }
}

/// Sends a simple query at once and gives back the stream of its answers.
pub(super) fn send(
    client: &ClientWrapper,
    sql: &str,
) -> Result<SimpleQueryStream, tokio_postgres::Error> {
    // The driver sends in the first poll and never waits; a future that is not ready after it
    // would be a change of its design, taken for a lost connection.
    client
        .simple_query_raw(sql)
        .now_or_never()
        .unwrap_or_else(|| Err(tokio_postgres::Error::__private_api_timeout()))
}

/// Waits for the last answer to a simple query.
async fn answered(answers: &mut Pin<Box<SimpleQueryStream>>) -> Result<(), tokio_postgres::Error> {
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

pub(super) struct Attempt<'a> {
    pub(super) number: u32,
    begun_at: Instant,
    /// Whether its host was the writer when it began.
    on_writer: bool,
    pub(super) deadline: Instant,
    pub(super) options: &'a Options,
    pub(super) pools: &'a SubPools<Native>,
    sessions: &'a Sessions,
    pub(super) generation: Arc<Generation>,
}

impl Attempt<'_> {
    /// Evidence is gathered where something can be written.
    fn capture<'a>(&'a self, lease: &'a Lease) -> Option<Capture<'a>> {
        let options = self.options;
        let may_write = !self.is_read_only() && self.generation.is_writer();
        let tokens = self.pools.cluster().config().tx().token_table.as_ref();
        (options.evidence && may_write).then(|| {
            let host = self.generation.host();
            Capture::new(lease, host, self.sessions, options.isolation, tokens)
        })
    }

    /// Runs the closure's future until it ends, the host is invalidated, or the deadline passes.
    pub(super) async fn watch<T>(&self, closure: impl Future<Output = T>) -> Result<T, Failure> {
        let mut closure = pin!(closure);
        let generation = self.generation.clone();
        let mut aborted = pin!(generation.aborted());
        let mut look = Instant::now() + SLOW;
        loop {
            tokio::select! {
                biased;
                ended = &mut closure => return Ok(ended),
                () = &mut aborted => return Err(self.failure(self.invalidated())),
                () = sleep_until(look.min(self.deadline)) => {}
            }
            if Instant::now() >= self.deadline {
                return Err(self.failure(self.out_of_time()));
            }
            self.generation.report(Report::Slow);
            look += SLOW;
        }
    }

    /// An error before COMMIT was sent.
    fn open_failure(&self, error: Error) -> Failure {
        let lost = matches!(&error, Error::Postgres(error) if is_connection_loss(error));
        let error = if lost && self.generation.is_aborted() {
            self.invalidated()
        } else {
            error
        };
        self.failure(error)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.options.read_only == Some(true)
    }

    pub(super) fn failure(&self, error: Error) -> Failure {
        let phase = if self.is_read_only() {
            TxPhase::ReadOnly
        } else {
            TxPhase::Open
        };
        let disposition = match error.disposition(phase) {
            // A standby has no role to lose.
            Disposition::CheckRole if !self.on_writer => Disposition::Fail,
            disposition => disposition,
        };
        self.with_disposition(error, disposition)
    }

    pub(super) fn with_disposition(&self, error: Error, disposition: Disposition) -> Failure {
        Failure {
            error,
            disposition,
            generation: Some(self.generation.clone()),
            ran: self.begun_at.elapsed(),
        }
    }

    fn invalidated(&self) -> Error {
        Error::Invalidated {
            host: self.generation.host().clone(),
        }
    }

    /// The runner fills in what only it knows.
    fn out_of_time(&self) -> Error {
        let host = self.generation.host();
        let topology = self.pools.cluster().topology();
        Error::TxDeadline {
            elapsed: Duration::ZERO,
            attempts: self.number,
            seen: topology.host(host).map(HostView::describe),
            source: None,
        }
    }
}
