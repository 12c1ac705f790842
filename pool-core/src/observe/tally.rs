//! What became of transactions, counted for those who have no metrics at hand.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What became of the transactions of `run_tx`, over all pools of a cluster, since it was opened.
///
/// They are the counters `leadpool_transactions_total`, `leadpool_transaction_retries_total` and
/// `leadpool_commits_in_doubt_total` of the [metrics](crate::manual::observability), without a
/// recorder.
///
/// ```no_run
/// # fn f(pool: leadpool::Pool) {
/// let counts = pool.status().transactions;
/// println!("{} of {} are in doubt", counts.unknown, counts.ended());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TransactionCounts {
    /// They committed.
    pub committed: u64,
    /// A statement failed, or the closure ended with an error: nothing was written.
    pub rolled_back: u64,
    /// There was no connection in time, or the retries were used up: nothing was written.
    pub failed: u64,
    /// They committed, perhaps on one server only.
    pub not_replicated: u64,
    /// It could not be proved whether they committed.
    pub unknown: u64,
    /// They were dropped before their end.
    pub cancelled: u64,
    /// Attempts that were repeated.
    pub retries: RetryCounts,
    /// COMMITs that were not answered.
    pub in_doubt: InDoubtCounts,
}

impl TransactionCounts {
    /// How many have ended, in whatever way.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.committed
            + self.rolled_back
            + self.failed
            + self.not_replicated
            + self.unknown
            + self.cancelled
    }
}

/// Attempts that were repeated, by the reason: a part of [`TransactionCounts`].
///
/// ```
/// assert_eq!(leadpool::RetryCounts::default().lost, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetryCounts {
    /// The connection or its host was lost.
    pub lost: u64,
    /// The host was no writer any more.
    pub refused: u64,
    /// Another transaction got in the way.
    pub conflict: u64,
}

/// COMMITs that were not answered, by what was found out of them: a part of [`TransactionCounts`].
///
/// ```
/// assert_eq!(leadpool::InDoubtCounts::default().unknown, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InDoubtCounts {
    /// They happened.
    pub committed: u64,
    /// They did not happen.
    pub not_committed: u64,
    /// That could not be proved.
    pub unknown: u64,
}

/// The counts while they are counted, by the labels of the metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    outcomes: Counts<6>,
    retries: Counts<3>,
    in_doubt: Counts<3>,
}

type Counts<const N: usize> = [AtomicU64; N];

/// In the order of the labels in [`super::meters`].
impl Tally {
    pub(super) fn ended(&self, outcome: usize) {
        add(&self.outcomes, outcome);
    }

    pub(super) fn retried(&self, reason: usize) {
        add(&self.retries, reason);
    }

    pub(super) fn in_doubt(&self, verdict: usize) {
        add(&self.in_doubt, verdict);
    }

    pub(super) fn counts(&self) -> TransactionCounts {
        let [
            committed,
            rolled_back,
            failed,
            not_replicated,
            unknown,
            cancelled,
        ] = read(&self.outcomes);
        let [lost, refused, conflict] = read(&self.retries);
        let [happened, not_committed, unproved] = read(&self.in_doubt);
        TransactionCounts {
            committed,
            rolled_back,
            failed,
            not_replicated,
            unknown,
            cancelled,
            retries: RetryCounts {
                lost,
                refused,
                conflict,
            },
            in_doubt: InDoubtCounts {
                committed: happened,
                not_committed,
                unknown: unproved,
            },
        }
    }
}

fn add(counts: &[AtomicU64], at: usize) {
    if let Some(count) = counts.get(at) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn read<const N: usize>(counts: &Counts<N>) -> [u64; N] {
    std::array::from_fn(|at| counts[at].load(Ordering::Relaxed))
}
