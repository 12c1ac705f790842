//! Keeping the sub-pools as they should be: enough connections, none too old, none idle for long.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::{self, Duration},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Driver, Generation, Stamp, SubPool, SubPools, life::Lives};
use crate::{
    failover::{Event, Report},
    monitor::Cluster,
};

/// The pauses after a host gave no session.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How long to rest after a panic, so that one that comes back does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

impl<D: Driver> SubPools<D> {
    /// Starts the task that keeps the sub-pools as they should be, if there is anything to do for
    /// it. It ends with the pool.
    pub fn keep(self: &Arc<Self>) {
        let limits = &self.limits;
        let keeps_minimum = limits.writer_min_size > 0 || limits.reader_min_size > 0;
        let interval = self.lives.interval(keeps_minimum);
        if interval.is_none() && limits.warm_up == 0 {
            return;
        }
        let keeper = Keeper {
            pools: Arc::downgrade(self),
            changed: self.changed.subscribe(),
            interval,
            tended: Vec::new(),
            opening: FuturesUnordered::new(),
            writer: Weak::new(),
        };
        let task = self
            .cluster
            .runtime()
            .spawn(keeper.run(self.cluster.clone()));
        // Owned by the pool, which aborts it when it is dropped.
        if self.keeper.set(task.abort_handle()).is_err() {
            task.abort();
        }
    }
}

struct Keeper<D: Driver> {
    pools: Weak<SubPools<D>>,
    changed: watch::Receiver<u64>,
    /// How often to look without a cause.
    interval: Option<Duration>,
    tended: Vec<Tended>,
    opening: FuturesUnordered<BoxFuture<'static, (Weak<Generation>, Opened)>>,
    /// The writer that has been seen last.
    writer: Weak<Generation>,
}

/// What is known of one sub-pool.
struct Tended {
    generation: Weak<Generation>,
    /// Since when connections are idle, as far as it was seen.
    idle: HashMap<Stamp, time::Instant>,
    opening: usize,
    failures: u32,
    rest_until: Option<Instant>,
    /// How many connections to have once, as a new writer.
    warm_up: usize,
}

/// How the opening of a connection ended.
enum Opened {
    Yes,
    No,
}

