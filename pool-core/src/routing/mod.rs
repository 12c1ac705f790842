//! Which host a checkout goes to.

mod strategy;

pub(crate) use strategy::RoundRobin;

use crate::topology::{Target, Topology};

/// Whether some host is usable as the target asks.
pub(crate) fn is_usable(topology: &Topology, target: Target) -> bool {
    let writer = topology.writer.is_some();
    let reader = || {
        topology
            .hosts()
            .iter()
            .any(crate::topology::HostView::is_reader)
    };
    match target {
        Target::Primary => writer,
        Target::Standby => reader(),
        Target::PreferPrimary | Target::PreferStandby | Target::Any => writer || reader(),
    }
}
