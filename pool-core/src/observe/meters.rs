//! The handles behind the table of metrics.
//!
//! A handle belongs to the recorder that is installed when it is made. What happens often keeps
//! its handle; the rest asks the recorder each time.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, Unit, with_recorder};

use super::{
    metrics::{
        CHECKOUT_WAIT, CHECKOUTS, COMMIT_RESOLUTION, COMMITS_IN_DOUBT, CONNECT_DURATION,
        CONNECTIONS_LOST, CONNECTS, CONSISTENT_READS, DISCOVERIES, METRICS, Metric, MetricKind,
        PROBE_DURATION, PROBE_FAILURES, RETRIES, TRANSACTION_DURATION, TRANSACTIONS,
    },
    tally::{Tally, TransactionCounts},
};
use crate::{
    consistency::Standing,
    error::Error,
    failover::Failure,
    outcome::{Doubt, Outcome},
    topology::{HostAddr, Target},
};

static METADATA: Metadata<'static> = Metadata::new("leadpool", Level::INFO, Some(module_path!()));

/// Feeds the metrics of one cluster and its pools.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pool: Arc<str>,
    tally: Arc<Tally>,
}

impl Meters {
    pub(crate) fn new(pool: &str) -> Self {
        describe();
        Self {
            pool: pool.into(),
            tally: Arc::default(),
        }
    }

    /// What became of transactions so far.
    pub(crate) fn transactions(&self) -> TransactionCounts {
        self.tally.counts()
    }

    /// The name that all series carry.
    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    /// The values are those of the metric's labels, the first (`pool`) left out.
    pub(super) fn key(&self, metric: &Metric, values: &[&str]) -> Key {
        let pool = Label::new(metric.labels[0], self.pool.clone());
        let others = metric.labels[1..]
            .iter()
            .zip(values)
            .map(|(name, value)| Label::new(*name, (*value).to_owned()));
        Key::from_parts(
            metric.name,
            std::iter::once(pool).chain(others).collect::<Vec<_>>(),
        )
    }

    pub(super) fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        let key = self.key(metric, values);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(super) fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        let key = self.key(metric, values);
        with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
    }

    pub(super) fn connect(&self, host: &HostAddr, outcome: &str, took: Duration) {
        let host = host.to_string();
        self.counter(&CONNECTS, &[&host, outcome]).increment(1);
        self.histogram(&CONNECT_DURATION, &[&host, outcome])
            .record(took);
    }

    pub(crate) fn connection_lost(&self, host: &HostAddr) {
        self.counter(&CONNECTIONS_LOST, &[&host.to_string()])
            .increment(1);
    }

    pub(crate) fn probe_answered(&self, host: &HostAddr, took: Duration) {
        self.histogram(&PROBE_DURATION, &[&host.to_string()])
            .record(took);
    }

    pub(crate) fn probe_failed(&self, host: &HostAddr, failure: &Failure) {
        let reason = match failure {
            Failure::Refused => "refused",
            Failure::NotAccepting(_) => "not_accepting",
            Failure::Silent => "silent",
            Failure::Unreachable(_) => "unreachable",
            Failure::Denied(_) => "denied",
        };
        self.counter(&PROBE_FAILURES, &[&host.to_string(), reason])
            .increment(1);
    }

    pub(crate) fn discovery(&self, source: &str, is_found: bool) {
        let outcome = if is_found { "ok" } else { "failed" };
        self.counter(&DISCOVERIES, &[source, outcome]).increment(1);
    }

    pub(crate) fn commit_in_doubt(&self, outcome: &Result<Outcome, Doubt>, took: Duration) {
        let at = match outcome {
            Ok(Outcome::Committed) => 0,
            Ok(Outcome::NotCommitted) => 1,
            Err(_) => 2,
        };
        let verdict = VERDICTS[at];
        self.tally.in_doubt(at);
        self.counter(&COMMITS_IN_DOUBT, &[verdict]).increment(1);
        self.histogram(&COMMIT_RESOLUTION, &[verdict]).record(took);
    }
}

/// Tells the recorder what each metric is.
fn describe() {
    with_recorder(|recorder| {
        for metric in METRICS {
            let name = KeyName::from_const_str(metric.name);
            let unit = Some(match metric.unit {
                "seconds" => Unit::Seconds,
                "bytes" => Unit::Bytes,
                _ => Unit::Count,
            });
            let about = metric.about.into();
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, unit, about),
                MetricKind::Gauge => recorder.describe_gauge(name, unit, about),
                MetricKind::Histogram => recorder.describe_histogram(name, unit, about),
            }
        }
    });
}

const TARGETS: [Target; 7] = [
    Target::Primary,
    Target::Standby,
    Target::ReadOnly,
    Target::StrictReader,
    Target::PreferPrimary,
    Target::PreferStandby,
    Target::Any,
];

/// Who serves reads with a token.
const SERVED_BY: [&str; 4] = ["standby", "waited", "writer", "nobody"];
/// How many standings there are.
const STANDINGS: usize = 6;

/// Counts the checkouts of one pool.
#[derive(Debug)]
pub(crate) struct CheckoutMeters {
    meters: Meters,
    /// In the order of [`TARGETS`]: a checkout of an idle connection adds one, and does no more.
    succeeded: [Counter; TARGETS.len()],
    /// The waits of those that succeeded, made when the first one waits.
    waits: [OnceLock<Histogram>; TARGETS.len()],
    /// Those with a token, in the order of [`SERVED_BY`] and of [`Standing`].
    reads: [[OnceLock<Counter>; STANDINGS]; SERVED_BY.len()],
}

