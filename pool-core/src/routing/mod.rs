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

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usable {
    pub(crate) writer: bool,
    pub(crate) reader: bool,
    /// A primary that is closed for writes.
    pub(crate) closed_primary: bool,
    /// The cluster is one host.
    pub(crate) alone: bool,
}

/// Which of them serves a checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Writer,
    Reader,
    ClosedPrimary,
}

impl Usable {
    pub(crate) fn of(topology: &Topology) -> Self {
        let hosts = topology.hosts();
        Self {
            writer: topology.writer.is_some(),
            reader: hosts.iter().any(HostView::is_reader),
            closed_primary: hosts.iter().any(is_closed_primary),
            alone: hosts.len() == 1,
        }
    }

    /// The route for a target; `None` while it has to wait.
    pub(crate) fn route(self, target: Target) -> Option<Route> {
        let writer = self.writer.then_some(Route::Writer);
        let reader = self.reader.then_some(Route::Reader);
        let closed = self.closed_primary.then_some(Route::ClosedPrimary);
        match target {
            Target::Primary => writer,
            Target::Standby => reader,
            Target::StrictReader => reader.or_else(|| writer.filter(|_| self.alone)),
            Target::ReadOnly => reader.or(closed),
            Target::PreferPrimary => writer.or(reader),
            Target::PreferStandby | Target::Any => reader.or(writer),
        }
    }
}

/// Whether a host is the primary and closed for writes.
pub(crate) fn is_closed_primary(host: &HostView) -> bool {
    host.role == Role::Primary && host.read_only && !host.fenced && host.foreign.is_none()
}
