//! What is played: how many clients, how they are set, and what the servers are like.

use std::{sync::Arc, time::Duration};

use leadpool::Config;

/// How the primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its process ends: connections break, new ones are refused.
    Kill,
    /// It falls silent.
    Freeze,
}

/// One failover of one fleet.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Its place in the run.
    pub(super) number: usize,
    pub(super) seed: u64,
    pub(super) clients: u32,
    /// How the clients are set, all alike.
    pub(super) config: Arc<Config>,
    /// Whether a client keeps to its `max_concurrent_connects`.
    pub(super) is_capped: bool,
    /// Whether the clients write, and so have connections in use on the primary.
    pub(super) is_writing: bool,
    /// How many checkouts of each client wait for the new writer.
    pub(super) checkouts: u32,
    /// How long each uses its connection before it returns it.
    pub(super) use_for: Duration,
    /// `None`: nothing happens.
    pub(super) fault: Option<Fault>,
    /// How long after the fault a standby is promoted.
    pub(super) promoted_after: Duration,
    pub(super) model: Model,
}

/// What is assumed of servers and network.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// The least time from sending something to having the answer, without the server's own.
    pub(super) round_trip: Duration,
    /// By how much that varies: each way takes up to half of this longer.
    pub(super) jitter: Duration,
    /// How many connections a server opens per second: the fork and the login.
    pub(super) connects_per_second: u32,
    /// How many connects the kernel keeps until the server takes them.
    pub(super) backlog: usize,
    /// How many sessions a server allows.
    pub(super) max_connections: usize,
    /// What one probe costs a core.
    pub(super) probe_cost: Duration,
    /// How many cores answer probes.
    pub(super) cores: u32,
}

/// Start-up, and three messages of SCRAM.
pub(super) const LOGIN_TURNS: u32 = 3;
/// After the login a monitor asks what kind of server it is, and prepares its question.
pub(super) const MONITOR_TURNS: u32 = 2;
/// After how long a connect that the kernel dropped is sent again, at first; then after twice as
/// long each time (Linux, [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), and RFC 6298).
pub(super) const SYN_AGAIN: Duration = Duration::from_secs(1);

impl Scenario {
    /// How many connects a client has under way at the same time.
    pub(super) fn cap(&self) -> usize {
        match self.is_capped {
            true => self.config.pool().max_concurrent_connects,
            false => usize::MAX,
        }
    }
}
