//! One attempt of a transaction, as far as the driver does not matter.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    Resolver,
    evidence::{self, Found},
};
use crate::{
    error::{BoxError, Disposition, DriverError, Error, InDoubt, TxPhase},
    failover::Report,
    native::resolve::Unresolved,
    outcome::{Doubt, Evidence, Outcome},
    pool::{Driver, Generation, SubPools},
    tx::{self, Failure, Options, Resolved},
};

/// After this long without an end the monitor looks whether the host lives, and again each time
/// as long passes.
const SLOW: Duration = Duration::from_millis(250);
/// In a transaction that has failed.
const ABORTED: &str = "25P02";

/// How COMMIT ended, as the driver saw it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Commit {
    /// It was answered, and `SHOW` before it had said [`SIGN`](super::SIGN).
    Done,
    /// It was answered, but `SHOW` had said something else: another transaction than ours.
    NotOurs,
    /// The server answered with an error, to it or to what stands before it in the message.
    Refused(DriverError),
    /// There was no answer.
    Lost(Option<BoxError>),
}

/// One attempt of a transaction, on one connection.
#[derive(Debug)]
pub struct TxAttempt<'a> {
    number: u32,
    begun_at: Instant,
    /// Whether its host was the writer when it began.
    on_writer: bool,
    deadline: Instant,
    options: &'a Options,
    resolver: &'a Resolver,
    generation: Arc<Generation>,
    /// `None` until it was asked for; then what there is.
    evidence: Option<Option<Evidence>>,
}

