//! The way to a connection that is idle: without a wait, a clock or a lock of ours.

use std::sync::Arc;

use super::{Driver, Generation, Missed, SubPool, SubPools, gate::Gate};
use crate::topology::Target;

/// The sub-pool whose turn it was, though it had nothing idle.
pub(super) struct Chosen<D: Driver> {
    pub(super) sub_pool: Arc<SubPool<D>>,
    /// There was no room to open a connection.
    pub(super) is_full: bool,
}

impl<D: Driver> Chosen<D> {
    fn new(sub_pool: &Arc<SubPool<D>>, is_full: bool) -> Self {
        let sub_pool = sub_pool.clone();
        Self { sub_pool, is_full }
    }
}

impl<D: Driver> SubPools<D> {
    /// Takes a connection only if one is idle, and without overtaking anybody.
    pub fn try_checkout<R>(
        &self,
        target: Target,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> Option<R> {
        let hand_out = |conn, generation: &_| Some(hand_out(conn, generation));
        self.idle(target, hand_out, |_| None)
    }

    /// Hands out a connection that is idle, without overtaking anybody; else says whose turn it
    /// was.
    #[inline(always)]
    pub(super) fn idle<T>(
        &self,
        target: Target,
        hand_out: impl FnOnce(D::Conn, &Arc<Generation>) -> T,
        otherwise: impl FnOnce(Option<Chosen<D>>) -> T,
    ) -> T {
        if self.gate(target).is_queued() {
            return otherwise(None);
        }
        let routes = self.routes.load();
        let Some(sub_pool) = routes.route(target, &self.cluster) else {
            return otherwise(None);
        };
        // What has to be cleaned first takes a round trip, and must not be dropped meanwhile.
        if self.cleans {
            return otherwise(Some(Chosen::new(sub_pool, false)));
        }
        D::with_idle(
            &sub_pool.pool,
            |conn| {
                let is_fit = self.is_fit(sub_pool, conn);
                if is_fit {
                    self.meters.succeeded(target);
                }
                is_fit
            },
            |conn| hand_out(conn, &sub_pool.generation),
            |missed| match missed {
                Missed::Unfit(conn) => {
                    self.put_back(sub_pool, conn);
                    otherwise(None)
                }
                Missed::NotIdle => otherwise(Some(Chosen::new(sub_pool, false))),
                Missed::Exhausted => otherwise(Some(Chosen::new(sub_pool, true))),
            },
        )
    }

    /// The queue of those who ask for the same: the writer, or something else.
    #[inline]
    pub(super) fn gate(&self, target: Target) -> &Gate {
        match target {
            Target::Primary => &self.gate,
            _ => &self.other_gate,
        }
    }

    #[inline(always)]
    fn note(&self, sub_pool: &SubPool<D>) {
        if sub_pool.generation.is_writer() {
            self.cluster.note_writing();
        }
        self.cluster.note_use();
    }

    /// The last look before an idle connection is handed out.
    #[inline(always)]
    pub(super) fn is_fit(&self, sub_pool: &SubPool<D>, conn: &D::Conn) -> bool {
        self.note(sub_pool);
        sub_pool.generation.is_open() && !self.lives.is_over_when_taken(D::stamp(conn))
    }

    /// The last look before a connection is handed out to one who has waited for it.
    pub(super) fn admits(&self, sub_pool: &SubPool<D>, conn: &D::Conn) -> bool {
        self.note(sub_pool);
        !sub_pool.generation.is_retired() && !self.lives.is_over_when_taken(D::stamp(conn))
    }

    /// What is not handed out goes back, if it may be handed out later.
    #[cold]
    pub(super) fn put_back(&self, sub_pool: &SubPool<D>, conn: D::Conn) {
        if !self.admits(sub_pool, &conn) {
            D::discard(conn);
        }
    }
}
