//! Gauges of the sub-pools.

use crate::topology::{Health, HostAddr, Phase, Role};

/// How many connections a pool of one host has.
///
/// ```
/// let counts = leadpool::PoolCounts::default();
/// assert_eq!(counts.in_use(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The state of the cluster.
    pub phase: Phase,
    /// The host that writers are handed out on.
    pub writer: Option<HostAddr>,
    /// Checkouts that wait because there is no writer.
    pub waiting_for_writer: usize,
    /// One entry a host.
    pub sub_pools: Vec<SubPoolStatus>,
}

/// The state of the sub-pool of one host.
///
/// ```no_run
/// # fn f(status: leadpool::SubPoolStatus) {
/// println!("{} generation {}", status.host, status.generation);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Its gauges.
    pub counts: PoolCounts,
}
