//! The table of metrics.

/// A metric that leadpool feeds through the facade of the crate `metrics`.
///
/// ```
/// use leadpool::observe::{METRICS, MetricKind};
///
/// let waits = METRICS.iter().find(|metric| metric.name == "leadpool_checkout_wait_seconds");
/// assert_eq!(waits.map(|metric| metric.kind), Some(MetricKind::Histogram));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, with the unit at its end, as Prometheus wants it.
    pub name: &'static str,
    /// How its values are to be read.
    pub kind: MetricKind,
    /// What it is counted in: `seconds`, `bytes` or `count`.
    pub unit: &'static str,
    /// The labels that each of its series has.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub about: &'static str,
}

/// How the values of a metric are to be read.
///
/// ```
/// assert_eq!(leadpool::observe::MetricKind::Counter.to_string(), "counter");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only ever grows; look at its rate.
    Counter,
    /// The value of now.
    Gauge,
    /// Many values, as a distribution.
    Histogram,
}

impl std::fmt::Display for MetricKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

macro_rules! table {
    ($($row:ident: $kind:ident $name:literal [$($label:literal)*] $unit:literal, $about:literal;)*) => {
        $(pub(crate) const $row: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: $unit,
            labels: &[$($label),*],
            about: $about,
        };)*

        /// All metrics.
        ///
        /// Histograms want buckets that the exporter is told: see the
        /// [manual](crate::manual::observability).
        ///
        /// ```
        /// assert!(leadpool::observe::METRICS.iter().all(|metric| metric.name.starts_with("leadpool_")));
        /// ```
        pub const METRICS: &[Metric] = &[$($row),*];
    };
}

