//! The loop: clients and servers, and what happens to them.

use std::time::Duration;

use leadpool::{
    Event as Told, HostAddr,
    failover::{Action, Input, Machine, Pace},
};

use super::{
    clock::{Agenda, Time},
    pooling::Pool,
    probing::Prober,
    scenario::{Fault, Scenario},
    server::{Caller, Server},
    tally::Tally,
};

/// How many hosts there are; the first is the primary, and the second is promoted.
pub(super) const HOSTS: u8 = 3;
pub(super) const OLD: u8 = 0;
pub(super) const NEW: u8 = 1;

/// When the simulation begins: the connections that there are then are of different ages.
const START: Time = Time(60_000_000);
/// How long all is well before the fault.
pub(super) const CALM: Duration = Duration::from_secs(11);
/// How long it goes on after the promotion at least, and after everybody has been served.
const AFTERMATH: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(1);

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// It is time to probe a host.
    Due { client: u32, host: u8, turn: u32 },
    /// A probe's answer arrives: what the host was at `done`.
    Answered {
        client: u32,
        host: u8,
        turn: u32,
        is_fresh: bool,
        sent: Time,
        done: Time,
    },
    /// A probe has been silent for another while.
    Overdue { client: u32, host: u8, turn: u32 },
    /// A fresh connection has had its head start.
    HeadStartOver { client: u32, host: u8, turn: u32 },
    /// An open connection has been silent for so long that a fresh one is tried.
    SecondTry { client: u32, host: u8, turn: u32 },
    /// The old primary's end breaks the monitor's connection.
    SessionLost { client: u32 },
    /// A connect arrives at a host.
    Connect {
        host: u8,
        caller: Caller,
        tries: u32,
    },
    /// A host has done with the first of its backlog.
    Forked { host: u8 },
    /// A connect has succeeded.
    Opened { host: u8, caller: Caller },
    /// Nobody listens.
    Refused { host: u8, caller: Caller },
    /// There are too many sessions.
    Denied { host: u8, caller: Caller },
    /// A connect of the pool has taken too long.
    ConnectTimeout { client: u32, attempt: u64 },
    /// A checkout tries again after a failed connect.
    Retry {
        client: u32,
        round: u32,
        failures: u32,
    },
    /// A connection comes back.
    Returned { client: u32, round: u32 },
    /// Whoever still waits in this client has waited too long.
    Deadline { client: u32 },
    /// The client looks after the hosts that its connections lead to.
    Look { client: u32, has_heard: bool },
    /// The machine wants to be told that time has passed.
    Tick { client: u32 },
}

/// One instance of an application.
pub(super) struct Client {
    pub(super) machine: Machine,
    pub(super) pace: Pace,
    tick_at: Option<Duration>,
    pub(super) probers: [Prober; HOSTS as usize],
    pub(super) pool: Pool,
    attempts: u64,
}

/// Everything there is.
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) dice: fastrand::Rng,
    pub(super) agenda: Agenda<Event>,
    pub(super) names: Vec<HostAddr>,
    pub(super) servers: [Server; HOSTS as usize],
    pub(super) clients: Vec<Client>,
    pub(super) tally: Tally,
}

