//! COMMIT, and what became of it.

use std::{pin::pin, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Failure, Resolve, Resolved, TxAttempt, Unresolved,
    resolve::{silence, while_there_is_time},
    token::Whereabouts,
};
use crate::{
    error::{BoxError, Disposition, Error, InDoubt, TxPhase},
    failover::Report,
    observe::rows,
    outcome::{Doubt, Evidence, Outcome},
};

/// What stands before COMMIT, in the same message, so that it costs no round trip.
///
/// COMMIT itself would answer ROLLBACK in a transaction that has failed, and outside of one nothing
/// but a warning, which drivers do not pass on. SHOW fails with 25P02 in the first case. In the
/// second it gives another value than [`SIGN`](super::SIGN), and also if the closure has committed
/// and begun anew, since SET LOCAL ends with its transaction.
const COMMIT: &str = "SHOW leadpool.transaction;COMMIT";
/// The same where statements have a limit. COMMIT must have none: ended in its wait for a standby
/// it has happened all the same, and may be lost.
const COMMIT_AT_LEISURE: &str = "SHOW leadpool.transaction;SET LOCAL statement_timeout=0;COMMIT";

/// How long to look for a standby that has a commit whose wait was perhaps broken off. A switchover
/// by a failover manager breaks off waits, and takes some seconds to promote who has the commit.
const REPLICATION: Duration = Duration::from_secs(5);

/// In a transaction that has failed.
pub(crate) const ABORTED: &str = "25P02";
/// Outside of any.
const NONE: &str = "25P01";

/// How COMMIT ended, as the driver saw it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Commit {
    /// It was answered, and `SHOW` before it had said [`SIGN`](super::SIGN).
    Done,
    /// It was answered, but `SHOW` had said something else: another transaction than ours.
    NotOurs,
    /// The server answered with an error, to it or to what stands before it in the message.
    Refused(Error),
    /// There was no answer.
    Lost(Option<BoxError>),
}

