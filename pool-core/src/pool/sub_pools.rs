//! The set of sub-pools, kept in step with the topology.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, task::AbortHandle};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    Driver, Generation, Stamp, Status, SubPoolStatus,
    gate::{Gate, Waiting},
    life::Lives,
    routes::{Reader, Routes, State},
};
use crate::{
    config::LimitSettings,
    monitor::{Cluster, Pauses},
    observe::CheckoutMeters,
    routing::is_closed_primary,
    topology::{HostAddr, Topology},
};

/// The pool of one host in one generation.
pub(crate) struct SubPool<D: Driver> {
    pub(crate) generation: Arc<Generation>,
    pub(super) pool: D::Pool,
}

/// All sub-pools of one pool: a [`Driver`]'s pool for each host, kept in step with the topology of
/// a cluster.
///
/// Dropping it closes them.
pub struct SubPools<D: Driver> {
    pub(super) driver: D,
    pub(super) cluster: Cluster,
    pub(super) routes: ArcSwap<Routes<D>>,
    pub(super) members: Mutex<Members<D>>,
    /// The queue of those who ask for the writer, and of those who ask for something else.
    pub(super) gate: Gate,
    pub(super) meters: CheckoutMeters,
    pub(super) other_gate: Gate,
    pub(super) waiting: Waiting,
    pub(super) limits: LimitSettings,
    pub(super) lives: Lives,
    /// Whether something is sent to a used connection before it is handed out again.
    pub(super) cleans: bool,
    pub(super) pauses: Pauses,
    /// The checkouts that have to wait, and the transactions that run.
    pub(super) busy: TaskTracker,
    /// The generations of which something is left.
    pub(super) generations: TaskTracker,
    pub(super) keeper: OnceLock<AbortHandle>,
    /// Counts the routes, for those who wait for others.
    pub(super) changed: watch::Sender<u64>,
    /// Whether connections that were opened here for a pool outside are in use there.
    pub(super) outside: OnceLock<InUse>,
}

pub(super) type InUse = Box<dyn Fn() -> bool + Send + Sync>;

pub(super) struct Members<D: Driver> {
    pub(super) current: Vec<Arc<SubPool<D>>>,
    /// Retired, but what is checked out there may still run.
    pub(super) draining: Vec<Weak<Generation>>,
    pub(super) topology: Arc<Topology>,
    sizes: Sizes,
    refuses_new: bool,
    closed: bool,
}

/// How many connections each sub-pool may have.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    writer: usize,
    reader: usize,
}

impl<D: Driver> SubPools<D> {
    /// Sub-pools of the sizes that the configuration says.
    #[must_use]
    pub fn new(cluster: &Cluster, driver: D) -> Arc<Self> {
        let settings = cluster.config().pool();
        let limits = cluster.config().limits().clone();
        let (writer, reader) = (settings.writer_size, settings.reader_size);
        Self::with_limits(cluster, driver, writer, reader, limits)
    }

    /// Sub-pools of other sizes and limits than the configuration says.
    #[must_use]
    pub fn with_limits(
        cluster: &Cluster,
        driver: D,
        writer_size: usize,
        reader_size: usize,
        limits: LimitSettings,
    ) -> Arc<Self> {
        let pools = Arc::new(Self {
            routes: ArcSwap::from_pointee(Routes {
                writer: None,
                readers: Vec::new(),
                read_only: None,
                alone: false,
                state: State::default(),
                writer_since: Instant::now(),
            }),
            members: Mutex::new(Members {
                current: Vec::new(),
                draining: Vec::new(),
                topology: cluster.topology(),
                sizes: Sizes {
                    writer: writer_size,
                    reader: reader_size,
                },
                refuses_new: false,
                closed: false,
            }),
            driver,
            cluster: cluster.clone(),
            gate: Gate::new(),
            meters: CheckoutMeters::new(cluster.meters()),
            other_gate: Gate::new(),
            waiting: Waiting::new(limits.max_waiting),
            lives: Lives::new(&limits),
            cleans: cluster.config().session().recycling.sql().is_some(),
            limits,
            pauses: Pauses::default(),
            busy: TaskTracker::new(),
            generations: TaskTracker::new(),
            keeper: OnceLock::new(),
            changed: watch::Sender::new(0),
            outside: OnceLock::new(),
        });
        cluster.attach(&pools);
        pools
    }

    /// The driver that they were made with.
    #[must_use]
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The cluster that they follow.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Names who knows whether connections are in use that are opened here and kept elsewhere.
    pub fn set_outside(&self, in_use: impl Fn() -> bool + Send + Sync + 'static) {
        drop(self.outside.set(Box::new(in_use)));
    }

