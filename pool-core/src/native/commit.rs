//! COMMIT, and what became of it.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{SimpleQueryMessage, Statement, error::SqlState};
use uuid::Uuid;

use super::{
    attempt::{Attempt, roll_back, send},
    capture::Captured,
    lease::Lease,
    resolve::{Unresolved, is_settled, resolve},
};
use crate::{
    error::{BoxError, Disposition, Error, InDoubt, TxPhase},
    failover::Report,
    observe::rows,
    outcome::{Doubt, Evidence, Outcome},
    tx::{Failure, Resolved, SIGN},
};

/// What stands before COMMIT, in the same message, so that it costs no round trip.
///
/// COMMIT itself would answer ROLLBACK in a transaction that has failed, and outside of one nothing
/// but a warning, which the driver does not pass on. SHOW fails with 25P02 in the first case. In
/// the second it gives another value than [`SIGN`], and also if the closure has committed and begun
/// anew, since SET LOCAL ends with its transaction.
const COMMIT: &str = "SHOW leadpool.transaction;COMMIT";
/// The same where statements have a limit. COMMIT must have none: ended in its wait for a standby
/// it has happened all the same, and may be lost.
const COMMIT_AT_LEISURE: &str = "SHOW leadpool.transaction;SET LOCAL statement_timeout=0;COMMIT";

/// When an unanswered COMMIT is first looked for on another connection; then after twice as long.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long to look for a standby that has a commit whose wait was perhaps broken off. A switchover
/// by a failover manager breaks off waits, and takes some seconds to promote who has the commit.
const REPLICATION: Duration = Duration::from_secs(5);
/// What is kept of the deadline for finding out, a quarter of it at most.
const RESERVE: Duration = Duration::from_secs(5);

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

impl Attempt<'_> {
    /// Sends COMMIT and finds out what became of it.
    pub(super) async fn commit(
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
        let answer = self.answer(&lease, &evidence, insert).await;
        let error = match answer {
            Answer::Committed if self.generation.unreplicated() != before => {
                lease.release();
                return self.replicated(evidence).await;
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
                    (None, false) => {
                        let meters = self.pools.cluster().meters();
                        meters.commit_in_doubt(&Err(Doubt::NoEvidence), Duration::ZERO);
                        Err(self.in_doubt(None, Doubt::NoEvidence, source))
                    }
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

    /// COMMIT was answered, while one on this host, perhaps this one, was kept from waiting for a
    /// standby: finds out whether a standby has it all the same.
    async fn replicated(&self, evidence: Option<Evidence>) -> Result<(), Failure> {
        let deadline = self.deadline.min(Instant::now() + REPLICATION);
        if let Some(evidence) = &evidence {
            let proof = self.options.proof;
            match resolve(self.pools, evidence, proof, deadline).await {
                Ok(Outcome::Committed) => return Ok(()),
                // It was, on a primary that has been replaced without it.
                Ok(Outcome::NotCommitted) => return Err(self.lost(None)),
                Err(_) => {}
            }
        }
        let host = self.generation.host().clone();
        Err(self.failure(Error::NotReplicated { host }))
    }

    /// Sends COMMIT, and waits for its answer; not for ever, if the silence is the connection's.
    async fn answer(
        &self,
        lease: &Lease,
        evidence: &Option<Evidence>,
        insert: Option<Statement>,
    ) -> Answer {
        let pool = self.pools.cluster().config().pool();
        let is_limited =
            self.options.statement_timeout.is_some() || pool.statement_timeout.is_some();
        let commit = if is_limited {
            COMMIT_AT_LEISURE
        } else {
            COMMIT
        };
        let mut sent = pin!(self.watch(send_commit(lease, evidence, insert, commit)));
        let answer = match evidence {
            None => sent.await,
            Some(evidence) => tokio::select! {
                biased;
                answer = &mut sent => answer,
                () = self.silence(evidence) => {
                    let host = self.generation.host();
                    return Answer::None(Some(format!("{host} did not answer COMMIT").into()));
                }
            },
        };
        // Invalidated or out of time.
        answer.unwrap_or_else(|failure| Answer::None(Some(failure.error.into())))
    }

    /// Ends when there is no more sense in waiting for the answer to COMMIT: another connection
    /// shows that the transaction has ended, or that COMMIT has not arrived for long; or just
    /// enough time is left to find out what became of it.
    async fn silence(&self, evidence: &Evidence) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let enough = sleep_until(self.deadline - RESERVE.min(left / 4));
        let looking = async {
            let mut pause = FIRST_LOOK;
            loop {
                sleep(pause).await;
                pause *= 2;
                if is_settled(self.pools, &self.generation, evidence).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = enough => {}
            () = looking => {}
        }
    }

    /// COMMIT was sent and not answered: finds out what became of the transaction.
    async fn resolve(&self, evidence: Evidence, source: Option<BoxError>) -> Result<(), Failure> {
        let begun = Instant::now();
        let deadline = match self.options.resolve_within {
            Some(limit) => self.deadline.min(begun + limit),
            None => self.deadline,
        };
        let resolved = resolve(self.pools, &evidence, self.options.proof, deadline).await;
        let outcome = match &resolved {
            Ok(outcome) => Ok(*outcome),
            Err(unresolved) => Err(unresolved.doubt),
        };
        let meters = self.pools.cluster().meters();
        meters.commit_in_doubt(&outcome, begun.elapsed());
        tracing::event!(
            name: rows::COMMIT_RESOLVED.name,
            target: rows::COMMIT_RESOLVED.target,
            rows::COMMIT_RESOLVED.level,
            {
                db.client.connection.pool.name = meters.pool(),
                leadpool.transaction.name = self.options.name.as_deref(),
                server.address = evidence.host.name(),
                server.port = evidence.host.port(),
                leadpool.transaction.id = evidence.transaction,
                leadpool.verdict = ?outcome,
            },
            "a COMMIT in doubt"
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
}

/// Sends the token and COMMIT in one go, and reads their answers.
async fn send_commit(
    lease: &Lease,
    evidence: &Option<Evidence>,
    insert: Option<Statement>,
    commit: &str,
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
        let mut answers = pin!(send(client, commit)?);
        let mut completed = 0;
        let mut is_ours = false;
        // The COMMIT tag counts, whatever comes behind it.
        while completed < commit.split(';').count() {
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
