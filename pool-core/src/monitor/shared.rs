//! What the monitor shares with everybody: the newest topology, and who is to be told.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::Instant};

use super::{Pauses, Pulse, Replay};
use crate::{
    failover::Answer,
    observe::Levels,
    outcome::{History, Incarnation},
    topology::{HostAddr, Topology},
};

/// Someone who has to act on a new topology before anybody is told of it: the sub-pools.
pub(crate) trait Follower: Send + Sync {
    /// Acts on the topology. Called by the monitor, one after the other: must not block.
    fn follow(&self, topology: &Arc<Topology>);

    /// Adds how full it is.
    fn measure(&self, _levels: &mut Levels) {}

    /// Whether connections to that host are checked out, or waited for. Must not block.
    fn is_in_use(&self, host: &HostAddr) -> bool;

    /// Acts on the begin or the end of a pause. Must not block.
    fn pauses_changed(&self);

    /// How many connections are in use or about to be.
    fn in_use(&self) -> usize;
}

/// A short look at the newest topology.
pub(super) struct Glance(arc_swap::Guard<Arc<Topology>>);

impl std::ops::Deref for Glance {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.0
    }
}

/// The newest topology and its readers.
pub(crate) struct Shared {
    topology: ArcSwap<Topology>,
    followers: Mutex<Vec<Weak<dyn Follower>>>,
    /// The epoch, for those who wait for a change.
    epoch: watch::Sender<u64>,
    /// Set by checkouts of the writer, cleared by the worker.
    writing: AtomicBool,
    /// Set by checkouts of any host, cleared by the worker.
    used: AtomicBool,
    closed: AtomicBool,
    pulses: Mutex<HashMap<HostAddr, Arc<Pulse>>>,
    replays: Mutex<HashMap<HostAddr, Arc<Replay>>>,
    /// Who has all pools of the cluster paused.
    pauses: Pauses,
    /// What is remembered of promotions and flushed logs.
    history: Mutex<History>,
}

impl Shared {
    pub(super) fn new(topology: Topology) -> Self {
        Self {
            epoch: watch::Sender::new(topology.epoch),
            topology: ArcSwap::from_pointee(topology),
            followers: Mutex::new(Vec::new()),
            writing: AtomicBool::new(false),
            used: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            pulses: Mutex::default(),
            replays: Mutex::default(),
            pauses: Pauses::default(),
            history: Mutex::new(History::default()),
        }
    }

    /// The newest topology.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// The newest topology, without counting a reference: for those who look and are done.
    pub(super) fn glance(&self) -> Glance {
        Glance(self.topology.load())
    }

    /// What is remembered of promotions and flushed logs.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a host said of its life, asked after `begun`.
    pub(super) fn remember(&self, host: &HostAddr, begun: Instant, answer: &Answer) {
        let replay = {
            let replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
            replays.get(host).cloned()
        };
        if let Some(replay) = replay {
            replay.probed(begun.into_std(), answer);
        }
        let Some(started_at) = answer.started_at else {
            return;
        };
        if answer.recovering {
            self.history()
                .saw_standby(host, started_at, answer.position, answer.received);
            return;
        }
        let timeline = answer.term.and_then(|term| u32::try_from(term.get()).ok());
        let Some(timeline) = timeline else {
            return;
        };
        let incarnation = Incarnation {
            timeline,
            replayed: answer.recovered,
            received: answer.received,
            started_at,
        };
        let id = answer.system_identifier;
        self.history()
            .saw_primary(host, id, &incarnation, answer.flushed);
    }

    /// Wakes when the epoch changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// Adds a follower, which sees the newest topology at once and every later one.
    pub(crate) fn attach(&self, follower: &Arc<impl Follower + 'static>) {
        // Under the lock, so that no topology falls between the first look and the entry.
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        follower.follow(&self.topology());
        let weak: Weak<dyn Follower> = Arc::downgrade(&(follower.clone() as Arc<dyn Follower>));
        followers.push(weak);
    }

    /// All who follow.
    pub(super) fn followers(&self) -> Vec<Arc<dyn Follower>> {
        let followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        followers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Who has all pools of the cluster paused.
    pub(super) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Tells those who wait for a change that none will come.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.epoch.send_modify(|_| {});
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, topology: Arc<Topology>) {
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let epoch = topology.epoch;
        self.topology.store(topology.clone());
        if *self.epoch.borrow() == epoch {
            return;
        }
        followers.retain(|follower| match follower.upgrade() {
            Some(follower) => {
                follower.follow(&topology);
                true
            }
            None => false,
        });
        drop(followers);
        self.epoch.send_replace(epoch);
    }

    /// How full the followers are.
    pub(super) fn measure(&self) -> Levels {
        let followers: Vec<_> = {
            let followers = self
                .followers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            followers.iter().filter_map(Weak::upgrade).collect()
        };
        let mut levels = Levels::default();
        for follower in followers {
            follower.measure(&mut levels);
        }
        levels
    }

    /// Notes that the application writes; whether the monitor has to be told.
    #[inline]
    pub(crate) fn note_writing(&self) -> bool {
        !self.writing.load(Ordering::Relaxed) && !self.writing.swap(true, Ordering::Relaxed)
    }

    pub(super) fn take_writing(&self) -> bool {
        self.writing.swap(false, Ordering::Relaxed)
    }

    /// Notes that connections are in use; whether the monitor has to be told.
    #[inline]
    pub(crate) fn note_use(&self) -> bool {
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Whether a pool has connections to that host checked out.
    pub(super) fn is_in_use(&self, host: &HostAddr) -> bool {
        let followers: Vec<_> = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        // Not under the lock: the last one to hold a pool is the one that closes it.
        followers.iter().any(|follower| follower.is_in_use(host))
    }

    /// Where signs of a host's life are noted.
    pub(crate) fn pulse(&self, host: &HostAddr) -> Arc<Pulse> {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.entry(host.clone()).or_default().clone()
    }

    /// What is known of how far the host is.
    pub(crate) fn replay(&self, host: &HostAddr) -> Arc<Replay> {
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.entry(host.clone()).or_default().clone()
    }

    /// Forgets a host that has left.
    pub(super) fn drop_host(&self, host: &HostAddr) {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.remove(host);
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.remove(host);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}
