//! One attempt of a transaction, as far as the driver does not matter.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{Attempt, Failure, Options, Resolve, Try};
use crate::{
    error::{Disposition, Error, TxPhase, is_lost},
    failover::Report,
    monitor::Cluster,
    outcome::Evidence,
    pool::{Driver, Generation, Purpose, SubPools},
    topology::HostView,
};

/// After this long without an end the monitor looks whether the host lives, and again each time
/// as long passes.
const SLOW: Duration = Duration::from_millis(250);

/// One attempt of a transaction, on one connection.
#[derive(Debug)]
pub struct TxAttempt<'a, R> {
    pub(super) number: u32,
    begun_at: Instant,
    /// Whether its host was the writer when it began.
    on_writer: bool,
    pub(super) deadline: Instant,
    pub(super) options: &'a Options,
    pub(super) resolver: &'a R,
    pub(super) generation: Arc<Generation>,
    /// `None` until it was asked for; then what there is.
    pub(super) evidence: Option<Option<Evidence>>,
}

impl<'a, R: Resolve> TxAttempt<'a, R> {
    /// Checks out a connection as the options say, and tells the observer.
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
        resolver: &'a R,
        options: &'a Options,
        this: Try,
    ) -> Result<(D::Conn, Self), Failure> {
        let Try {
            number, deadline, ..
        } = this;
        let asked_at = Instant::now();
        let left = deadline.saturating_duration_since(asked_at);
        let purpose = match number {
            1 => Purpose::New,
            _ => Purpose::Retry,
        };
        let hand_out = |conn, generation: &Arc<Generation>| (conn, generation.clone());
        let taken = match &options.token {
            Some(token) => {
                let reading = pools.checkout_at(purpose, token, left, hand_out);
                reading.await.map(|(taken, _)| taken)
            }
            None => {
                pools
                    .checkout(purpose, options.target, left, hand_out)
                    .await
            }
        };
        let (conn, generation) = taken.map_err(|error| Failure {
            error,
            disposition: Disposition::Fail,
            generation: None,
            ran: Duration::ZERO,
        })?;
        this.runs_on(&generation);
        let begun_at = Instant::now();
        if let Some(observe) = &options.on_attempt {
            observe(&Attempt {
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
        let error = if is_lost(&error) && self.generation.is_aborted() {
            self.invalidated()
        } else {
            error
        };
        self.open(error)
    }

    /// Whether evidence has to be gathered before COMMIT: where something can have been written,
    /// unless it is switched off.
    #[must_use]
    pub fn needs_evidence(&self) -> bool {
        self.options.evidence && !self.is_read_only() && self.generation.is_writer()
    }

    /// Takes in what was found of the transaction (`None`: it wrote nothing), with what the history
    /// of the cluster has to do with it, and the token that it leaves.
    pub(crate) fn set_evidence(&mut self, evidence: Option<Evidence>, token: Option<Uuid>) {
        let evidence = evidence.map(|mut evidence| {
            let mut history = self.resolver.cluster().history();
            evidence.system_identifier = history.system_identifier(&evidence.host);
            history.saw_flush(
                evidence.system_identifier,
                &evidence.incarnation,
                evidence.flushed,
            );
            evidence.token = token;
            evidence
        });
        self.evidence = Some(evidence);
    }

    /// Whether it is known what it wrote.
    pub(crate) fn was_asked(&self) -> bool {
        self.evidence.is_some()
    }

    /// The token that it is going to leave.
    pub(crate) fn token(&self) -> Option<Uuid> {
        self.evidence.as_ref()?.as_ref()?.token
    }

    /// The cluster that it runs on.
    #[must_use]
    pub fn cluster(&self) -> &'a Cluster {
        self.resolver.cluster()
    }

    pub(crate) fn options(&self) -> &'a Options {
        self.options
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.options.read_only == Some(true)
    }

    pub(super) fn open(&self, error: Error) -> Failure {
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

    pub(crate) fn with_disposition(&self, error: Error, disposition: Disposition) -> Failure {
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
        let topology = self.resolver.cluster().topology();
        Error::TxDeadline {
            elapsed: Duration::ZERO,
            attempts: self.number,
            seen: topology.host(host).map(HostView::describe),
            source: None,
        }
    }
}
