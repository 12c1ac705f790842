//! A driver that opens and counts like a real one, and a stage of hosts for it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore};

use super::super::{Driver, Generation, GetError, PoolCounts, Purpose, Stamp, SubPools};
use crate::{
    config::{Config, ConfigBuilder},
    error::Error,
    failover::{Answer, Input, Machine},
    monitor::{Cluster, Follower as _},
    topology::{HostAddr, Target, Term, Topology},
};

/// What the test decides, for all hosts.
pub(super) struct Script {
    /// How many more connections may be opened.
    pub(super) may_open: Semaphore,
    /// Hosts give no session.
    pub(super) refuses: AtomicBool,
    /// The next look after idle connections panics.
    pub(super) panics: AtomicBool,
    pub(super) opened: AtomicUsize,
    pub(super) attempts: AtomicUsize,
    pub(super) opening: AtomicUsize,
    pub(super) most_opening: AtomicUsize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            may_open: Semaphore::new(1_000_000),
            refuses: AtomicBool::default(),
            panics: AtomicBool::default(),
            opened: AtomicUsize::default(),
            attempts: AtomicUsize::default(),
            opening: AtomicUsize::default(),
            most_opening: AtomicUsize::default(),
        }
    }
}

impl Script {
    /// From here on connections hang while they are opened.
    pub(super) fn no_more(&self) {
        self.may_open.forget_permits(1_000_000);
    }
}

#[derive(Clone, Default)]
pub(super) struct Counted(pub(super) Arc<Script>);

pub(super) struct CountedPool {
    pub(super) slots: Arc<Slots>,
    script: Arc<Script>,
}

pub(super) struct Slots {
    pub(super) host: HostAddr,
    state: Mutex<State>,
    /// Checkouts that have begun and neither ended nor come back.
    users: AtomicUsize,
    places: Semaphore,
    closed: Notify,
}

#[derive(Default)]
struct State {
    idle: VecDeque<Stamp>,
    size: usize,
    max_size: usize,
}

pub(super) struct Conn {
    pub(super) stamp: Stamp,
    is_discarded: bool,
    slots: Arc<Slots>,
}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
pub(super) struct Refused;

struct User<'a>(&'a AtomicUsize);

