//! Where checkouts go.

use std::{borrow::Borrow, marker::PhantomData, sync::Arc, time::Instant};

use super::{Driver, Generation, SubPool};
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
        Some(&self.readers[pick(&self.readers, cluster)?].sub_pool)
    }

    /// The reader that the strategy picks of those of which `admits` says so.
    pub(super) fn reader_among(
        &self,
        cluster: &Cluster,
        admits: impl Fn(&Generation) -> bool,
    ) -> Option<&Arc<SubPool<D>>> {
        let admits = |reader: &&Reader<D>| {
            let generation = &reader.sub_pool.generation;
            !generation.is_retired() && admits(generation)
        };
        // Mostly all of them.
        if self.readers.iter().all(|reader| admits(&reader)) {
            return self.reader(cluster);
        }
        let admitted: Vec<_> = self.readers.iter().filter(admits).collect();
        let picked = admitted.get(pick(&admitted, cluster)?)?;
        Some(&picked.sub_pool)
    }

    /// The reader of this generation, if it is one.
    pub(super) fn reader_of(&self, generation: &Generation) -> Option<&Arc<SubPool<D>>> {
        let mut readers = self.readers.iter().map(|reader| &reader.sub_pool);
        readers.find(|sub_pool| std::ptr::eq(&*sub_pool.generation, generation))
    }
}

/// The place of the one that the strategy chooses.
fn pick<D: Driver, R: Borrow<Reader<D>>>(readers: &[R], cluster: &Cluster) -> Option<usize> {
    match readers {
        [] => None,
        [_] => Some(0),
        readers => {
            let choice = Choice {
                readers,
                topology: &cluster.glance(),
                driver: PhantomData,
            };
            let strategy = cluster.config().reader_strategy();
            Some(strategy.pick(&Readers::new(&choice)).min(readers.len() - 1))
        }
    }
}

/// What a strategy chooses from: readers of these routes, with the newest that is known.
struct Choice<'a, D, R> {
    readers: &'a [R],
    topology: &'a Topology,
    driver: PhantomData<fn() -> D>,
}

impl<D: Driver, R: Borrow<Reader<D>>> Lookup for Choice<'_, D, R> {
    fn len(&self) -> usize {
        self.readers.len()
    }

    fn host(&self, at: usize) -> Option<&HostView> {
        let reader = self.readers.get(at)?.borrow();
        let addr = reader.sub_pool.generation.host();
        // The topology may be newer than the routes.
        match self.topology.hosts().get(reader.place) {
            Some(host) if host.addr == *addr => Some(host),
            _ => self.topology.host(addr),
        }
    }

    fn in_use(&self, at: usize) -> usize {
        self.readers.get(at).map_or(0, |reader| {
            D::counts(&reader.borrow().sub_pool.pool).in_use()
        })
    }
}
