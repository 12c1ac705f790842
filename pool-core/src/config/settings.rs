//! The knobs.

use std::{sync::Arc, time::Duration};

use super::{HostPattern, InstancePattern};
use crate::{
    outcome::{Proof, TokenTable},
    topology::HostAddr,
};

/// Which hosts may join, and what is known of them beforehand.
///
/// ```
/// use leadpool::{Config, HostAddr};
///
/// let config = Config::builder("postgres://app@db1,db2/shop")
///     .allowed_hosts("10.0.0.0/8, *.db.example.com")
///     .host_zone(HostAddr::new("db2", 5432), "eu-west-1a")
///     .host_weight(HostAddr::new("db1", 5432), 3)
///     .build()?;
/// assert_eq!(config.host_settings().allowed_hosts.len(), 2);
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HostSettings {
    /// Which hosts that a discovery names may be given credentials, besides those of the
    /// configuration and those that the source vouches for by its own. Default: none.
    pub allowed_hosts: Vec<HostPattern>,
    /// How the names of instances follow from their identifiers, where an Aurora cluster is reached
    /// by a name that is none of AWS's: see [`Rds`](crate::discovery::Rds). Default: none.
    pub instance_pattern: Option<InstancePattern>,
    /// Whether no source is asked for hosts unless the pool is told which. Default: `false`, the
    /// source is [chosen](crate::discovery::Auto).
    pub discovery_off: bool,
    /// The availability zones of hosts. They count more than what a discovery says. Default: none.
    pub zones: Vec<(HostAddr, Arc<str>)>,
    /// The weights of hosts: see [`HostView::weight`](crate::topology::HostView::weight). They
    /// count more than what a discovery says. Default: none.
    pub weights: Vec<(HostAddr, u32)>,
}

/// How large sub-pools are, and how long a checkout may take.
///
/// ```
/// let config = leadpool::Config::from_url("postgres://db1/shop")?;
/// assert_eq!(config.pool().writer_size, 16);
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolSettings {
    /// How many connections the writer's sub-pool may have.
    ///
    /// Interacts with the server's `max_connections`: all instances of the application add up.
    /// Minimum 1. Default 16: more than the cores of most database servers can serve at once.
    pub writer_size: usize,
    /// How many connections the sub-pool of each standby may have.
    ///
    /// A promoted standby grows to [`writer_size`](Self::writer_size). Minimum 1. Default 16, as
    /// the writer's.
    pub reader_size: usize,
    /// How long a checkout may take: waiting for a usable host, for a free connection, and for
    /// one to be opened, all together.
    ///
    /// Bounded itself by the deadline of `run_tx`. Greater than 0. Default 30 s: longer than most
    /// failovers, shorter than most people wait.
    pub checkout_timeout: Duration,
    /// How long opening one connection may take: asking for credentials, name resolution, TCP, TLS,
    /// login, role check, hooks. Cleaning a used one may take as long.
    ///
    /// libpq's `connect_timeout` (whole seconds) sets it. Minimum 10 ms. Default 5 s: a host that
    /// needs longer is of no use to a request, and a checkout can try again within its timeout.
    pub connect_timeout: Duration,
    /// How many connections to one host are opened at the same time: the admission cap after a
    /// failover.
    ///
    /// Those who wait for admission get it in order. Minimum 1. Default 8: enough to fill a pool of
    /// 16 in two round trips. Each instance of the application counts its own: where there are
    /// hundreds, 1 lets a new primary serve all of them sooner.
    pub max_concurrent_connects: usize,
    /// How long each statement may take before the server ends it with 57014.
    ///
    /// Sent with the start-up message, so it costs nothing; behind a pooler that refuses options
    /// there, leave it out. A checkout ([`CheckoutOptions`](crate::CheckoutOptions::statement_timeout))
    /// and a transaction ([`TxBuilder`](crate::TxBuilder::statement_timeout)) may have another one.
    /// COMMIT in `run_tx` is exempt: to end its wait for a standby is not to undo it. The monitor's
    /// own connections have none. Part of a millisecond counts as one; zero is no limit, also where
    /// server or role have one. Default `None`: what server and role say, since only the
    /// application knows how long its reports take.
    pub statement_timeout: Option<Duration>,
    /// How long a read with a [consistency token](crate::consistency) waits for a standby that has
    /// not been seen to have it, before the writer serves it.
    ///
    /// While there is no writer it waits on, for either. At most half of the time that the checkout
    /// has left, so that the writer can be reached in the other half. With zero only standbys that are known to have
    /// it serve. Default 100 ms: streaming and replay take a few, and one that is behind by more
    /// than that costs less if it is not waited for.
    pub consistency_wait: Duration,
    /// How long `connect` waits for the first usable host.
    ///
    /// Of no effect with [`lazy`](Self::lazy). Greater than 0. Default 30 s, as
    /// [`checkout_timeout`](Self::checkout_timeout).
    pub startup_timeout: Duration,
    /// Whether `connect` returns at once; checkouts then wait for a usable host.
    ///
    /// Wrong passwords and unreachable hosts show only at the first checkout then. Default false:
    /// a service should not start in a state in which it can't serve.
    pub lazy: bool,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            writer_size: 16,
            reader_size: 16,
            checkout_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_concurrent_connects: 8,
            statement_timeout: None,
            consistency_wait: Duration::from_millis(100),
            startup_timeout: Duration::from_secs(30),
            lazy: false,
        }
    }
}