impl<D: Driver> Keeper<D> {
    /// Works until the pool is closed or dropped. A panic is told and survived.
    async fn run(mut self, cluster: Cluster) {
        while AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            let task = "keeper".to_owned();
            cluster.emit(Event::TaskRestarted { task });
            // What was about to be opened is opened anew.
            self.opening.clear();
            self.tended.clear();
            sleep(RESTART_PAUSE).await;
        }
    }

    async fn work(&mut self) {
        loop {
            self.changed.borrow_and_update();
            let Some(next) = self.round() else {
                return;
            };
            let wake = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() {
                    return;
                },
                Some((generation, opened)) = self.opening.next() => {
                    self.opened(&generation, opened);
                }
                () = wake => {}
            }
        }
    }

    /// Looks after each sub-pool, and says when to look again; `None` when the pool is closed.
    fn round(&mut self) -> Option<Option<Instant>> {
        let pools = self.pools.upgrade()?;
        let state = pools.routes.load().state;
        if state.closed {
            return None;
        }
        let now = Instant::now();
        let sub_pools = pools.to_keep();
        self.tended.retain(|tended| {
            let mut current = sub_pools.iter();
            current.any(|(sub_pool, _)| is(&tended.generation, &sub_pool.generation))
        });
        let writer = pools.routes.load().writer.clone();
        let limits = &pools.limits;
        let most_opening = pools.cluster.config().pool().max_concurrent_connects / 2;
        let mut next = self.interval.map(|interval| now + interval);
        for (sub_pool, min_size) in sub_pools {
            let tended = self.tended(&sub_pool.generation);
            if let Some(writer) = &writer {
                if Arc::ptr_eq(writer, &sub_pool) && !is(&self.writer, &writer.generation) {
                    self.writer = Arc::downgrade(&writer.generation);
                    self.tended[tended].warm_up = limits.warm_up;
                }
            }
            let tended = &mut self.tended[tended];
            let replace = tended.sweep(&*sub_pool, min_size, &pools.lives, now.into_std());
            let Some(min_size) = min_size else {
                continue;
            };
            let counts = D::counts(&sub_pool.pool);
            let begun = counts.size + tended.opening.max(counts.waiting);
            if tended.warm_up <= counts.size && sub_pool.generation.is_writer() {
                tended.warm_up = 0;
                // Those who wait are held back for nothing else.
                if limits.warm_up > 0 && sub_pool.generation.set_warm() {
                    pools.changed.send_modify(|count| *count += 1);
                }
            }
            let wanted = (min_size + replace)
                .max(tended.warm_up)
                .min(counts.max_size);
            let may_open = !state.paused && !state.draining;
            if !may_open || begun >= wanted {
                continue;
            }
            if let Some(until) = tended.rest_until.filter(|until| *until > now) {
                next = next.into_iter().chain([until]).min();
                continue;
            }
            // A checkout that comes now must be admitted without waiting for these.
            let room = most_opening.max(1).saturating_sub(tended.opening);
            for _ in 0..room.min(wanted - begun) {
                tended.opening += 1;
                self.opening.push(open_one(sub_pool.clone()).boxed());
            }
        }
        Some(next)
    }

    /// The place of what is known of a sub-pool.
    fn tended(&mut self, generation: &Arc<Generation>) -> usize {
        let place = self
            .tended
            .iter()
            .position(|tended| is(&tended.generation, generation));
        place.unwrap_or_else(|| {
            self.tended.push(Tended {
                generation: Arc::downgrade(generation),
                idle: HashMap::new(),
                opening: 0,
                failures: 0,
                rest_until: None,
                warm_up: 0,
            });
            self.tended.len() - 1
        })
    }

    fn opened(&mut self, generation: &Weak<Generation>, opened: Opened) {
        let mut tended = self.tended.iter_mut();
        let Some(tended) = tended.find(|tended| tended.generation.ptr_eq(generation)) else {
            return;
        };
        tended.opening -= 1;
        match opened {
            Opened::Yes => (tended.failures, tended.rest_until) = (0, None),
            Opened::No => {
                let rest = FIRST_REST.saturating_mul(1 << tended.failures.min(16));
                // Several that failed together count once.
                let now = Instant::now();
                if tended.rest_until.is_none_or(|until| until <= now) {
                    tended.failures += 1;
                    let share = 0.5 + fastrand::f64() / 2.0;
                    tended.rest_until = Some(now + rest.min(LONGEST_REST).mul_f64(share));
                }
                // The minimum goes on being tried for; nobody is held back for a warm-up.
                tended.warm_up = 0;
            }
        }
    }
}

fn is(known: &Weak<Generation>, generation: &Arc<Generation>) -> bool {
    std::ptr::eq(known.as_ptr(), Arc::as_ptr(generation))
}

impl Tended {
    /// Closes idle connections that are over. Says how many are too old, but have to be replaced
    /// before they are closed.
    fn sweep<D: Driver>(
        &mut self,
        sub_pool: &SubPool<D>,
        min_size: Option<usize>,
        lives: &Lives,
        now: time::Instant,
    ) -> usize {
        let counts = D::counts(&sub_pool.pool);
        let min_size = min_size.unwrap_or(0);
        // Where there is no room for a replacement, one at a time is closed before it.
        let least = min_size.min(counts.max_size.saturating_sub(1));
        let mut size = counts.size;
        let mut replace = 0;
        let before = std::mem::take(&mut self.idle);
        D::retain(&sub_pool.pool, &mut |stamp| {
            let since = before.get(&stamp).copied().unwrap_or(now);
            let is_too_old = lives.is_over(stamp.opened, now);
            let is_idle = lives.is_idle_over(stamp.opened, now.saturating_duration_since(since));
            if (is_too_old && size > least) || (is_idle && size > min_size) {
                size -= 1;
                return false;
            }
            replace += usize::from(is_too_old);
            self.idle.insert(stamp, since);
            true
        });
        replace
    }
}

/// Has the sub-pool open one more connection, which is idle then.
async fn open_one<D: Driver>(sub_pool: Arc<SubPool<D>>) -> (Weak<Generation>, Opened) {
    let generation = sub_pool.generation.clone();
    let limit = generation.config().pool().connect_timeout.saturating_mul(2);
    let opened = tokio::select! {
        biased;
        () = generation.retired() => Opened::No,
        opened = timeout(limit, D::add(&sub_pool.pool)) => match opened {
            Ok(Ok(())) => Opened::Yes,
            Ok(Err(_)) | Err(_) => {
                generation.report(Report::ConnectFailed);
                Opened::No
            }
        },
    };
    (Arc::downgrade(&generation), opened)
}