    /// Notes that a connection to the writer is about to be used outside: somebody writes, perhaps.
    pub fn note_outside(&self) {
        self.cluster.note_writing();
        self.cluster.note_use();
    }

    /// Whether an object made at `created` was made under the writer of now.
    #[must_use]
    pub fn is_of_this_writer(&self, created: Instant) -> bool {
        let routes = self.routes.load();
        routes.writer.is_some() && created > routes.writer_since
    }

    /// Whether something opened then has lived for too long by now.
    #[must_use]
    pub fn is_too_old(&self, stamp: &Stamp) -> bool {
        self.lives.is_over(stamp.opened, Instant::now())
    }

    /// Something that a drained pool waits for, as long as the token exists.
    pub(crate) fn busy(&self) -> TaskTrackerToken {
        self.busy.token()
    }

    /// Changes the sizes. Growing is immediate; a smaller sub-pool is a fresh one: idle
    /// connections of the old one are closed, those in use finish and are closed on return.
    pub fn resize(&self, writer: Option<usize>, reader: Option<usize>) {
        let mut members = self.lock();
        let old = members.sizes;
        members.sizes.writer = writer.unwrap_or(old.writer);
        members.sizes.reader = reader.unwrap_or(old.reader);
        let shrunk = Sizes {
            writer: old.writer.saturating_sub(members.sizes.writer),
            reader: old.reader.saturating_sub(members.sizes.reader),
        };
        let topology = members.topology.clone();
        self.rebuild(&mut members, |sub_pool| {
            let writer = topology.writer.as_ref() == Some(sub_pool.generation.host());
            (if writer { shrunk.writer } else { shrunk.reader }) > 0
        });
    }

    /// Closes all sub-pools: waiters are told, idle connections closed, those in use finish and
    /// are closed on return.
    pub fn close(&self) {
        let mut members = self.lock();
        members.closed = true;
        self.rebuild(&mut members, |_| false);
    }