/// How hosts are watched, and what is concluded.
///
/// ```
/// use std::time::Duration;
///
/// let config = leadpool::Config::from_url("postgres://db1/shop")?;
/// assert_eq!(config.monitor().idle_interval, Duration::from_secs(10));
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MonitorSettings {
    /// How often each host is probed while the application does not write.
    ///
    /// The monitor's open connections tell of a host's end without a probe. Minimum 100 ms, not
    /// below [`active_interval`](Self::active_interval). Default 10 s.
    pub idle_interval: Duration,
    /// How often each host is probed while the application writes.
    ///
    /// This bounds how long a stale primary, one that does not know of its successor, can go on
    /// getting writes. Minimum 50 ms, not below
    /// [`fast_interval_max`](Self::fast_interval_max). Default 1 s.
    pub active_interval: Duration,
    /// The shortest interval between probes of one host, in the first moments of an outage.
    ///
    /// A probe over the open connection costs the server some 20 µs. Minimum 1 ms. Default 2 ms.
    pub fast_interval_min: Duration,
    /// The longest interval between probes of one host while a writer is missing.
    ///
    /// After five minutes without one [`active_interval`](Self::active_interval) takes its place.
    /// Not below [`fast_interval_min`](Self::fast_interval_min). Default 50 ms.
    pub fast_interval_max: Duration,
    /// The interval while a writer is missing, as a share of the outage so far, between the two
    /// above.
    ///
    /// So detection adds about this share to an outage. Above 0, at most 1. Default 0.01.
    pub fast_fraction: f64,
    /// The interval for a while after the writer has changed.
    ///
    /// For [`fast_after_change`](Self::fast_after_change): failovers come in pairs, when the old
    /// primary comes back or a rewound host bounces. Minimum 1 ms. Default 100 ms.
    pub after_change_interval: Duration,
    /// How long [`after_change_interval`](Self::after_change_interval) applies.
    ///
    /// 0 switches it off. Default 30 s.
    pub fast_after_change: Duration,
    /// After how long without an answer to a probe a host is suspect.
    ///
    /// Suspicion aborts nothing: it makes the monitor look at all hosts at the fast pace. Minimum
    /// 10 ms, not above [`silence_limit`](Self::silence_limit) and
    /// [`watchdog_limit`](Self::watchdog_limit). Default 300 ms.
    pub suspect_after: Duration,
    /// After how long without an answer a host that nobody uses is given up.
    ///
    /// While connections to it are checked out, [`watchdog_limit`](Self::watchdog_limit) counts,
    /// and this one bounds it. The sight of a primary with a higher term ends it at once. Not below
    /// [`suspect_after`](Self::suspect_after). Default 5 s: nobody waits for the host, and a virtual
    /// machine that is moved or snapshotted may pause for seconds and come back.
    pub silence_limit: Duration,
    /// After how long without any sign of life a host is given up while connections to it are
    /// checked out, and its queries in flight aborted.
    ///
    /// For the whole time a probe has to wait for its answer, and nothing may come over any
    /// connection to the host: see [the manual](crate::manual::silence) for what counts. Where
    /// probes are answered slowly, four times their usual time is added, up to
    /// [`silence_limit`](Self::silence_limit). `None` switches it off: `silence_limit` alone counts
    /// then. Not below [`suspect_after`](Self::suspect_after). Default 1.5 s: with
    /// [`watchdog_interval`](Self::watchdog_interval) a host that is gone is noticed within 2 s,
    /// while a pause of one second ends nothing.
    pub watchdog_limit: Option<Duration>,
    /// How often it is looked whether a host that connections are checked out of still shows life.
    ///
    /// Where something has come over one of them since, that is enough; otherwise the host is
    /// probed. It costs nothing while nothing is checked out. Minimum 10 ms. Default 200 ms: an
    /// unanswered probe can begin up to two intervals after the host's end, so it is the smaller
    /// part of the 2 s.
    pub watchdog_interval: Duration,
    /// How long the first judgement waits for all hosts to answer once.
    ///
    /// So that a stale primary that answers first is not taken for the writer. It ends early when
    /// all have answered. Default 300 ms.
    pub settle: Duration,
    /// What to do when several hosts claim to be primary and the term can't order them.
    ///
    /// Default [`ContestedPolicy::Refuse`]: no writer is better than two.
    pub contested: ContestedPolicy,
    /// After how long without sight of it a higher term is forgotten.
    ///
    /// The way out when a host with a higher term joined by mistake, without an operator's
    /// [`forget_term`](crate::Cluster::forget_term). Default `None`, never: while a newer primary
    /// is merely unreachable from here, writes to the older one would be lost.
    pub forget_term_after: Option<Duration>,
    /// How old the data of a standby may be before it gets no reads.
    ///
    /// It gets them again once it is within half of it: see
    /// [`HostView::staleness`](crate::topology::HostView::staleness) for what is measured. A
    /// standby that falls behind is noticed with its next probe. While there is no writer the last
    /// judgement stands. Default `None`: any age.
    pub max_lag: Option<Duration>,
    /// How many bytes of WAL a standby may be behind before it gets no reads.
    ///
    /// As [`max_lag`](Self::max_lag); both may be set, and each excludes. Default `None`.
    pub max_lag_bytes: Option<u64>,
    /// How often sources of hosts are asked while there is a writer, in place of each source's own
    /// interval. Minimum 100 ms. Default `None`: as the source wants it, mostly 30 s.
    pub discovery_interval: Option<Duration>,
    /// The same while a writer is missing, and for
    /// [`fast_after_change`](Self::fast_after_change). Minimum 10 ms. Default `None`: mostly 1 s.
    pub discovery_failover_interval: Option<Duration>,
    /// How many events a slow receiver may lag behind before it loses the oldest.
    ///
    /// Minimum 1. Default 256.
    pub events_capacity: usize,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            idle_interval: Duration::from_secs(10),
            active_interval: Duration::from_secs(1),
            fast_interval_min: Duration::from_millis(2),
            fast_interval_max: Duration::from_millis(50),
            fast_fraction: 0.01,
            after_change_interval: Duration::from_millis(100),
            fast_after_change: Duration::from_secs(30),
            suspect_after: Duration::from_millis(300),
            silence_limit: Duration::from_secs(5),
            watchdog_limit: Some(Duration::from_millis(1_500)),
            watchdog_interval: Duration::from_millis(200),
            settle: Duration::from_millis(300),
            contested: ContestedPolicy::Refuse,
            forget_term_after: None,
            max_lag: None,
            max_lag_bytes: None,
            discovery_interval: None,
            discovery_failover_interval: None,
            events_capacity: 256,
        }
    }
}

