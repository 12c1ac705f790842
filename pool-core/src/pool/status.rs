//! Gauges of the sub-pools.

use serde::Serialize;

use crate::{
    observe::TransactionCounts,
    topology::{Health, HostAddr, HostView, Phase, Role, Term},
};

/// How many connections a pool of one host has.
///
/// ```
/// let counts = leadpool::PoolCounts::default();
/// assert_eq!(counts.in_use(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Connections that it may have.
    pub max_size: usize,
    /// Connections that it has.
    pub size: usize,
    /// Connections that nobody uses.
    pub idle: usize,
    /// Checkouts that wait for one.
    pub waiting: usize,
}

impl PoolCounts {
    /// Connections that are checked out.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.size.saturating_sub(self.idle)
    }

    /// Whether some of those who wait can't have a connection opened: there is no room.
    pub(super) fn is_exhausted(&self) -> bool {
        self.in_use() + self.waiting > self.max_size
    }
}

/// The state of a pool and of each sub-pool, at one moment.
///
/// ```no_run
/// # fn f(pool: leadpool::Pool) {
/// let status = pool.status();
/// println!("{}: {} checkouts wait for a writer", status.phase, status.waiting_for_writer);
/// for sub_pool in status.sub_pools {
///     println!("{} {}: {:?}", sub_pool.host, sub_pool.role, sub_pool.counts);
/// }
/// # }
/// ```
///
/// # As JSON
///
/// It can be serialized with `serde`, for a health page or a support case. It holds no secret. The
/// names of the fields are kept: new ones may come, none changes its meaning.
///
/// ```json
#[doc = include_str!("../../tests/data/status.json")]
/// ```
///
/// Hosts are `name:port`, roles, healths and phases as they print, positions in the log as the
/// server writes them, durations in seconds; what is not known is `null`. Identifiers of 64 bits
/// are texts. `last_answer_seconds` counts from the start of the monitor,
/// `started_at_microseconds` from 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The name of the pool: see [`ObserveSettings`](crate::config::ObserveSettings::pool_name).
    pub pool: String,
    /// The state of the cluster.
    pub phase: Phase,
    /// The host that writers are handed out on.
    pub writer: Option<HostAddr>,
    /// The highest term that a primary has shown.
    pub term: Option<Term>,
    /// Checkouts that wait because there is no writer.
    pub waiting_for_writer: usize,
    /// Checkouts that wait: for a writer, for a connection, or for the end of a pause.
    pub waiting: usize,
    /// Whether checkouts wait because the pool, or the whole cluster, is paused.
    pub paused: bool,
    /// Whether new checkouts are refused: the pool is drained or closed.
    pub closed: bool,
    /// What became of the transactions of all pools of the cluster.
    pub transactions: TransactionCounts,
    /// One entry a host.
    pub sub_pools: Vec<SubPoolStatus>,
    /// What is known of each host.
    pub hosts: Vec<HostView>,
}

/// The state of the sub-pool of one host.
///
/// ```no_run
/// # fn f(status: leadpool::SubPoolStatus) {
/// println!("{} generation {}", status.host, status.generation);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubPoolStatus {
    /// The host.
    pub host: HostAddr,
    /// Its role.
    pub role: Role,
    /// Its health.
    pub health: Health,
    /// The generation that its connections belong to.
    pub generation: u64,
    /// Connections that it keeps open while the host is usable as what it is.
    pub min_size: usize,
    /// Its gauges.
    #[serde(flatten)]
    pub counts: PoolCounts,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::topology::Lsn;

    /// What others read must not change by the way.
    #[test]
    fn its_json_is_the_documented_one() {
        let (db1, db2) = (HostAddr::new("db1", 5432), HostAddr::new("::1", 5433));
        let mut primary = HostView::new(db1.clone());
        primary.role = Role::Primary;
        primary.health = Health::Up;
        primary.term = Some(Term::from_timeline(3));
        primary.position = Some(Lsn::new(0x16_B374_D848));
        primary.started_at = Some(1_795_271_211_123_456);
        primary.last_answer = Some(Duration::from_millis(1500));
        let mut standby = HostView::new(db2.clone());
        standby.role = Role::Standby;
        standby.health = Health::Suspect;
        standby.lag = Some(4096);
        standby.staleness = Some(Duration::from_millis(250));
        standby.round_trip = Some(Duration::from_micros(500));
        standby.latency = Some(Duration::from_micros(750));
        standby.zone = Some("eu-west-1a".into());
        standby.problem = Some("no answer in time".into());
        let mut foreign = HostView::new(HostAddr::new("db3", 5432));
        foreign.foreign = Some(u64::MAX);
        let status = Status {
            pool: "orders".into(),
            phase: Phase::Stable,
            writer: Some(db1.clone()),
            term: primary.term,
            waiting_for_writer: 0,
            waiting: 1,
            paused: false,
            closed: false,
            transactions: TransactionCounts::default(),
            sub_pools: vec![SubPoolStatus {
                host: db1,
                role: Role::Primary,
                health: Health::Up,
                generation: 2,
                min_size: 2,
                counts: PoolCounts {
                    max_size: 16,
                    size: 3,
                    idle: 2,
                    waiting: 0,
                },
            }],
            hosts: vec![primary, standby, foreign],
        };
        let expected = include_str!("../../tests/data/status.json");
        let json = serde_json::to_string_pretty(&status).unwrap();
        assert_eq!(json, expected.trim_end(), "\n{json}");
    }
}
