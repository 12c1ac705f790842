//! What all transactions of a pool share.

use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::{Budget, Failure, Options, runner::run};
use crate::{
    error::Error,
    monitor::Cluster,
    observe::{Transacting, TransactionMeters, attempt_span},
    pool::{Driver, Generation, SubPools},
};

/// What all transactions of a pool share: the retry budget, and what counts them.
#[derive(Debug)]
pub struct Transactions {
    budget: Budget,
    meters: TransactionMeters,
}

/// One turn of the retry loop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Try {
    /// Which one it is, from 1.
    pub number: u32,
    /// When the whole transaction has to have ended.
    pub deadline: Instant,
    span: Span,
}

impl Transactions {
    /// For the transactions of one pool of a cluster.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        let settings = cluster.config().tx();
        Self {
            budget: Budget::new(settings.retry_budget, settings.retry_budget_ratio),
            meters: TransactionMeters::new(cluster.meters()),
        }
    }

    /// The retry budget; whoever repeats something else takes of it too.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Runs a transaction: attempts until one commits, or must not be repeated, or a limit is
    /// reached. A pool that is drained waits for it, its repetitions included.
    ///
    /// # Errors
    ///
    /// That of the last attempt, or which limit was reached.
    ///
    /// # Cancel safety
    ///
    /// As that of the attempt.
    pub async fn run<D, T, F, Fut>(
        &self,
        pools: &SubPools<D>,
        options: &Options,
        mut attempt: F,
    ) -> Result<T, Error>
    where
        D: Driver,
        F: FnMut(Try) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let _running = pools.busy();
        let meters = &self.meters;
        let transacting = Transacting::begin(meters, options.name.as_deref(), options.target);
        let ended = run(options, &self.budget, meters, |number, deadline| {
            let span = attempt_span(number);
            let this = Try {
                number,
                deadline,
                span: span.clone(),
            };
            // Kilobytes with some drivers: every layer between here and the caller's task would
            // move it once.
            Box::pin(attempt(this)).instrument(span)
        })
        .instrument(transacting.span())
        .await;
        transacting.ended(&ended);
        ended
    }
}

impl Try {
    /// Tells its span where it runs.
    pub(crate) fn runs_on(&self, generation: &Generation) {
        self.span.record("server.address", generation.host().name());
        self.span.record("server.port", generation.host().port());
    }
}
