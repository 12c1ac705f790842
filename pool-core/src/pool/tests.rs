//! The pool over a driver that does what the test says, so that every moment can be hit.

mod counted;
mod limits;
mod pauses;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use tokio::sync::Notify;

use super::{Driver, Generation, GetError, PoolCounts, Purpose, Stamp, SubPools};
use crate::{
    config::Config,
    error::Error,
    failover::{Answer, Input, Machine},
    monitor::{Cluster, Follower as _},
    topology::{HostAddr, Target, Term, Topology},
};

/// A driver whose connections are names: of the host, and of the generation.
#[derive(Default)]
struct Scripted {
    discarded: Arc<Mutex<Vec<Conn>>>,
}

type Conn = (HostAddr, u64);

/// Gives out a connection for each turn that it is granted, closed or not: a pool that has let
/// somebody through already gives him his connection.
struct ScriptedPool {
    conn: Conn,
    granted: Notify,
    idle: Mutex<VecDeque<Conn>>,
    discarded: Arc<Mutex<Vec<Conn>>>,
}

struct Borrowed {
    conn: Conn,
    discarded: Arc<Mutex<Vec<Conn>>>,
}

impl Driver for Scripted {
    type Pool = ScriptedPool;
    type Conn = Borrowed;
    type Error = Infallible;

    fn open(&self, generation: &Arc<Generation>, _: usize) -> ScriptedPool {
        ScriptedPool {
            conn: (generation.host().clone(), generation.number()),
            granted: Notify::new(),
            idle: Mutex::default(),
            discarded: self.discarded.clone(),
        }
    }

    fn try_get(pool: &ScriptedPool) -> Option<Borrowed> {
        pool.idle
            .lock()
            .unwrap()
            .pop_front()
            .map(|conn| pool.lend(conn))
    }

    async fn get(pool: &ScriptedPool) -> Result<Borrowed, GetError<Infallible>> {
        pool.granted.notified().await;
        Ok(pool.lend(pool.conn.clone()))
    }

    fn close(_: &ScriptedPool) {}

    fn discard(borrowed: Borrowed) {
        borrowed.discarded.lock().unwrap().push(borrowed.conn);
    }

    fn grow(_: &ScriptedPool, _: usize) {}

    fn stamp(_: &Borrowed) -> Option<Stamp> {
        None
    }

    fn retain(_: &ScriptedPool, _: &mut dyn FnMut(Stamp) -> bool) {}

    fn counts(_: &ScriptedPool) -> PoolCounts {
        PoolCounts::default()
    }

    fn is_curable(error: &Infallible) -> bool {
        match *error {}
    }
}

impl ScriptedPool {
    fn lend(&self, conn: Conn) -> Borrowed {
        Borrowed {
            conn,
            discarded: self.discarded.clone(),
        }
    }
}

/// Pools whose topology the test alone decides.
struct Stage {
    pools: Arc<SubPools<Scripted>>,
    machine: Machine,
    hosts: Vec<HostAddr>,
}

impl Stage {
    async fn set() -> Self {
        // Nobody listens there, and what the monitor finds comes with lower epochs.
        let url = "postgres://127.0.0.1:1,127.0.0.2:1/x";
        let config = Config::builder(url).lazy(true).build().unwrap();
        let hosts = config.hosts().to_vec();
        let machine = Machine::new(&hosts, config.monitor().clone());
        let cluster = Cluster::connect(config).await.unwrap();
        Self {
            pools: SubPools::new(&cluster, Scripted::default()),
            machine,
            hosts,
        }
    }

    /// The host says so, and the pools hear of it.
    fn answers(&mut self, at: usize, answer: Answer) {
        let host = self.hosts[at].clone();
        self.machine
            .handle(Duration::from_secs(1), Input::Answered { host, answer });
        let mut topology: Topology = self.machine.topology();
        topology.epoch += 1_000_000;
        self.pools.follow(&Arc::new(topology));
    }

    fn promoted(&mut self, at: usize, timeline: u32) {
        self.answers(at, Answer::primary(Term::from_timeline(timeline)));
    }

    fn writer(&self) -> Arc<super::SubPool<Scripted>> {
        self.pools.routes.load().writer.clone().unwrap()
    }

    /// A checkout that stands on its own, so that the stage can go on changing.
    fn checkout(&self) -> impl Future<Output = Result<Conn, Error>> + use<> {
        let pools = self.pools.clone();
        async move {
            let limit = Duration::from_secs(10);
            pools
                .checkout(Purpose::New, Target::Primary, limit, |borrowed, _| {
                    borrowed.conn
                })
                .await
        }
    }

    fn discarded(&self) -> Vec<Conn> {
        self.pools.driver.discarded.lock().unwrap().clone()
    }
}

/// Polls once.
async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn what_an_invalidated_pool_still_gives_is_discarded() {
    let mut stage = Stage::set().await;
    stage.answers(1, Answer::standby());
    stage.promoted(0, 1);
    let old = stage.writer();
    let mut waiting = pin!(stage.checkout());
    assert!(is_pending(waiting.as_mut()).await);
    stage.promoted(1, 2);
    // The old pool had let him through already.
    old.pool.granted.notify_one();
    stage.writer().pool.granted.notify_one();
    assert_eq!(waiting.await.unwrap().0, stage.hosts[1]);
    assert_eq!(stage.discarded(), [(stage.hosts[0].clone(), 1)]);
}

#[tokio::test]
async fn an_idle_connection_of_a_retired_generation_is_discarded() {
    let mut stage = Stage::set().await;
    stage.answers(1, Answer::standby());
    stage.promoted(0, 1);
    let old = stage.writer();
    old.pool
        .idle
        .lock()
        .unwrap()
        .push_back(old.pool.conn.clone());
    // Marked, while the new routes are not to be seen yet.
    old.generation.mark_retired();
    let mut waiting = pin!(stage.checkout());
    assert!(is_pending(waiting.as_mut()).await);
    assert_eq!(stage.discarded(), [(stage.hosts[0].clone(), 1)]);
    stage.promoted(1, 2);
    old.pool.granted.notify_one();
    stage.writer().pool.granted.notify_one();
    assert_eq!(waiting.await.unwrap().0, stage.hosts[1]);
}

#[tokio::test]
async fn nobody_overtakes_those_who_wait_for_a_writer() {
    let mut stage = Stage::set().await;
    let mut first = pin!(stage.checkout());
    assert!(is_pending(first.as_mut()).await);
    stage.answers(1, Answer::standby());
    stage.promoted(0, 1);
    let writer = stage.writer();
    // Somebody returns a connection before the first one has been woken.
    writer
        .pool
        .idle
        .lock()
        .unwrap()
        .push_back(writer.pool.conn.clone());
    let mut second = pin!(stage.checkout());
    assert!(is_pending(second.as_mut()).await);
    assert!(is_pending(first.as_mut()).await);
    assert!(is_pending(second.as_mut()).await);
    writer.pool.granted.notify_one();
    assert_eq!(first.await.unwrap().0, stage.hosts[0]);
    writer.pool.granted.notify_one();
    assert_eq!(second.await.unwrap().0, stage.hosts[0]);
}