impl<'a> TxAttempt<'a> {
    /// Checks out a connection as the options say, and tells the observer; `number` and `deadline`
    /// are what [`run`](super::run) gives.
    ///
    /// # Errors
    ///
    /// As [`SubPools::checkout`].
    ///
    /// # Cancel safety
    ///
    /// As [`SubPools::checkout`].
    pub async fn begin<D: Driver>(
        pools: &SubPools<D>,
        resolver: &'a Resolver,
        options: &'a Options,
        number: u32,
        deadline: Instant,
    ) -> Result<(D::Conn, Self), Failure> {
        let asked_at = Instant::now();
        let left = deadline.saturating_duration_since(asked_at);
        let (conn, generation) = pools
            .checkout(options.target, left, |conn, generation| {
                (conn, generation.clone())
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
        let attempt = Self {
            number,
            begun_at,
            on_writer: generation.is_writer(),
            deadline,
            options,
            resolver,
            generation,
            evidence: None,
        };
        Ok((conn, attempt))
    }

    /// Where it runs.
    #[must_use]
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Runs a future (BEGIN, the closure's, the question) until it ends, the host is invalidated,
    /// or the deadline passes.
    ///
    /// # Errors
    ///
    /// The failure that the attempt ends with. The connection must not be used again then.
    ///
    /// # Cancel safety
    ///
    /// As that of the future.
    pub async fn watch<T>(&self, running: impl Future<Output = T>) -> Result<T, Failure> {
        let mut running = pin!(running);
        let mut aborted = pin!(self.generation.aborted());
        let mut look = Instant::now() + SLOW;
        loop {
            tokio::select! {
                biased;
                ended = &mut running => return Ok(ended),
                () = &mut aborted => return Err(self.open(self.invalidated())),
                () = sleep_until(look.min(self.deadline)) => {}
            }
            if Instant::now() >= self.deadline {
                return Err(self.open(self.out_of_time()));
            }
            self.generation.report(Report::Slow);
            look += SLOW;
        }
    }

    /// The failure that an error before COMMIT was sent amounts to.
    #[must_use]
    pub fn failure(&self, error: Error) -> Failure {
        let lost = matches!(&error, Error::Driver(error) if error.is_connection_loss());
        if lost && self.generation.is_aborted() {
            return self.open(self.invalidated());
        }
        self.open(error)
    }

    /// Whether [`QUESTION`](super::QUESTION) has to be asked before COMMIT: where something can
    /// have been written, unless evidence is switched off.
    #[must_use]
    pub fn needs_evidence(&self) -> bool {
        self.options.evidence && !self.is_read_only() && self.generation.is_writer()
    }

    /// Takes in the answer to [`QUESTION`](super::QUESTION), or how it failed.
    ///
    /// # Errors
    ///
    /// The failure that the attempt ends with: the transaction had failed, or was not ours, or the
    /// question itself failed.
    pub fn note_evidence(&mut self, answer: Result<&str, DriverError>) -> Result<(), Failure> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.sqlstate() == Some(ABORTED) => {
                return Err(self.failure(Error::RolledBack));
            }
            Err(error) => return Err(self.failure(Error::Driver(Box::new(error)))),
        };
        self.evidence = match evidence::read(self.generation.host(), answer) {
            Some(Found::NotOurs) => return Err(self.failure(Error::EndedByClosure)),
            Some(Found::Nothing) => Some(None),
            Some(Found::Evidence(evidence)) => Some(Some(self.remembered(*evidence))),
            None => {
                let text = format!("{answer:?} is no answer to the question for evidence");
                return Err(self.failure(Error::user(text)));
            }
        };
        Ok(())
    }

    /// What the history of the cluster has to do with it, and its token.
    fn remembered(&self, mut evidence: Evidence) -> Evidence {
        let cluster = self.resolver.cluster();
        let mut history = cluster.history();
        evidence.system_identifier = history.system_identifier(&evidence.host);
        history.saw_flush(
            evidence.system_identifier,
            &evidence.incarnation,
            evidence.flushed,
        );
        let has_tokens = cluster.config().tx().token_table.is_some();
        evidence.token = has_tokens.then(Uuid::new_v4);
        evidence
    }

    /// What to send as one message: COMMIT, and before it what makes it fail in a transaction that
    /// has failed (25P02), the token if there is a table for it, and `SHOW`, whose row has to be
    /// [`SIGN`](super::SIGN).
    #[must_use]
    pub fn commit_sql(&self) -> String {
        let table = self.resolver.cluster().config().tx().token_table.as_ref();
        let token = self
            .evidence
            .as_ref()
            .and_then(|found| found.as_ref()?.token);
        evidence::commit_sql(table.zip(token))
    }

    /// Runs `sending`, which sends [`commit_sql`](Self::commit_sql) and reads the answers, and
    /// finds out what became of the transaction if there is none.
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
    pub async fn commit(mut self, sending: impl Future<Output = Commit>) -> Result<(), Failure> {
        let evidence = self.evidence.take();
        let answer = self.answer(sending, evidence.as_ref()).await;
        match answer {
            Commit::Done => Ok(()),
            Commit::NotOurs => Err(self.failure(Error::EndedByClosure)),
            Commit::Refused(error) if error.sqlstate() == Some(ABORTED) => {
                Err(self.failure(Error::RolledBack))
            }
            Commit::Refused(error) => {
                match Disposition::of_adapter(&error, TxPhase::CommitInFlight) {
                    Disposition::Resolve => self.lost(evidence, Some(error.into())).await,
                    disposition => {
                        Err(self.with_disposition(Error::Driver(Box::new(error)), disposition))
                    }
                }
            }
            Commit::Lost(source) => self.lost(evidence, source).await,
        }
    }

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
                () = self.resolver.silence(&self.generation, evidence, self.deadline) => {
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
            None => Err(self.in_doubt(None, Doubt::NoEvidence, source)),
        }
    }

    async fn resolve(&self, evidence: Evidence, source: Option<BoxError>) -> Result<(), Failure> {
        let begun = Instant::now();
        let deadline = match self.options.resolve_within {
            Some(limit) => self.deadline.min(begun + limit),
            None => self.deadline,
        };
        let proof = self.options.proof;
        let resolved = self
            .resolver
            .resolve_until(&evidence, proof, deadline)
            .await;
        let outcome = match &resolved {
            Ok(outcome) => Ok(*outcome),
            Err(unresolved) => Err(unresolved.doubt),
        };
        let name = self.options.name.as_deref();
        tracing::info!(
            target: "leadpool::tx",
            name,
            host = %evidence.host,
            transaction = evidence.transaction,
            ?outcome,
            "commit in flight"
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

    /// It is known that nothing was committed.
    fn commit_lost(&self, source: Option<BoxError>) -> Failure {
        self.open(Error::CommitLost {
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

    fn is_read_only(&self) -> bool {
        self.options.read_only == Some(true)
    }

    fn open(&self, error: Error) -> Failure {
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

    fn with_disposition(&self, error: Error, disposition: Disposition) -> Failure {
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
        Error::TxDeadline {
            elapsed: Duration::ZERO,
            attempts: self.number,
            source: None,
        }
    }
}
