//! The pools: who waits for the new writer, and how they come by connections.

use std::collections::VecDeque;

use leadpool::{
    adapter::pause_after,
    failover::{Input, Report},
};

use super::{
    clock::Time,
    server::{Caller, Purpose},
    world::{Event, World},
};

/// The writer's sub-pool of one client.
#[derive(Debug, Default)]
pub(super) struct Pool {
    writer: Option<u8>,
    /// Tells one writer from the next.
    round: u32,
    /// Checkouts that have not got a connection yet.
    unserved: u32,
    waits: bool,
    is_over: bool,
    pub(super) first_served: Option<Time>,
    /// How many more connections the pool may have.
    room: usize,
    idle: usize,
    /// Those who wait for admission, with how often each has failed before.
    queue: VecDeque<u32>,
    /// Those who wait until a connection comes back.
    for_return: u32,
    connecting: Vec<Connecting>,
}

#[derive(Debug)]
struct Connecting {
    attempt: u64,
    failures: u32,
    /// The server has a session for it.
    is_taken: bool,
}

impl World<'_> {
    fn pool(&mut self, client: u32) -> &mut Pool {
        &mut self.clients[client as usize].pool
    }

    /// Writes go elsewhere from now on, or nowhere.
    pub(super) fn writer_changed(&mut self, client: u32, had_one: bool, to: Option<u8>) {
        let checkouts = self.scenario.checkouts;
        let pool = self.pool(client);
        if had_one && !pool.waits && !pool.is_over {
            pool.waits = true;
            pool.unserved = checkouts;
            let timeout = self.scenario.config.pool().checkout_timeout;
            self.agenda.after(timeout, Event::Deadline { client });
            self.tally.waits(checkouts);
        }
        self.abandon(client);
        let pool = self.pool(client);
        pool.round += 1;
        pool.writer = to;
        if to.is_some() && pool.waits {
            self.tally.found(self.agenda.now());
            self.serve_all(client);
        }
    }

    /// Everybody who waits goes on: to a connection that is open, to open one, or to wait for one
    /// to come back.
    fn serve_all(&mut self, client: u32) {
        let config = &self.scenario.config;
        let kept = config.limits().reader_min_size;
        let size = config.pool().writer_size;
        let pool = self.pool(client);
        let waiting = pool.unserved;
        let served = kept.min(waiting as usize);
        pool.idle = kept - served;
        pool.room = size - kept.min(size);
        let opening = pool.room.min(waiting as usize - served);
        pool.room -= opening;
        pool.queue = std::iter::repeat_n(0, opening).collect();
        pool.for_return = waiting - served as u32 - opening as u32;
        for _ in 0..served {
            self.serve(client);
        }
        self.admit(client);
    }

    /// One of those who wait has a connection.
    fn serve(&mut self, client: u32) {
        let now = self.agenda.now();
        let pool = self.pool(client);
        pool.unserved -= 1;
        let is_first = pool.first_served.is_none();
        let is_last = pool.unserved == 0;
        pool.first_served.get_or_insert(now);
        pool.is_over |= is_last;
        let round = pool.round;
        self.tally.served(now, is_first, is_last);
        let returned = Event::Returned { client, round };
        self.agenda.after(self.scenario.use_for, returned);
    }

    pub(super) fn returned(&mut self, client: u32, round: u32) {
        let pool = self.pool(client);
        if pool.round != round {
            return;
        }
        if pool.for_return > 0 {
            pool.for_return -= 1;
            self.serve(client);
        } else {
            pool.idle += 1;
        }
    }

    /// Begins to open connections, as many at the same time as may be.
    fn admit(&mut self, client: u32) {
        let cap = self.scenario.cap();
        loop {
            let pool = self.pool(client);
            let Some(host) = pool.writer.filter(|_| pool.connecting.len() < cap) else {
                return;
            };
            let Some(failures) = pool.queue.pop_front() else {
                return;
            };
            let attempt = self.attempt(client);
            let pool = self.pool(client);
            pool.connecting.push(Connecting {
                attempt,
                failures,
                is_taken: false,
            });
            let at_once = pool.connecting.len();
            self.tally.connecting(at_once, 1);
            let caller = Caller {
                client,
                purpose: Purpose::Pool,
                attempt,
            };
            self.connect(host, caller);
            let limit = self.scenario.config.pool().connect_timeout;
            self.agenda
                .after(limit, Event::ConnectTimeout { client, attempt });
        }
    }

    pub(super) fn wants_connection(&self, caller: &Caller) -> bool {
        let pool = &self.clients[caller.client as usize].pool;
        let mut connecting = pool.connecting.iter();
        connecting.any(|one| one.attempt == caller.attempt)
    }

    pub(super) fn connect_taken(&mut self, caller: &Caller) {
        let mut connecting = self.pool(caller.client).connecting.iter_mut();
        if let Some(one) = connecting.find(|one| one.attempt == caller.attempt) {
            one.is_taken = true;
        }
    }

    pub(super) fn connected(&mut self, caller: &Caller) {
        if self
            .take_connecting(caller.client, caller.attempt)
            .is_some()
        {
            self.serve(caller.client);
            self.admit(caller.client);
        }
    }

    fn take_connecting(&mut self, client: u32, attempt: u64) -> Option<Connecting> {
        let connecting = &mut self.pool(client).connecting;
        let at = connecting.iter().position(|one| one.attempt == attempt)?;
        let one = connecting.remove(at);
        self.tally.connecting(0, -1);
        Some(one)
    }

    pub(super) fn connect_timeout(&mut self, client: u32, attempt: u64) {
        if self.wants_connection(&Caller {
            client,
            purpose: Purpose::Pool,
            attempt,
        }) {
            self.connect_failed(client, attempt);
        }
    }

    /// A connect has failed: the host is looked at, and the checkout rests.
    pub(super) fn connect_failed(&mut self, client: u32, attempt: u64) {
        let Some(one) = self.take_connecting(client, attempt) else {
            return;
        };
        self.tally.connect_failed();
        let Some(host) = self.pool(client).writer else {
            return;
        };
        self.servers[usize::from(host)].sessions -= usize::from(one.is_taken);
        let (way, back) = (self.way(), self.way());
        let pause = pause_after(one.failures, self.dice.f64());
        let pool = self.pool(client);
        let (round, failures) = (pool.round, one.failures + 1);
        let retry = Event::Retry {
            client,
            round,
            failures,
        };
        // Its place goes to the next in the queue.
        if pool.for_return > 0 {
            pool.for_return -= 1;
            pool.queue.push_back(0);
        } else {
            pool.room += 1;
        }
        self.agenda.after(way + back + pause, retry);
        self.admit(client);
        let name = self.names[usize::from(host)].clone();
        let topology = self.clients[client as usize].machine.topology();
        let generation = topology.host(&name).map_or(0, |view| view.generation);
        let reported = Input::Reported {
            host: name,
            generation,
            report: Report::ConnectFailed,
        };
        self.handle(client, reported);
    }

    pub(super) fn retry(&mut self, client: u32, round: u32, failures: u32) {
        let pool = self.pool(client);
        if pool.round != round || pool.is_over {
            return;
        }
        if pool.idle > 0 {
            pool.idle -= 1;
            self.serve(client);
        } else if pool.room > 0 {
            pool.room -= 1;
            pool.queue.push_back(failures);
            self.admit(client);
        } else {
            pool.for_return += 1;
        }
    }

    /// What is being opened is given up.
    fn abandon(&mut self, client: u32) {
        let pool = self.pool(client);
        let writer = pool.writer;
        let given_up = std::mem::take(&mut pool.connecting);
        pool.queue.clear();
        pool.for_return = 0;
        let taken = given_up.iter().filter(|one| one.is_taken).count();
        self.tally.connecting(0, -(given_up.len() as i64));
        if let Some(host) = writer {
            self.servers[usize::from(host)].sessions -= taken;
        }
    }

    pub(super) fn deadline(&mut self, client: u32) {
        let pool = self.pool(client);
        if pool.is_over {
            return;
        }
        pool.is_over = true;
        let left = std::mem::take(&mut pool.unserved);
        let is_first = pool.first_served.is_none();
        self.tally.failed(left, is_first);
        self.abandon(client);
    }
}
