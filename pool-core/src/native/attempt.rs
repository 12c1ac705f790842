//! One attempt of a transaction over tokio-postgres.

use std::{pin::Pin, sync::Arc};

use deadpool_postgres::ClientWrapper;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_postgres::{
    SimpleQueryMessage, SimpleQueryStream, Statement,
    error::{Severity, SqlState},
};
use uuid::Uuid;

use super::{
    Native,
    capture::{Capture, Captured, run_behind},
    commit::{commit, commit_with_token},
    lease::{Lease, Tx},
    session::Sessions,
};
use crate::{
    consistency::ConsistencyToken,
    error::{Error, driver_error, is_connection_loss},
    pool::{Generation, SubPools},
    tx::{Failure, Options, Try, TxAttempt},
};

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
    let (value, ready) = until_commit(pools, sessions, options, closure, this).await?;
    commit(ready).await?;
    Ok(value)
}

/// The same, and what a read must have seen in order to see it.
///
/// # Cancel safety
///
/// As [`attempt`].
pub(super) async fn attempt_with_token<T, F, Fut>(
    pools: &SubPools<Native>,
    sessions: &Sessions,
    options: &Options,
    closure: F,
    this: Try,
) -> Result<(T, ConsistencyToken), Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let (value, ready) = until_commit(pools, sessions, options, closure, this).await?;
    let token = commit_with_token(ready).await?;
    Ok((value, token))
}

/// What has come as far as COMMIT.
pub(super) struct Ready<'a> {
    pub(super) attempt: TxAttempt<'a, SubPools<Native>>,
    pub(super) lease: Arc<Lease>,
    /// Leaves a token before COMMIT.
    pub(super) insert: Option<Statement>,
}

async fn until_commit<'a, T, F, Fut>(
    pools: &'a SubPools<Native>,
    sessions: &Sessions,
    options: &'a Options,
    closure: F,
    this: Try,
) -> Result<(T, Ready<'a>), Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let (client, mut attempt) = TxAttempt::begin(pools, pools, options, this).await?;
    let lease = Lease::new(client);
    let mut begun = match Begun::send(lease.client(), options) {
        Ok(begun) => begun,
        Err(error) => return Err(attempt.failure(error.into())),
    };
    let mut capture = capture(&attempt, &lease, sessions);
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
            match attempt.watch(begun.answered()).await? {
                Ok(()) => {
                    let Captured { evidence, insert } = captured;
                    if is_captured {
                        let token = insert.as_ref().map(|_| Uuid::new_v4());
                        attempt.set_evidence(evidence, token);
                    }
                    let ready = Ready {
                        attempt,
                        lease,
                        insert,
                    };
                    return Ok((value, ready));
                }
                Err(begin) => begun.refused(begin, attempt.generation()),
            }
        }
        // Or it may be BEGIN.
        (_, Err(error)) | (Err(error), Ok(_)) => match begun.answered().now_or_never() {
            Some(Err(begin)) => begun.refused(begin, attempt.generation()),
            _ => error,
        },
    };
    if driver_error(&failed).is_some_and(is_connection_loss) {
        drop(lease);
    } else {
        roll_back(lease);
    }
    Err(attempt.failure(failed))
}

/// Evidence is gathered where something can be written.
fn capture<'a>(
    attempt: &'a TxAttempt<'_, SubPools<Native>>,
    lease: &'a Lease,
    sessions: &'a Sessions,
) -> Option<Capture<'a>> {
    attempt.needs_evidence().then(|| {
        let tokens = attempt.cluster().config().tx().token_table.as_ref();
        let (host, isolation) = (attempt.generation().host(), attempt.options().isolation);
        Capture::new(lease, host, sessions, isolation, tokens)
    })
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

/// BEGIN, with what goes with it in the same message.
pub(super) struct Begun {
    answers: Pin<Box<SimpleQueryStream>>,
    /// BEGIN itself has been done.
    is_open: bool,
}

impl Begun {
    /// Sends it at once.
    pub(super) fn send(
        client: &ClientWrapper,
        options: &Options,
    ) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            answers: Box::pin(send(client, &options.begin_sql())?),
            is_open: false,
        })
    }

    /// Waits for the last answer to it.
    pub(super) async fn answered(&mut self) -> Result<(), tokio_postgres::Error> {
        while let Some(answer) = self.answers.next().await {
            self.is_open |= matches!(answer?, SimpleQueryMessage::CommandComplete(_));
        }
        Ok(())
    }

    /// What it means that it was answered with this. If a server that goes on has refused BEGIN
    /// itself, what was sent behind it ran all the same.
    pub(super) fn refused(&self, error: tokio_postgres::Error, host: &Generation) -> Error {
        let goes_on = error
            .as_db_error()
            .is_some_and(|error| matches!(error.parsed_severity(), Some(Severity::Error)));
        if goes_on && !self.is_open {
            let host = host.host().clone();
            return Error::BeginRefused {
                host,
                source: error,
            };
        }
        error.into()
    }
}
