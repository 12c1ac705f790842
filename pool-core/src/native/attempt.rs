//! One attempt of a transaction over tokio-postgres.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::Client;
use futures_util::{FutureExt as _, StreamExt as _, future::join};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream, Statement, error::SqlState};
use uuid::Uuid;

use super::{
    Native,
    capture::{Capture, Captured, run_behind},
    lease::{Lease, Tx},
    resolve::{Unresolved, resolve},
    session::Sessions,
};
use crate::{
    error::{BoxError, Disposition, Error, InDoubt, TxPhase, driver_error, is_connection_loss},
    failover::Report,
    outcome::{Doubt, Evidence, Outcome},
    pool::{Generation, SubPools},
    tx::{self, Failure, Options, Resolved, SIGN},
};

/// What stands before COMMIT, in the same message, so that it costs no round trip.
///
/// COMMIT itself would answer ROLLBACK in a transaction that has failed, and outside of one nothing
/// but a warning, which the driver does not pass on. SHOW fails with 25P02 in the first case. In
/// the second it gives another value than [`SIGN`], and also if the closure has committed and begun
/// anew, since SET LOCAL ends with its transaction.
const COMMIT: &str = "SHOW leadpool.transaction;COMMIT";

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
    number: u32,
    deadline: Instant,
) -> Result<T, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let asked_at = Instant::now();
    let left = deadline.saturating_duration_since(asked_at);
    let (client, generation) = pools
        .checkout(options.target, left, |client, generation| {
            (client, generation.clone())
        })
        .await
        .map_err(|error| Failure {
            error,
            disposition: Disposition::Fail,
            generation: None,
            ran: Duration::ZERO,
        })?;
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
fn roll_back(lease: Arc<Lease>) {
    if !lease.client().is_closed() {
        drop(send(lease.client(), "ROLLBACK"));
        lease.release();
    }
}