table! {
    POOL_CONNECTIONS: Gauge "leadpool_pool_connections" ["pool" "host" "role" "state"] "count",
        "Connections of the sub-pool of a host; `state` is `idle` or `used`.";
    POOL_CONNECTIONS_MAX: Gauge "leadpool_pool_connections_max" ["pool" "host" "role"] "count",
        "Connections that the sub-pool of a host may have.";
    POOL_WAITING: Gauge "leadpool_pool_waiting" ["pool" "host" "role"] "count",
        "Checkouts that wait for a connection of a host.";
    WRITER_WAITING: Gauge "leadpool_writer_waiting" ["pool"] "count",
        "Checkouts that wait because there is no writer.";
    CHECKOUTS: Counter "leadpool_checkouts_total" ["pool" "target" "outcome"] "count",
        "Checkouts by what they asked for; `outcome` is `ok`, `no_host`, `queue_full`, `overloaded`, `paused`, `connect`, `token_refused`, `closed`, `cancelled` or `other`.";
    CHECKOUT_WAIT: Histogram "leadpool_checkout_wait_seconds" ["pool" "target" "outcome"] "seconds",
        "How long checkouts took that found no idle connection; the others take no time and are not in it.";
    CONSISTENT_READS: Counter "leadpool_consistent_reads_total" ["pool" "served_by" "standing"] "count",
        "Reads with a consistency token, by who serves them: `served_by` is `standby` (known to have it), `waited` (a standby that was asked or waited for), `writer` or `nobody`; `standing` is what became of the token: `current`, `kept`, `lost`, `foreign`, `future` or `unknown`.";
    CONNECTS: Counter "leadpool_connects_total" ["pool" "host" "outcome"] "count",
        "Connections that the pool began to open; `outcome` is `ok`, `refused` (by the server), `failed`, `invalidated` or `cancelled`.";
    CONNECT_DURATION: Histogram "leadpool_connect_duration_seconds" ["pool" "host" "outcome"] "seconds",
        "How long opening a connection took, the wait for admission included.";
    CONNECTIONS_LOST: Counter "leadpool_connections_lost_total" ["pool" "host"] "count",
        "Connections that ended although nobody closed them.";
    INVALIDATIONS: Counter "leadpool_invalidations_total" ["pool" "host" "reason" "aborted"] "count",
        "Generations of connections that became unusable; `aborted` says whether those in use were ended too.";
    EVENTS: Counter "leadpool_events_total" ["pool" "event"] "count",
        "Events by name: everything that the stream of events tells.";
    PHASE: Gauge "leadpool_phase" ["pool" "phase"] "count",
        "1 for the phase that the cluster is in, 0 for the others.";
    WRITER_MISSING_SINCE: Gauge "leadpool_writer_missing_since_timestamp_seconds" ["pool"] "seconds",
        "Since when there has been no writer that answers, in seconds since 1970; 0 while there is one.";
    WRITER_CHANGES: Counter "leadpool_writer_changes_total" ["pool" "change"] "count",
        "Changes of the writer; `change` is `lost`, `found` (after a loss, or the first) or `moved` (from one host to another at once).";
    FAILOVERS: Counter "leadpool_failovers_total" ["pool"] "count",
        "How often another host became the writer than the one before.";
    WRITER_GAP: Histogram "leadpool_writer_gap_seconds" ["pool"] "seconds",
        "How long there was no writer, each time when one is found again.";
    TERM: Gauge "leadpool_term" ["pool"] "count",
        "The highest term that a primary has shown: the timeline, or the provider's own number.";
    FENCED_CLAIMS: Counter "leadpool_fenced_claims_total" ["pool" "host"] "count",
        "Claims to be the primary with a term lower than one already seen.";
    HOST_UP: Gauge "leadpool_host_up" ["pool" "host"] "count",
        "1 if the host answered its last probe, else 0.";
    HOST_ROLE: Gauge "leadpool_host_role" ["pool" "host" "role"] "count",
        "1 for the role of the host by its own last word, 0 for the others.";
    REPLAY_LAG: Gauge "leadpool_replay_lag_seconds" ["pool" "host"] "seconds",
        "How old the data of a standby is, from below; NaN while that is not known.";
    REPLAY_LAG_BYTES: Gauge "leadpool_replay_lag_bytes" ["pool" "host"] "bytes",
        "How many bytes of WAL a standby is behind, from below; NaN while that is not known.";
    PROBE_DURATION: Histogram "leadpool_probe_duration_seconds" ["pool" "host"] "seconds",
        "How long a host took to answer a probe, opening the connection not included.";
    PROBE_FAILURES: Counter "leadpool_probe_failures_total" ["pool" "host" "reason"] "count",
        "Probes without an answer; `reason` is `refused`, `not_accepting`, `silent`, `unreachable` or `denied`.";
    DISCOVERIES: Counter "leadpool_discoveries_total" ["pool" "source" "outcome"] "count",
        "How often a source of hosts was asked; `outcome` is `ok` or `failed`.";
    TRANSACTIONS: Counter "leadpool_transactions_total" ["pool" "outcome"] "count",
        "Transactions of `run_tx`; `outcome` is `committed`, `rolled_back`, `failed` (no host, no time or no retry left; nothing was committed), `not_replicated`, `unknown` or `cancelled`.";
    TRANSACTION_DURATION: Histogram "leadpool_transaction_duration_seconds" ["pool" "outcome"] "seconds",
        "How long transactions of `run_tx` took, all attempts and waits together.";
    RETRIES: Counter "leadpool_retries_total" ["pool" "reason"] "count",
        "Attempts of transactions after the first; `reason` is `lost` (the connection or the host), `refused` (by a host that is no writer any more) or `conflict` (with another transaction, or anything else that a pause cures).";
    COMMITS_IN_DOUBT: Counter "leadpool_commits_in_doubt_total" ["pool" "verdict"] "count",
        "COMMITs that were sent and not answered; `verdict` is `committed`, `not_committed` or `unknown`.";
    COMMIT_RESOLUTION: Histogram "leadpool_commit_resolution_duration_seconds" ["pool" "verdict"] "seconds",
        "How long it took to find out what became of a COMMIT in doubt.";
}
