//! Where checkouts go.

use std::{sync::Arc, time::Instant};

use super::{Driver, SubPool};
use crate::{
    monitor::Cluster,
    routing::{Lookup, Readers, Route, Usable},
    topology::{HostView, Target, Topology},
};

/// What keeps checkouts from being served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// They wait.
    pub(super) paused: bool,
    /// New ones are refused.
    pub(super) draining: bool,
    /// All are refused.
    pub(super) closed: bool,
}

/// Where checkouts go: made anew with each topology that matters, read without a lock.
pub(super) struct Routes<D: Driver> {
    pub(super) writer: Option<Arc<SubPool<D>>>,
    pub(super) readers: Vec<Reader<D>>,
    /// A primary that is closed for writes.
    pub(super) read_only: Option<Arc<SubPool<D>>>,
    /// The cluster is one host.
    pub(super) alone: bool,
    pub(super) state: State,
    /// Since when the writer is the writer.
    pub(super) writer_since: Instant,
}

/// A standby that serves reads, and its place in the topology's list.
pub(super) struct Reader<D: Driver> {
    pub(super) sub_pool: Arc<SubPool<D>>,
    pub(super) place: usize,
}

impl<D: Driver> Routes<D> {
    fn usable(&self) -> Usable {
        Usable {
            writer: self.writer.is_some(),
            reader: !self.readers.is_empty(),
            closed_primary: self.read_only.is_some(),
            alone: self.alone,
        }
    }

    /// Whether `route` would find a sub-pool.
    pub(super) fn has(&self, target: Target) -> bool {
        self.usable().route(target).is_some()
    }

    /// The sub-pool that serves a checkout that has only begun.
    #[inline(always)]
    pub(super) fn route(&self, target: Target, cluster: &Cluster) -> Option<&Arc<SubPool<D>>> {
        if self.state != State::default() {
            return None;
        }
        self.find(target, cluster)
    }

    /// The sub-pool that serves a checkout, paused or not.
    #[inline(always)]
    pub(super) fn find(&self, target: Target, cluster: &Cluster) -> Option<&Arc<SubPool<D>>> {
        if target == Target::Primary {
            return self.writer.as_ref();
        }
        match self.usable().route(target)? {
            Route::Writer => self.writer.as_ref(),
            Route::Reader => self.reader(cluster),
            Route::ClosedPrimary => self.read_only.as_ref(),
        }
    }

    fn reader(&self, cluster: &Cluster) -> Option<&Arc<SubPool<D>>> {
        let at = match self.readers.as_slice() {
            [] => return None,
            [_] => 0,
            readers => {
                let choice = Choice {
                    readers,
                    topology: &cluster.glance(),
                };
                let picked = cluster
                    .config()
                    .reader_strategy()
                    .pick(&Readers::new(&choice));
                picked.min(readers.len() - 1)
            }
        };
        Some(&self.readers[at].sub_pool)
    }
}

/// What a strategy chooses from: the readers of these routes, with the newest that is known.
struct Choice<'a, D: Driver> {
    readers: &'a [Reader<D>],
    topology: &'a Topology,
}

impl<D: Driver> Lookup for Choice<'_, D> {
    fn len(&self) -> usize {
        self.readers.len()
    }

    fn host(&self, at: usize) -> Option<&HostView> {
        let reader = self.readers.get(at)?;
        let addr = reader.sub_pool.generation.host();
        // The topology may be newer than the routes.
        match self.topology.hosts().get(reader.place) {
            Some(host) if host.addr == *addr => Some(host),
            _ => self.topology.host(addr),
        }
    }

    fn in_use(&self, at: usize) -> usize {
        self.readers
            .get(at)
            .map_or(0, |reader| D::counts(&reader.sub_pool.pool).in_use())
    }
}