    /// Whether they have been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.routes.load().state.closed
    }

    /// Refuses new checkouts; those that wait are served.
    pub(super) fn refuse_new(&self) {
        let mut members = self.lock();
        members.refuses_new = true;
        self.rebuild(&mut members, |_| false);
    }

    /// Ends what is still checked out after [`close`](Self::close); says how many connections it
    /// were.
    pub(super) fn abort(&self) -> usize {
        let draining = std::mem::take(&mut self.lock().draining);
        let left = draining.iter().filter_map(Weak::upgrade);
        left.map(|generation| generation.abort()).sum()
    }

    /// The sub-pools, and how many connections each should keep open; `None` for a host that is
    /// not usable.
    pub(super) fn to_keep(&self) -> Vec<(Arc<SubPool<D>>, Option<usize>)> {
        let members = self.lock();
        let routes = self.routes.load();
        let current = members.current.iter();
        let with_size = current.map(|sub_pool| {
            let is_reader = || {
                let mut readers = routes.readers.iter();
                readers.any(|reader| Arc::ptr_eq(&reader.sub_pool, sub_pool))
            };
            let is_writer = routes
                .writer
                .as_ref()
                .is_some_and(|writer| Arc::ptr_eq(writer, sub_pool));
            let is_usable = is_writer || is_reader();
            let size = is_usable.then(|| self.min_size(&members, is_writer));
            (sub_pool.clone(), size)
        });
        with_size.collect()
    }

    fn min_size(&self, members: &Members<D>, is_writer: bool) -> usize {
        let limits = &self.limits;
        if is_writer {
            limits.writer_min_size.min(members.sizes.writer)
        } else {
            limits.reader_min_size.min(members.sizes.reader)
        }
    }

    /// The gauges of each.
    #[must_use]
    pub fn status(&self) -> Status {
        let members = self.lock();
        let topology = members.topology.clone();
        let state = self.routes.load().state;
        let sub_pools = members.current.iter().filter_map(|sub_pool| {
            let host = topology.host(sub_pool.generation.host())?;
            Some(SubPoolStatus {
                host: host.addr.clone(),
                role: host.role,
                health: host.health,
                generation: sub_pool.generation.number(),
                min_size: self.min_size(&members, sub_pool.generation.is_writer()),
                counts: D::counts(&sub_pool.pool),
            })
        });
        Status {
            pool: self.cluster.config().pool_name().to_owned(),
            phase: topology.phase,
            writer: topology.writer.clone(),
            term: topology.term,
            waiting_for_writer: self.gate.waiting(),
            waiting: self.waiting.count(),
            paused: state.paused,
            closed: state.draining || state.closed,
            transactions: self.cluster.meters().transactions(),
            sub_pools: sub_pools.collect(),
            hosts: topology.hosts().to_vec(),
        }
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Members<D>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the sub-pools in step with the topology in `members`, and replaces those that
    /// `replace` names.
    ///
    /// The order matters. Retired generations are marked first, so that nothing of theirs is
    /// handed out once the new routes are seen. The new routes come before the old pools are
    /// closed, so that a waiter that is told so finds the new ones.
    pub(super) fn rebuild(&self, members: &mut Members<D>, replace: impl Fn(&SubPool<D>) -> bool) {
        let topology = members.topology.clone();
        let before = std::mem::take(&mut members.current);
        let mut retired = Vec::new();
        for sub_pool in before {
            let generation = &sub_pool.generation;
            let stays = !members.closed
                && topology.host(generation.host()).is_some_and(|host| {
                    host.foreign.is_none() && host.generation == generation.number()
                })
                && !replace(&sub_pool);
            if stays {
                members.current.push(sub_pool);
            } else {
                generation.mark_retired();
                retired.push(sub_pool);
            }
        }
        if !members.closed {
            self.open_missing(members, &topology);
        }
        let state = State {
            paused: self.pauses.is_paused() || self.cluster.pauses().is_paused(),
            draining: members.refuses_new,
            closed: members.closed,
        };
        for sub_pool in &members.current {
            sub_pool.generation.set_paused(state.paused);
        }
        self.routes
            .store(Arc::new(self.routes_of(members, &topology, state)));
        for sub_pool in &retired {
            members.draining.push(Arc::downgrade(&sub_pool.generation));
            sub_pool.generation.retire();
            D::close(&sub_pool.pool);
        }
        drop(retired);
        members.draining.retain(|generation| {
            let Some(generation) = generation.upgrade() else {
                return false;
            };
            let abort = match topology.host(generation.host()) {
                Some(host) => generation.number() <= host.aborted,
                // It left the cluster as the writer; what is still written there is lost once
                // another server is.
                None => {
                    let writer = topology.writer.as_ref();
                    let writer = writer.and_then(|writer| topology.host(writer));
                    generation.is_writer()
                        && writer.is_some_and(|host| !generation.leads_to(host.started_at))
                }
            };
            if abort {
                generation.abort();
            }
            !abort
        });
        self.changed.send_modify(|count| *count += 1);
    }

    fn open_missing(&self, members: &mut Members<D>, topology: &Topology) {
        for host in topology.hosts() {
            let is_writer = topology.writer.as_ref() == Some(&host.addr);
            let size = if is_writer {
                members.sizes.writer
            } else {
                members.sizes.reader
            };
            let existing = members
                .current
                .iter()
                .find(|sub_pool| *sub_pool.generation.host() == host.addr);
            if let Some(sub_pool) = existing {
                sub_pool.generation.update(is_writer, host.started_at);
                // A promoted standby takes its connections along.
                D::grow(&sub_pool.pool, size);
            } else if host.foreign.is_none() {
                let generation = Generation::new(
                    &self.cluster,
                    host.addr.clone(),
                    host.generation,
                    self.generations.token(),
                );
                generation.update(is_writer, host.started_at);
                members.current.push(Arc::new(SubPool {
                    pool: self.driver.open(&generation, size),
                    generation,
                }));
            }
        }
    }

    fn routes_of(&self, members: &Members<D>, topology: &Topology, state: State) -> Routes<D> {
        let of = |addr: &HostAddr| {
            members
                .current
                .iter()
                .find(|sub_pool| sub_pool.generation.host() == addr)
                .cloned()
        };
        let writer = topology.writer.as_ref().and_then(of);
        let before = self.routes.load();
        let same = match (&before.writer, &writer) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        Routes {
            writer_since: if same {
                before.writer_since
            } else {
                Instant::now()
            },
            writer,
            readers: topology
                .hosts()
                .iter()
                .enumerate()
                .filter(|(_, host)| host.is_reader())
                .filter_map(|(place, host)| {
                    Some(Reader {
                        sub_pool: of(&host.addr)?,
                        place,
                    })
                })
                .collect(),
            read_only: topology
                .hosts()
                .iter()
                .find(|host| is_closed_primary(host))
                .and_then(|host| of(&host.addr)),
            alone: topology.hosts().len() == 1,
            state,
        }
    }
}

impl<D: Driver> Drop for SubPools<D> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
        self.close();
    }
}

impl<D: Driver> fmt::Debug for SubPools<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubPools")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl<D: Driver> fmt::Debug for SubPool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubPool")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
