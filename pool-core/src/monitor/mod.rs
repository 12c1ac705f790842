//! The shell around the state machine: probes the hosts, takes reports, publishes topologies.
//!
//! Tasks, all owned by [`worker::Worker`], which is owned by the [`Cluster`]:
//! - the worker itself, the only one that changes the topology;
//! - one prober a host, at the pace that the machine sets, or at once when its bell rings;
//! - one discoverer a source of hosts.

mod cluster;
mod discoverer;
mod login;
mod pauses;
mod probe;
mod prober;
mod pulse;
mod replay;
mod shared;
#[cfg(test)]
mod tests;
mod wakes;
mod watch;
mod watchdog;
mod worker;
mod written;

pub use cluster::Cluster;
pub(crate) use cluster::Reporter;
pub(crate) use pauses::Pauses;
pub(crate) use pulse::Pulse;
pub(crate) use replay::{Replay, Seen};
pub(crate) use shared::Follower;
pub(crate) use wakes::Wakes;
pub(crate) use written::vantage;