impl<R: Resolve> TxAttempt<'_, R> {
    /// COMMIT with what stands before it.
    pub(crate) fn guarded_commit(&self) -> &'static str {
        let pool = self.cluster().config().pool();
        let is_limited =
            self.options.statement_timeout.is_some() || pool.statement_timeout.is_some();
        if is_limited {
            COMMIT_AT_LEISURE
        } else {
            COMMIT
        }
    }

    /// Runs `sending`, which sends COMMIT and reads the answers, and finds out what became of the
    /// transaction if there is none.
    ///
    /// `sending` is dropped when there is no more sense in waiting for it; the connection must be
    /// closed then, not returned.
    ///
    /// # Errors
    ///
    /// The failure that the attempt ends with: not committed, or unknown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves unknown whether it was committed.
    pub async fn commit(self, sending: impl Future<Output = Commit>) -> Result<(), Failure> {
        let whereabouts = Whereabouts::of(&self);
        self.send_and_resolve(sending).await?;
        if let Some(whereabouts) = whereabouts {
            // Apart, so that it burdens only those who want to know.
            Box::pin(whereabouts.ask()).await;
        }
        Ok(())
    }

    async fn send_and_resolve(
        mut self,
        sending: impl Future<Output = Commit>,
    ) -> Result<(), Failure> {
        let evidence = self.evidence.take();
        let before = self.generation.unreplicated();
        let answer = self.answer(sending, evidence.as_ref()).await;
        match answer {
            Commit::Done if self.generation.unreplicated() != before => {
                self.replicated(evidence.flatten()).await
            }
            Commit::Done => Ok(()),
            Commit::NotOurs => Err(self.open(Error::EndedByClosure)),
            Commit::Refused(error) => match error.sqlstate() {
                Some(ABORTED) => Err(self.open(Error::RolledBack)),
                Some(NONE) => Err(self.open(Error::EndedByClosure)),
                _ => match error.disposition(TxPhase::CommitInFlight) {
                    Disposition::Resolve => self.lost(evidence, Some(error.into())).await,
                    disposition => Err(self.with_disposition(error, disposition)),
                },
            },
            Commit::Lost(source) => self.lost(evidence, source).await,
        }
    }

    /// The failure that it amounts to if it is known that nothing was committed.
    pub(crate) fn commit_lost(&self, source: Option<BoxError>) -> Failure {
        self.open(Error::CommitLost {
            host: self.generation.host().clone(),
            source,
        })
    }

    /// Ends when just enough time is left to find out what became of a transaction that was sent
    /// together with its COMMIT.
    pub(crate) async fn while_there_is_time(&self) {
        while_there_is_time(self.deadline).await;
    }

    /// All of it was sent together with COMMIT, and lost before it was known what it wrote:
    /// `evidence` has a token, if it left one, and no id.
    ///
    /// # Errors
    ///
    /// The failure that the attempt ends with: not committed, or unknown, for this `doubt` if there
    /// is no evidence.
    ///
    /// # Cancel safety
    ///
    /// As [`commit`](Self::commit).
    pub(crate) async fn lost_untold(
        &self,
        evidence: Option<Evidence>,
        doubt: Doubt,
        source: Option<BoxError>,
    ) -> Result<(), Failure> {
        self.generation.report(Report::ConnectionLost);
        match evidence {
            Some(evidence) => self.resolve(evidence, source).await,
            None if self.is_read_only() => Err(self.commit_lost(source)),
            None => {
                let meters = self.cluster().meters();
                meters.commit_in_doubt(&Err(doubt), Duration::ZERO);
                Err(self.in_doubt(None, doubt, source))
            }
        }
    }

    /// Sends COMMIT, and waits for its answer; not for ever, if the silence is the connection's.
    async fn answer(
        &self,
        sending: impl Future<Output = Commit>,
        evidence: Option<&Option<Evidence>>,
    ) -> Commit {
        // Dropped before anything is asked, so that the server sees its end soon.
        let mut sent = pin!(self.watch(sending));
        let answer = match evidence {
            Some(Some(evidence)) => tokio::select! {
                biased;
                answer = &mut sent => answer,
                () = silence(self.resolver, &self.generation, evidence, self.deadline) => {
                    let host = self.generation.host();
                    return Commit::Lost(Some(format!("{host} did not answer COMMIT").into()));
                }
            },
            Some(None) | None => sent.await,
        };
        // Invalidated or out of time.
        answer.unwrap_or_else(|failure| Commit::Lost(Some(failure.error.into())))
    }

    /// COMMIT was sent and not answered.
    async fn lost(
        &self,
        evidence: Option<Option<Evidence>>,
        source: Option<BoxError>,
    ) -> Result<(), Failure> {
        self.generation.report(Report::ConnectionLost);
        match evidence {
            Some(Some(evidence)) => self.resolve(evidence, source).await,
            // It wrote nothing, so there was nothing to lose.
            Some(None) => Err(self.commit_lost(source)),
            None if self.is_read_only() => Err(self.commit_lost(source)),
            None => {
                let meters = self.cluster().meters();
                meters.commit_in_doubt(&Err(Doubt::NoEvidence), Duration::ZERO);
                Err(self.in_doubt(None, Doubt::NoEvidence, source))
            }
        }
    }

    /// COMMIT was answered, while one on this host, perhaps this one, was kept from waiting for a
    /// standby: finds out whether a standby has it all the same.
    async fn replicated(&self, evidence: Option<Evidence>) -> Result<(), Failure> {
        let deadline = self.deadline.min(Instant::now() + REPLICATION);
        if let Some(evidence) = &evidence {
            let proof = self.options.proof;
            let resolved: BoxFuture<'_, _> =
                Box::pin(self.resolver.resolve_until(evidence, proof, deadline));
            match resolved.await {
                Ok(Outcome::Committed) => return Ok(()),
                // It was, on a primary that has been replaced without it.
                Ok(Outcome::NotCommitted) => return Err(self.commit_lost(None)),
                Err(_) => {}
            }
        }
        let host = self.generation.host().clone();
        Err(self.open(Error::NotReplicated { host }))
    }

    /// COMMIT was sent and not answered: finds out what became of the transaction.
    async fn resolve(&self, evidence: Evidence, source: Option<BoxError>) -> Result<(), Failure> {
        let begun = Instant::now();
        let deadline = match self.options.resolve_within {
            Some(limit) => self.deadline.min(begun + limit),
            None => self.deadline,
        };
        let proof = self.options.proof;
        let resolving: BoxFuture<'_, _> =
            Box::pin(self.resolver.resolve_until(&evidence, proof, deadline));
        let resolved = resolving.await;
        let outcome = match &resolved {
            Ok(outcome) => Ok(*outcome),
            Err(unresolved) => Err(unresolved.doubt),
        };
        let name = self.options.name.as_deref();
        let meters = self.cluster().meters();
        meters.commit_in_doubt(&outcome, begun.elapsed());
        tracing::event!(
            name: rows::COMMIT_RESOLVED.name,
            target: rows::COMMIT_RESOLVED.target,
            rows::COMMIT_RESOLVED.level,
            {
                db.client.connection.pool.name = meters.pool(),
                leadpool.transaction.name = name,
                server.address = evidence.host.name(),
                server.port = evidence.host.port(),
                leadpool.transaction.id = evidence.transaction,
                leadpool.verdict = ?outcome,
            },
            "a COMMIT in doubt"
        );
        if let Some(observe) = &self.options.on_resolved {
            observe(&Resolved {
                name,
                attempt: self.number,
                evidence: &evidence,
                outcome,
                elapsed: begun.elapsed(),
            });
        }
        match resolved {
            Ok(Outcome::Committed) => Ok(()),
            Ok(Outcome::NotCommitted) => Err(self.commit_lost(source)),
            Err(Unresolved { doubt, source: why }) => {
                let source = why.map(Into::into).or(source);
                Err(self.in_doubt(Some(evidence), doubt, source))
            }
        }
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