impl CheckoutMeters {
    pub(crate) fn new(meters: &Meters) -> Self {
        Self {
            succeeded: TARGETS.map(|target| meters.counter(&CHECKOUTS, &[target.as_str(), "ok"])),
            waits: Default::default(),
            reads: Default::default(),
            meters: meters.clone(),
        }
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }

    #[inline]
    pub(crate) fn succeeded(&self, target: Target) {
        self.succeeded[target as usize].increment(1);
    }

    /// A read with a token is served, or not.
    pub(crate) fn read(&self, served_by: &str, standing: Standing) {
        let at = SERVED_BY.iter().position(|known| *known == served_by);
        let count = at.and_then(|at| self.reads[at].get(standing as usize));
        let counter = || {
            self.meters
                .counter(&CONSISTENT_READS, &[served_by, standing.as_str()])
        };
        if let Some(count) = count {
            count.get_or_init(counter).increment(1);
        }
    }

    /// A checkout that had to wait is over.
    pub(super) fn waited(&self, target: Target, outcome: &str, took: Duration) {
        let values = [target.as_str(), outcome];
        if outcome == "ok" {
            // Also what has an idle connection waits now and then: the runtime makes it.
            self.succeeded(target);
            let wait = || self.meters.histogram(&CHECKOUT_WAIT, &values);
            self.waits[target as usize].get_or_init(wait).record(took);
            return;
        }
        self.meters.counter(&CHECKOUTS, &values).increment(1);
        self.meters.histogram(&CHECKOUT_WAIT, &values).record(took);
    }
}

/// Why a transaction is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RetryReason {
    /// It lost its connection, or its host.
    Lost,
    /// Its host is no writer any more.
    Refused,
    /// Another transaction got in its way.
    Conflict,
}

/// What was found out of COMMITs that were not answered.
const VERDICTS: [&str; 3] = ["committed", "not_committed", "unknown"];

const OUTCOMES: [&str; 6] = [
    "committed",
    "rolled_back",
    "failed",
    "not_replicated",
    "unknown",
    "cancelled",
];

/// Counts the transactions of one pool.
#[derive(Debug)]
pub(crate) struct TransactionMeters {
    meters: Meters,
    /// In the order of [`OUTCOMES`].
    outcomes: [(Counter, Histogram); OUTCOMES.len()],
}

impl TransactionMeters {
    pub(crate) fn new(meters: &Meters) -> Self {
        // From 0 on: an increase can't be seen of a series that begins with 1.
        for verdict in VERDICTS {
            drop(meters.counter(&COMMITS_IN_DOUBT, &[verdict]));
        }
        Self {
            outcomes: OUTCOMES.map(|outcome| {
                (
                    meters.counter(&TRANSACTIONS, &[outcome]),
                    meters.histogram(&TRANSACTION_DURATION, &[outcome]),
                )
            }),
            meters: meters.clone(),
        }
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    pub(crate) fn retried(&self, reason: RetryReason) {
        self.meters.tally.retried(reason as usize);
        let reason = match reason {
            RetryReason::Lost => "lost",
            RetryReason::Refused => "refused",
            RetryReason::Conflict => "conflict",
        };
        self.meters.counter(&RETRIES, &[reason]).increment(1);
    }

    pub(super) fn ended(&self, outcome: &str, took: Duration) {
        let at = OUTCOMES.iter().position(|known| *known == outcome);
        if let Some(at) = at {
            let (count, duration) = &self.outcomes[at];
            self.meters.tally.ended(at);
            count.increment(1);
            duration.record(took);
        }
    }
}

/// What became of a transaction that did not commit, or not as it should.
pub(super) fn transaction_outcome(error: &Error) -> &'static str {
    match error {
        Error::Unknown(_) | Error::BeginRefused { .. } => "unknown",
        Error::NotReplicated { .. } => "not_replicated",
        Error::AnswerLost { .. } => "committed",
        Error::Postgres(_)
        | Error::Driver(_)
        | Error::User(_)
        | Error::RolledBack
        | Error::IsolationChanged { .. }
        | Error::EndedByClosure
        | Error::Escaped => "rolled_back",
        Error::Config(_)
        | Error::NoHost(_)
        | Error::QueueFull(_)
        | Error::Overloaded(_)
        | Error::Paused(_)
        | Error::Connect(_)
        | Error::TokenRefused(_)
        | Error::Closed
        | Error::Invalidated { .. }
        | Error::CommitLost { .. }
        | Error::SessionMoved(_)
        | Error::TxDeadline { .. }
        | Error::RetriesExhausted { .. } => "failed",
    }
}

/// What became of a checkout that got no connection.
pub(super) fn checkout_outcome(error: &Error) -> &'static str {
    match error {
        Error::NoHost(_) => "no_host",
        Error::QueueFull(_) => "queue_full",
        Error::Overloaded(_) => "overloaded",
        Error::Paused(_) => "paused",
        Error::Connect(_) => "connect",
        Error::TokenRefused(_) => "token_refused",
        Error::Closed => "closed",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stand_in_their_order() {
        for (at, target) in TARGETS.into_iter().enumerate() {
            assert_eq!(target as usize, at, "{target}");
        }
    }

    #[test]
    fn each_standing_has_its_place() {
        // The last one.
        assert_eq!(Standing::Unknown as usize + 1, STANDINGS);
    }
}
