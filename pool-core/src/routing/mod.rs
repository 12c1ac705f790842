//! Which host a checkout goes to.
//!
//! The writer is what the topology says. Of several readers a [`ReaderStrategy`] picks one: set
//! it with [`ConfigBuilder::reader_strategy`](crate::config::ConfigBuilder::reader_strategy).
//! Standbys that do not answer, are too far behind
//! ([`max_lag`](crate::config::MonitorSettings::max_lag)) or have weight 0 are left out before it
//! is asked.

mod strategy;

pub use strategy::{
    HighestWeight, InOrder, LeastConnections, LowestLag, LowestLatency, Random, ReaderStrategy,
    Readers, RoundRobin, Weighted, ZoneAffinity,
};
pub(crate) use strategy::{Lookup, by_name};

use crate::topology::{HostView, Role, Target, Topology};

/// Whether some host is usable as the target asks.
pub(crate) fn is_usable(topology: &Topology, target: Target) -> bool {
    let writer = topology.writer.is_some();
    let reader = || topology.hosts().iter().any(HostView::is_reader);
    match target {
        Target::Primary => writer,
        Target::Standby => reader(),
        Target::StrictReader => reader() || (writer && is_alone(topology)),
        Target::ReadOnly => reader() || topology.hosts().iter().any(is_closed_primary),
        Target::PreferPrimary | Target::PreferStandby | Target::Any => writer || reader(),
    }
}

/// Whether the cluster is one host.
pub(crate) fn is_alone(topology: &Topology) -> bool {
    topology.hosts().len() == 1
}

/// Whether a host is the primary and closed for writes.
pub(crate) fn is_closed_primary(host: &HostView) -> bool {
    host.role == Role::Primary && host.read_only && !host.fenced && host.foreign.is_none()
}
