//! What could stand in deadpool-postgres' place, at its barest.
//!
//! No pool to be used: it opens nothing again, and knows no limits. It shows how quick a checkout
//! can be where whoever returns a connection hands it to the one who has waited longest: neither
//! goes through a semaphore and a list of idle connections.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::sleep;

use super::{Error, peer::Peer, prepared::Prepared};

/// leadpool's default for a whole checkout.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Sketch {
    shared: Arc<Mutex<Shared>>,
    has_deadline: bool,
}

#[derive(Default)]
struct Shared {
    idle: Vec<Prepared>,
    queue: VecDeque<Arc<Waiter>>,
}

/// Where one who waits is given a connection.
#[derive(Default)]
struct Waiter(Mutex<(Option<Prepared>, Option<Waker>)>);

/// A connection on loan.
pub(super) struct Lent {
    /// `None` only while it is being dropped.
    conn: Option<Prepared>,
    shared: Arc<Mutex<Shared>>,
}

/// A place in the queue.
struct Place<'a> {
    shared: &'a Mutex<Shared>,
    waiter: Arc<Waiter>,
    is_served: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn give_back(shared: &Mutex<Shared>, conn: Prepared) {
    if conn.client.is_closed() {
        return;
    }
    let mut locked = lock(shared);
    let Some(waiter) = locked.queue.pop_front() else {
        locked.idle.push(conn);
        return;
    };
    drop(locked);
    let waker = {
        let mut given = lock(&waiter.0);
        given.0 = Some(conn);
        given.1.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            give_back(&self.shared, conn);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_served {
            return;
        }
        lock(self.shared)
            .queue
            .retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        let given = lock(&self.waiter.0).0.take();
        if let Some(conn) = given {
            give_back(self.shared, conn);
        }
    }
}

impl Sketch {
    pub(super) async fn open(url: &str, size: usize, has_deadline: bool) -> Result<Self, Error> {
        let config = url.parse()?;
        let mut shared = Shared::default();
        for _ in 0..size {
            shared.idle.push(Prepared::connect(&config).await?);
        }
        Ok(Self {
            shared: Arc::new(Mutex::new(shared)),
            has_deadline,
        })
    }

    fn lend(&self, conn: Prepared) -> Lent {
        Lent {
            conn: Some(conn),
            shared: self.shared.clone(),
        }
    }

    async fn take(&self) -> Result<Lent, Error> {
        let waiter = {
            let mut shared = lock(&self.shared);
            if let Some(conn) = shared.idle.pop() {
                drop(shared);
                return Ok(self.lend(conn));
            }
            let waiter = Arc::new(Waiter::default());
            shared.queue.push_back(waiter.clone());
            waiter
        };
        let mut place = Place {
            shared: &self.shared,
            waiter,
            is_served: false,
        };
        let mut deadline = pin!(self.has_deadline.then(|| sleep(DEADLINE)));
        let given = poll_fn(|cx| {
            let mut given = lock(&place.waiter.0);
            if let Some(conn) = given.0.take() {
                return Poll::Ready(Some(conn));
            }
            given.1 = Some(cx.waker().clone());
            drop(given);
            match deadline.as_mut().as_pin_mut() {
                Some(deadline) => deadline.poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        });
        let conn = given.await.ok_or("no connection in time")?;
        place.is_served = true;
        Ok(self.lend(conn))
    }
}

impl Lent {
    fn conn(&mut self) -> Result<&mut Prepared, Error> {
        self.conn.as_mut().ok_or_else(|| "it is gone".into())
    }
}

impl Peer for Sketch {
    type Conn = Lent;

    async fn get(&self) -> Result<Lent, Error> {
        self.take().await
    }

    async fn select_one(lent: &mut Lent) -> Result<(), Error> {
        lent.conn()?.select_one().await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        self.take().await?.conn()?.transaction(inserts).await
    }
}
