//! What the monitor tells the sub-pools, and asks of them.

use std::sync::{
    Arc, Weak,
    atomic::{Ordering, fence},
};

use super::{Driver, PoolCounts, SubPools};
use crate::{
    monitor::Follower,
    observe::Levels,
    topology::{HostAddr, Topology},
};

impl<D: Driver> Follower for SubPools<D> {
    fn follow(&self, topology: &Arc<Topology>) {
        let mut members = self.lock();
        if topology.epoch < members.topology.epoch {
            return;
        }
        members.topology = topology.clone();
        self.rebuild(&mut members, |_| false);
    }

    fn measure(&self, levels: &mut Levels) {
        levels.waiting_for_writer += self.gate.waiting();
        for sub_pool in &self.lock().current {
            let counts = D::counts(&sub_pool.pool);
            let used = counts.in_use();
            let PoolCounts {
                max_size,
                idle,
                waiting,
                ..
            } = counts;
            levels.add(sub_pool.generation.host(), max_size, idle, used, waiting);
        }
    }

    fn is_in_use(&self, host: &HostAddr) -> bool {
        let members = self.lock();
        let outside = || self.outside.get().is_some_and(|in_use| in_use());
        let current = members.current.iter().any(|sub_pool| {
            let generation = &sub_pool.generation;
            if generation.host() != host {
                return false;
            }
            let counts = D::counts(&sub_pool.pool);
            counts.in_use() + counts.waiting > 0
                || ((generation.is_writer() || generation.has_connections()) && outside())
        });
        let draining = || {
            let mut generations = members.draining.iter().filter_map(Weak::upgrade);
            generations.any(|generation| generation.host() == host && generation.has_connections())
        };
        current || draining()
    }

    fn pauses_changed(&self) {
        let mut members = self.lock();
        self.rebuild(&mut members, |_| false);
    }

    fn in_use(&self) -> usize {
        // Either a checkout sees the pause, or it is seen here.
        fence(Ordering::SeqCst);
        let members = self.lock();
        let counts = members
            .current
            .iter()
            .map(|sub_pool| D::counts(&sub_pool.pool));
        counts.map(|counts| counts.in_use() + counts.waiting).sum()
    }
}