/// Sends a simple query at once and gives back the stream of its answers.
fn send(client: &Client, sql: &str) -> Result<SimpleQueryStream, tokio_postgres::Error> {
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

/// How COMMIT was answered.
enum Answer {
    /// With its tag.
    Committed,
    /// With its tag, for another transaction than ours, or none.
    NotOurs,
    /// With an error, or by one to what was sent before it.
    Refused(tokio_postgres::Error),
    /// Not at all.
    None(Option<BoxError>),
}

struct Attempt<'a> {
    number: u32,
    begun_at: Instant,
    deadline: Instant,
    options: &'a Options,
    pools: &'a SubPools<Native>,
    sessions: &'a Sessions,
    generation: Arc<Generation>,
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
    async fn watch<T>(&self, closure: impl Future<Output = T>) -> Result<T, Failure> {
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

    /// Sends COMMIT and finds out what became of it.
    async fn commit(
        &self,
        lease: Arc<Lease>,
        captured: Captured,
        is_captured: bool,
    ) -> Result<(), Failure> {
        let Captured {
            mut evidence,
            insert,
        } = captured;
        if let Some(evidence) = &mut evidence {
            let mut history = self.pools.cluster().history();
            evidence.system_identifier = history.system_identifier(&evidence.host);
            history.saw_flush(
                evidence.system_identifier,
                &evidence.incarnation,
                evidence.flushed,
            );
            evidence.token = insert.is_some().then(Uuid::new_v4);
        }
        if lease.client().is_closed() {
            return Err(self.lost(None));
        }
        let before = self.generation.unreplicated();
        let answer = match self.watch(send_commit(&lease, &evidence, insert)).await {
            Ok(answer) => answer,
            // Invalidated or out of time.
            Err(failure) => Answer::None(Some(failure.error.into())),
        };
        let error = match answer {
            Answer::Committed if self.generation.unreplicated() != before => {
                lease.release();
                return Err(self.failure(Error::NotReplicated {
                    host: self.generation.host().clone(),
                }));
            }
            Answer::Committed => {
                lease.release();
                return Ok(());
            }
            Answer::NotOurs => {
                lease.release();
                return Err(self.failure(Error::EndedByClosure));
            }
            Answer::None(source) => {
                // Closed before anything is asked, so that the server sees it soon.
                drop(lease);
                self.generation.report(Report::ConnectionLost);
                return match (evidence, is_captured) {
                    (Some(evidence), _) => self.resolve(evidence, source).await,
                    // It wrote nothing, so there was nothing to lose.
                    (None, true) => Err(self.lost(source)),
                    (None, false) if self.is_read_only() => Err(self.lost(source)),
                    (None, false) => Err(self.in_doubt(None, Doubt::NoEvidence, source)),
                };
            }
            Answer::Refused(error) => error,
        };
        match error.code() {
            Some(code) if *code == SqlState::IN_FAILED_SQL_TRANSACTION => {
                roll_back(lease);
                Err(self.failure(Error::RolledBack))
            }
            code => {
                let code = code.map_or("", SqlState::code);
                let disposition = Disposition::of_sqlstate(code, TxPhase::CommitInFlight);
                // The server has ended the transaction; a connection it is closing is not kept.
                if disposition != Disposition::WaitTopology {
                    roll_back(lease);
                }
                Err(self.with_disposition(error.into(), disposition))
            }
        }
    }

    /// COMMIT was sent and not answered: finds out what became of the transaction.
    async fn resolve(&self, evidence: Evidence, source: Option<BoxError>) -> Result<(), Failure> {
        let begun = Instant::now();
        let resolved = resolve(self.pools, &evidence, self.options.proof, self.deadline).await;
        let outcome = match &resolved {
            Ok(outcome) => Ok(*outcome),
            Err(unresolved) => Err(unresolved.doubt),
        };
        tracing::info!(
            target: "leadpool::tx",
            name = self.options.name.as_deref(),
            host = %evidence.host,
            transaction = evidence.transaction,
            ?outcome,
            "commit in flight"
        );
        if let Some(observe) = &self.options.on_resolved {
            observe(&Resolved {
                name: self.options.name.as_deref(),
                attempt: self.number,
                evidence: &evidence,
                outcome,
                elapsed: begun.elapsed(),
            });
        }
        match resolved {
            Ok(Outcome::Committed) => Ok(()),
            Ok(Outcome::NotCommitted) => Err(self.lost(source)),
            Err(Unresolved { doubt, source: why }) => {
                let source = why.map(Into::into).or(source);
                Err(self.in_doubt(Some(evidence), doubt, source))
            }
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

    fn is_read_only(&self) -> bool {
        self.options.read_only == Some(true)
    }

    fn failure(&self, error: Error) -> Failure {
        let phase = if self.is_read_only() {
            TxPhase::ReadOnly
        } else {
            TxPhase::Open
        };
        let disposition = error.disposition(phase);
        self.with_disposition(error, disposition)
    }

    fn with_disposition(&self, error: Error, disposition: Disposition) -> Failure {
        Failure {
            error,
            disposition,
            generation: Some(self.generation.clone()),
            ran: self.begun_at.elapsed(),
        }
    }

    /// It is known that nothing was committed.
    fn lost(&self, source: Option<BoxError>) -> Failure {
        self.failure(Error::CommitLost {
            host: self.generation.host().clone(),
            source,
        })
    }

    fn in_doubt(
        &self,
        evidence: Option<Evidence>,
        doubt: Doubt,
        source: Option<BoxError>,
    ) -> Failure {
        let unknown = Error::Unknown(Box::new(InDoubt {
            host: self.generation.host().clone(),
            attempt: self.number,
            evidence,
            doubt,
            source,
        }));
        self.with_disposition(unknown, Disposition::Resolve)
    }

    fn invalidated(&self) -> Error {
        Error::Invalidated {
            host: self.generation.host().clone(),
        }
    }

    /// The runner fills in what only it knows.
    fn out_of_time(&self) -> Error {
        Error::TxDeadline {
            elapsed: Duration::ZERO,
            attempts: self.number,
            source: None,
        }
    }
}

/// Sends the token and COMMIT in one go, and reads their answers.
async fn send_commit(
    lease: &Lease,
    evidence: &Option<Evidence>,
    insert: Option<Statement>,
) -> Answer {
    let client = lease.client();
    let token = evidence.as_ref().and_then(|e| Some(e.token?.to_string()));
    let leaving = async {
        match (insert, token) {
            (Some(insert), Some(token)) => client.execute(&insert, &[&token]).await.map(drop),
            _ => Ok(()),
        }
    };
    let committing = async {
        let mut answers = pin!(send(client, COMMIT)?);
        let mut completed = 0;
        let mut is_ours = false;
        // The COMMIT tag counts, whatever comes behind it.
        while completed < 2 {
            match answers.next().await {
                Some(Ok(SimpleQueryMessage::CommandComplete(_))) => completed += 1,
                Some(Ok(SimpleQueryMessage::Row(row))) => is_ours = row.get(0) == Some(SIGN),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Some(error)),
                None => return Err(None),
            }
        }
        Ok(is_ours)
    };
    // Polled in this order, so sent in this order.
    let (left, committed) = join(leaving, committing).await;
    // What was refused first is the reason for the rest.
    match left.map_err(Some).and(committed) {
        Ok(true) => Answer::Committed,
        Ok(false) => Answer::NotOurs,
        Err(Some(error)) if is_answer(&error) => Answer::Refused(error),
        Err(error) => Answer::None(error.map(Into::into)),
    }
}

/// Whether the server said that it did not commit.
fn is_answer(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        let disposition = Disposition::of_sqlstate(code.code(), TxPhase::CommitInFlight);
        disposition != Disposition::Resolve
    })
}