/// Plays it from beginning to end.
pub(super) fn play(scenario: &Scenario) -> Tally {
    World::new(scenario).run()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let names = scenario.config.hosts().to_vec();
        let settings = scenario.config.monitor();
        let clients = (0..scenario.clients).map(|_| {
            let machine = Machine::new(&names, settings.clone());
            Client {
                pace: machine.pace(Duration::ZERO),
                machine,
                tick_at: None,
                probers: std::array::from_fn(|_| Prober::new(&scenario.config)),
                pool: Pool::default(),
                attempts: 0,
            }
        });
        Self {
            scenario,
            dice: fastrand::Rng::with_seed(scenario.seed),
            agenda: Agenda::new(START),
            clients: clients.collect(),
            servers: std::array::from_fn(|number| Server::new(number as u8)),
            names,
            tally: Tally::new(START, START + CALM),
        }
    }

    fn run(mut self) -> Tally {
        let fault_at = START + CALM;
        let promoted_at = fault_at + self.scenario.promoted_after;
        for client in 0..self.scenario.clients {
            self.settle_in(client);
        }
        let mut end = promoted_at + AFTERMATH;
        if let Some(fault) = self.scenario.fault {
            self.servers[usize::from(OLD)].lose(fault_at, fault);
            self.servers[usize::from(NEW)].promote(promoted_at);
            for client in 0..self.scenario.clients {
                self.strike(client, fault, fault_at);
            }
        } else {
            end = fault_at;
        }
        self.tally.promoted_at = promoted_at;
        while let Some(event) = self.agenda.next(end) {
            self.happen(event);
            let is_over = self.scenario.fault.is_none() || self.tally.is_settled();
            if !is_over {
                end = end.max(self.agenda.now() + LINGER);
            }
        }
        self.tally.ended_at = self.agenda.now();
        self.tally
    }

    /// The client has been running for a while: it knows all hosts, and has a session with each, of
    /// any age.
    fn settle_in(&mut self, client: u32) {
        let now = self.agenda.now();
        for host in 0..HOSTS {
            let answer =
                self.servers[usize::from(host)].answer(now, self.scenario.model.round_trip);
            let name = self.names[usize::from(host)].clone();
            self.handle(client, Input::Answered { host: name, answer });
        }
        if self.scenario.is_writing {
            self.handle(client, Input::Writing(true));
            let writer = vec![self.names[usize::from(OLD)].clone()];
            let looked = Input::Looked {
                in_use: writer.clone(),
                heard: writer,
            };
            self.handle(client, looked);
        }
        let config = self.scenario.config.clone();
        let size = config
            .pool()
            .writer_size
            .min(self.scenario.checkouts as usize);
        let kept = config.limits().reader_min_size;
        for host in 0..HOSTS {
            let open = if host == OLD { size } else { kept };
            self.servers[usize::from(host)].sessions += 1 + open;
            self.settle_in_prober(client, host);
        }
    }

    /// Plans what the fault does to a client.
    fn strike(&mut self, client: u32, fault: Fault, at: Time) {
        match fault {
            Fault::Kill => {
                let way = self.way();
                self.agenda.at(at + way, Event::SessionLost { client });
            }
            // What came before the fault counts as heard at the next look.
            Fault::Freeze if self.scenario.is_writing => {
                let interval = self.scenario.config.monitor().watchdog_interval;
                let first = at + interval.mul_f64(self.dice.f64());
                let has_heard = true;
                self.agenda.at(first, Event::Look { client, has_heard });
            }
            Fault::Freeze => {}
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Due { client, host, turn } => self.due(client, host, turn),
            Event::Answered {
                client,
                host,
                turn,
                is_fresh,
                sent,
                done,
            } => {
                if self.is_asking(client, host, turn) {
                    let took = self.agenda.now().since(sent);
                    let answer = self.servers[usize::from(host)].answer(done, took);
                    self.answered(client, host, is_fresh, answer);
                }
            }
            Event::Overdue { client, host, turn } => self.overdue(client, host, turn),
            Event::HeadStartOver { client, host, turn } => {
                self.head_start_over(client, host, turn);
            }
            Event::SecondTry { client, host, turn } => self.second_try(client, host, turn),
            Event::SessionLost { client } => self.session_lost(client, OLD),
            Event::Connect {
                host,
                caller,
                tries,
            } => self.connect_arrives(host, caller, tries),
            Event::Forked { host } => self.forked(host),
            Event::Opened { host, caller } => self.opened(host, caller),
            Event::Refused { host, caller } => self.refused(host, caller),
            Event::Denied { host, caller } => self.denied(host, caller),
            Event::ConnectTimeout { client, attempt } => self.connect_timeout(client, attempt),
            Event::Retry {
                client,
                round,
                failures,
            } => self.retry(client, round, failures),
            Event::Returned { client, round } => self.returned(client, round),
            Event::Deadline { client } => self.deadline(client),
            Event::Look { client, has_heard } => self.look(client, has_heard),
            Event::Tick { client } => self.tick(client),
        }
    }

    /// Tells a client's machine, and does what it says.
    pub(super) fn handle(&mut self, client: u32, input: Input) {
        let now = self.agenda.now().since_start();
        let one = &mut self.clients[client as usize];
        for action in one.machine.handle(now, input) {
            match action {
                Action::Probe(host) => {
                    if let Some(host) = self.number_of(&host) {
                        self.ring(client, host);
                    }
                }
                Action::Emit(Told::WriterChanged { from, to, .. }) => {
                    let to = to.and_then(|host| self.number_of(&host));
                    self.writer_changed(client, from.is_some(), to);
                }
                _ => {}
            }
        }
        let one = &mut self.clients[client as usize];
        let pace = one.machine.pace(now);
        let tick = one.machine.next_tick();
        if tick != one.tick_at {
            one.tick_at = tick;
            if let Some(at) = tick {
                self.agenda.at(Time::from(at), Event::Tick { client });
            }
        }
        if pace != self.clients[client as usize].pace {
            self.clients[client as usize].pace = pace;
            for host in 0..HOSTS {
                self.pace_changed(client, host);
            }
        }
    }

    fn tick(&mut self, client: u32) {
        let now = self.agenda.now().since_start();
        let one = &mut self.clients[client as usize];
        // One that was planned before something else came is in vain.
        if one.tick_at.is_some_and(|at| at <= now) {
            one.tick_at = None;
            self.handle(client, Input::Tick);
        }
    }

    /// The watchdog's look: the old primary is in use for as long as it is the writer.
    fn look(&mut self, client: u32, has_heard: bool) {
        let old = &self.names[usize::from(OLD)];
        let topology = self.clients[client as usize].machine.topology();
        let is_in_use = topology.writer.as_ref() == Some(old);
        let in_use = is_in_use.then(|| old.clone());
        let heard = in_use.clone().filter(|_| has_heard);
        let looked = Input::Looked {
            in_use: in_use.into_iter().collect(),
            heard: heard.into_iter().collect(),
        };
        self.handle(client, looked);
        if is_in_use {
            let interval = self.scenario.config.monitor().watchdog_interval;
            let has_heard = false;
            self.agenda
                .after(interval, Event::Look { client, has_heard });
        }
    }

    fn number_of(&self, host: &HostAddr) -> Option<u8> {
        let at = self.names.iter().position(|name| name == host)?;
        u8::try_from(at).ok()
    }

    /// How long something is under way to a server, or back.
    pub(super) fn way(&mut self) -> Duration {
        let model = &self.scenario.model;
        (model.round_trip + model.jitter.mul_f64(self.dice.f64())) / 2
    }

    /// A number for an attempt to connect that no other of this client has.
    pub(super) fn attempt(&mut self, client: u32) -> u64 {
        let one = &mut self.clients[client as usize];
        one.attempts += 1;
        one.attempts
    }
}