/// What to do when several hosts claim to be primary and the term can't order them.
///
/// ```
/// use leadpool::{Config, config::ContestedPolicy};
///
/// let config = Config::builder("postgres://db1,db2/shop")
///     .contested(ContestedPolicy::StayWithCurrent)
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContestedPolicy {
    /// No writer is handed out until one claim ends or shows a higher term.
    #[default]
    Refuse,
    /// The writer in use stays, if it is one of them.
    StayWithCurrent,
}

/// How often and how long `run_tx` tries.
///
/// ```
/// let config = leadpool::Config::from_url("postgres://db1/shop")?;
/// assert_eq!(config.tx().retries, 5);
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TxSettings {
    /// How often a transaction is repeated after its first attempt.
    ///
    /// Waiting for a writer is part of one attempt, so an outage costs one. 0 switches retries
    /// off. Default 5, as in Aiven's recipe for failovers.
    pub retries: u32,
    /// How long a transaction may take, all attempts and waits together.
    ///
    /// It bounds the checkout too. Greater than 0. Default 60 s: a failover managed by Patroni
    /// with its default settings fits in.
    pub deadline: Duration,
    /// The pause before the second attempt; each further one is twice as long, with jitter.
    ///
    /// Attempts that wait for the topology do not pause besides. Default 5 ms.
    pub backoff_min: Duration,
    /// The longest pause.
    ///
    /// Not below [`backoff_min`](Self::backoff_min). Default 1 s.
    pub backoff_max: Duration,
    /// How many retries the pool may make in one go, when all its transactions fail together.
    ///
    /// A failover needs about one for each connection in use. Default 128.
    pub retry_budget: u32,
    /// How many retries each committed transaction earns, up to
    /// [`retry_budget`](Self::retry_budget).
    ///
    /// So in the long run retries are at most this share of the load. 0 to 10. Default 0.2.
    pub retry_budget_ratio: f64,
    /// Whether each transaction that writes leaves a marker in the server's log, so that the
    /// outcome of a COMMIT in flight can be found out.
    ///
    /// It takes no round trip. Without it every COMMIT that is not answered is
    /// [`Error::Unknown`](crate::Error::Unknown). Default `true`.
    pub evidence: bool,
    /// How sure a verdict on a COMMIT in flight has to be. Default [`Proof::Strict`].
    pub proof: Proof,
    /// The table in which each transaction that writes leaves a token, which proves its outcome
    /// where the log can't.
    ///
    /// It must exist: see [`TokenTable::migration`]. Needs [`evidence`](Self::evidence). Default
    /// `None`: no tokens.
    pub token_table: Option<TokenTable>,
    /// For how long after its beginning a transaction's token proves its outcome.
    ///
    /// [`Pool::clean_tokens`](crate::Pool::clean_tokens) deletes tokens that are twice as old, so
    /// that clocks may differ. All applications that share a table must agree on it. Minimum 1
    /// minute. Default 1 day.
    pub token_retention: Duration,
}

impl Default for TxSettings {
    fn default() -> Self {
        Self {
            retries: 5,
            deadline: Duration::from_secs(60),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_secs(1),
            retry_budget: 128,
            retry_budget_ratio: 0.2,
            evidence: true,
            proof: Proof::Strict,
            token_table: None,
            token_retention: Duration::from_secs(86_400),
        }
    }
}
