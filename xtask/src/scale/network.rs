//! How connections are opened: the way there, the kernel's backlog, the server's fork and login.

use std::time::Duration;

use super::{
    scenario::{Fault, LOGIN_TURNS, MONITOR_TURNS, SYN_AGAIN},
    server::{Caller, Purpose, too_many},
    world::{Event, World},
};

impl World<'_> {
    /// Sets out to open a connection.
    pub(super) fn connect(&mut self, host: u8, caller: Caller) {
        let way = self.way();
        let is_pool = caller.purpose == Purpose::Pool;
        self.tally.asked(self.agenda.now(), host, is_pool);
        let tries = 0;
        let event = Event::Connect {
            host,
            caller,
            tries,
        };
        self.agenda.after(way, event);
    }

    pub(super) fn connect_arrives(&mut self, host: u8, caller: Caller, tries: u32) {
        let now = self.agenda.now();
        let server = &mut self.servers[usize::from(host)];
        match server.lost(now) {
            Some(Fault::Kill) => self.refuse(host, caller),
            Some(Fault::Freeze) => {}
            None if !self.is_wanted(host, &caller) => {}
            None if self.servers[usize::from(host)].backlog.len()
                >= self.scenario.model.backlog =>
            {
                self.tally.dropped(host);
                let pause = SYN_AGAIN.saturating_mul(1 << tries.min(16));
                let tries = tries + 1;
                let event = Event::Connect {
                    host,
                    caller,
                    tries,
                };
                self.agenda.after(pause, event);
            }
            None => {
                self.servers[usize::from(host)].backlog.push_back(caller);
                self.fork(host);
            }
        }
    }

    fn refuse(&mut self, host: u8, caller: Caller) {
        let way = self.way();
        self.agenda.after(way, Event::Refused { host, caller });
    }

    /// Has the server take the next of its backlog, if it is free.
    fn fork(&mut self, host: u8) {
        let server = &mut self.servers[usize::from(host)];
        if !server.is_forking && !server.backlog.is_empty() {
            server.is_forking = true;
            let takes = Duration::from_secs(1) / self.scenario.model.connects_per_second;
            self.agenda.after(takes, Event::Forked { host });
        }
    }

    pub(super) fn forked(&mut self, host: u8) {
        let now = self.agenda.now();
        let server = &mut self.servers[usize::from(host)];
        server.is_forking = false;
        if let Some(fault) = server.lost(now) {
            let waiting = std::mem::take(&mut server.backlog);
            if fault == Fault::Kill {
                for caller in waiting {
                    self.refuse(host, caller);
                }
            }
            return;
        }
        let Some(caller) = server.backlog.pop_front() else {
            return;
        };
        self.fork(host);
        let is_wanted = self.is_wanted(host, &caller);
        self.tally.forked(now, host, is_wanted);
        // It has cost the server as much as any other.
        if !is_wanted {
            return;
        }
        let turns = match caller.purpose {
            Purpose::Pool => LOGIN_TURNS,
            Purpose::Monitor(_) => LOGIN_TURNS + MONITOR_TURNS,
        };
        let mut way = self.way();
        for _ in 0..turns {
            way += self.way() + self.way();
        }
        let server = &mut self.servers[usize::from(host)];
        if server.sessions >= self.scenario.model.max_connections {
            self.agenda.after(way, Event::Denied { host, caller });
            return;
        }
        server.sessions += 1;
        self.tally.sessions(host, server.sessions);
        match caller.purpose {
            Purpose::Pool => self.connect_taken(&caller),
            Purpose::Monitor(_) => self.fresh_taken(host, &caller),
        }
        self.agenda.after(way, Event::Opened { host, caller });
    }

    /// Whether the caller has not given it up.
    fn is_wanted(&self, host: u8, caller: &Caller) -> bool {
        match caller.purpose {
            Purpose::Pool => self.wants_connection(caller),
            Purpose::Monitor(_) => self.wants_fresh(host, caller),
        }
    }

    pub(super) fn opened(&mut self, host: u8, caller: Caller) {
        if !self.is_wanted(host, &caller) {
            return;
        }
        match caller.purpose {
            Purpose::Pool => self.connected(&caller),
            Purpose::Monitor(_) => self.fresh_opened(host, &caller),
        }
    }

    pub(super) fn refused(&mut self, host: u8, caller: Caller) {
        if self.is_wanted(host, &caller) {
            match caller.purpose {
                Purpose::Pool => self.connect_failed(caller.client, caller.attempt),
                Purpose::Monitor(_) => {
                    self.fresh_failed(host, &caller, leadpool::failover::Failure::Refused);
                }
            }
        }
    }

    pub(super) fn denied(&mut self, host: u8, caller: Caller) {
        self.tally.denied(host);
        if self.is_wanted(host, &caller) {
            match caller.purpose {
                Purpose::Pool => self.connect_failed(caller.client, caller.attempt),
                Purpose::Monitor(_) => self.fresh_failed(host, &caller, too_many()),
            }
        }
    }
}