impl<'a> User<'a> {
    fn new(users: &'a AtomicUsize) -> Self {
        users.fetch_add(1, Ordering::SeqCst);
        Self(users)
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CountedPool {
    fn take(&self) -> Option<Conn> {
        let mut stamp = self.slots.state.lock().unwrap().idle.pop_back()?;
        stamp.taken = Some(Instant::now());
        Some(Conn {
            stamp,
            is_discarded: false,
            slots: self.slots.clone(),
        })
    }

    async fn open(&self) -> Result<Conn, GetError<Refused>> {
        let script = &self.script;
        script.attempts.fetch_add(1, Ordering::SeqCst);
        let opening = User::new(&script.opening);
        let now = script.opening.load(Ordering::SeqCst);
        script.most_opening.fetch_max(now, Ordering::SeqCst);
        script.may_open.acquire().await.unwrap().forget();
        drop(opening);
        if script.refuses.load(Ordering::SeqCst) {
            return Err(GetError::Connect(Refused));
        }
        script.opened.fetch_add(1, Ordering::SeqCst);
        self.slots.state.lock().unwrap().size += 1;
        Ok(Conn {
            stamp: Stamp {
                opened: Instant::now(),
                taken: None,
            },
            is_discarded: false,
            slots: self.slots.clone(),
        })
    }

    /// Makes all idle connections older.
    pub(super) fn age(&self, by: Duration) {
        for stamp in &mut self.slots.state.lock().unwrap().idle {
            stamp.opened -= by;
        }
    }
}

impl Driver for Counted {
    type Pool = CountedPool;
    type Conn = Conn;
    type Error = Refused;

    fn open(&self, generation: &Arc<Generation>, size: usize) -> CountedPool {
        CountedPool {
            slots: Arc::new(Slots {
                host: generation.host().clone(),
                state: Mutex::new(State {
                    max_size: size,
                    ..State::default()
                }),
                users: AtomicUsize::new(0),
                places: Semaphore::new(size),
                closed: Notify::new(),
            }),
            script: self.0.clone(),
        }
    }

    fn try_get(pool: &CountedPool) -> Option<Conn> {
        let place = pool.slots.places.try_acquire().ok()?;
        let conn = pool.take()?;
        place.forget();
        pool.slots.users.fetch_add(1, Ordering::SeqCst);
        Some(conn)
    }

    async fn get(pool: &CountedPool) -> Result<Conn, GetError<Refused>> {
        let user = User::new(&pool.slots.users);
        let got = async {
            let Ok(place) = pool.slots.places.acquire().await else {
                return Err(GetError::Closed);
            };
            let conn = match pool.take() {
                Some(conn) => conn,
                None => pool.open().await?,
            };
            place.forget();
            Ok(conn)
        };
        let got = got.await?;
        std::mem::forget(user);
        Ok(got)
    }

    fn close(pool: &CountedPool) {
        pool.slots.places.close();
        let mut state = pool.slots.state.lock().unwrap();
        state.size -= state.idle.len();
        state.idle.clear();
        pool.slots.closed.notify_waiters();
    }

    fn discard(mut conn: Conn) {
        conn.is_discarded = true;
    }

    fn grow(_: &CountedPool, _: usize) {}

    fn stamp(conn: &Conn) -> Option<Stamp> {
        Some(conn.stamp)
    }

    fn retain(pool: &CountedPool, keep: &mut dyn FnMut(Stamp) -> bool) {
        if pool.script.panics.swap(false, Ordering::SeqCst) {
            panic!("on purpose");
        }
        let mut state = pool.slots.state.lock().unwrap();
        let before = state.idle.len();
        state.idle.retain(|stamp| keep(*stamp));
        state.size -= before - state.idle.len();
    }

    fn counts(pool: &CountedPool) -> PoolCounts {
        let state = pool.slots.state.lock().unwrap();
        let users = pool.slots.users.load(Ordering::SeqCst);
        PoolCounts {
            max_size: state.max_size,
            size: state.size,
            idle: state.size.saturating_sub(users),
            waiting: users.saturating_sub(state.size),
        }
    }

    fn is_curable(_: &Refused) -> bool {
        true
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let slots = &self.slots;
        slots.users.fetch_sub(1, Ordering::SeqCst);
        let mut state = slots.state.lock().unwrap();
        if self.is_discarded || slots.places.is_closed() {
            state.size -= 1;
        } else {
            state.idle.push_back(self.stamp);
        }
        drop(state);
        slots.places.add_permits(1);
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection to {}", self.slots.host)
    }
}

/// Pools whose topology the test alone decides.
pub(super) struct Stage {
    pub(super) pools: Arc<SubPools<Counted>>,
    pub(super) script: Arc<Script>,
    pub(super) cluster: Cluster,
    machine: Machine,
    pub(super) hosts: Vec<HostAddr>,
}

impl Stage {
    /// A primary and a standby.
    pub(super) async fn set(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let mut stage = Self::set_without_writer(change).await;
        stage.answers(1, Answer::standby());
        stage.promoted(0, 1);
        stage
    }

    pub(super) async fn set_without_writer(
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Self {
        // Nobody listens there, and what the monitor finds comes with lower epochs.
        let url = "postgres://127.0.0.1:1,127.0.0.2:1/x";
        let config = change(Config::builder(url).lazy(true)).build().unwrap();
        let hosts = config.hosts().to_vec();
        let machine = Machine::new(&hosts, config.monitor().clone());
        let cluster = Cluster::connect(config).await.unwrap();
        let driver = Counted::default();
        let script = driver.0.clone();
        let pools = SubPools::new(&cluster, driver);
        Self {
            pools,
            script,
            cluster,
            machine,
            hosts,
        }
    }

    pub(super) fn answers(&mut self, at: usize, answer: Answer) {
        let host = self.hosts[at].clone();
        self.machine
            .handle(Duration::from_secs(1), Input::Answered { host, answer });
        let mut topology: Topology = self.machine.topology();
        topology.epoch += 1_000_000;
        self.pools.follow(&Arc::new(topology));
    }

    pub(super) fn promoted(&mut self, at: usize, timeline: u32) {
        self.answers(at, Answer::primary(Term::from_timeline(timeline)));
    }

    pub(super) fn counts(&self, at: usize) -> PoolCounts {
        let host = &self.hosts[at];
        let sub_pools = self.pools.status().sub_pools;
        let of_host = sub_pools
            .iter()
            .find(|sub_pool| sub_pool.host == *host)
            .unwrap();
        of_host.counts
    }

    /// The writer's pool.
    pub(super) fn writer(&self) -> Arc<super::super::SubPool<Counted>> {
        self.pools.routes.load().writer.clone().unwrap()
    }

    /// A checkout that stands on its own, so that the stage can go on changing.
    pub(super) fn get(
        &self,
        purpose: Purpose,
        target: Target,
    ) -> impl Future<Output = Result<Conn, Error>> + Send + use<> {
        let pools = self.pools.clone();
        async move {
            let limit = Duration::from_secs(20);
            pools.checkout(purpose, target, limit, |conn, _| conn).await
        }
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
