//! Finding out what became of a COMMIT, seen from an attempt.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    error::Error,
    monitor::Cluster,
    outcome::{Doubt, Evidence, Outcome, Proof},
    pool::Generation,
};

/// When an unanswered COMMIT is first looked for on another connection; then after twice as long.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// What is kept of the deadline for finding out, a quarter of it at most.
const RESERVE: Duration = Duration::from_secs(5);

/// Who asks the servers what became of a COMMIT.
pub trait Resolve: Sync {
    /// The cluster whose servers are asked.
    fn cluster(&self) -> &Cluster;

    /// Asks the writer, whoever it comes to be, until the outcome is proved or can't be, or the
    /// deadline passes.
    fn resolve_until(
        &self,
        evidence: &Evidence,
        proof: Proof,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, Unresolved>> + Send;

    /// Whether waiting for the answer to a COMMIT is in vain, as another connection to the same
    /// host tells.
    fn is_settled(
        &self,
        host: &Generation,
        evidence: &Evidence,
    ) -> impl Future<Output = bool> + Send;
}

/// What could not be proved, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unresolved {
    /// Why it can't be proved.
    pub doubt: Doubt,
    /// What got in the way.
    pub source: Option<Error>,
}

/// Ends when just enough time is left to find out what became of a COMMIT.
pub(super) async fn while_there_is_time(deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    sleep_until(deadline - RESERVE.min(left / 4)).await;
}

/// Ends when there is no more sense in waiting for the answer to COMMIT: another connection shows
/// that the transaction has ended, or that COMMIT has not arrived for long; or just enough time is
/// left to find out what became of it.
pub(super) async fn silence(
    resolver: &impl Resolve,
    host: &Generation,
    evidence: &Evidence,
    deadline: Instant,
) {
    let looking = async {
        let mut pause = FIRST_LOOK;
        loop {
            sleep(pause).await;
            pause *= 2;
            let asking: BoxFuture<'_, bool> = Box::pin(resolver.is_settled(host, evidence));
            if asking.await {
                return;
            }
        }
    };
    tokio::select! {
        () = while_there_is_time(deadline) => {}
        () = looking => {}
    }
}
