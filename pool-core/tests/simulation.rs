//! Random histories of a cluster, seen through a lossy network, against the state machine.
//!
//! The world has hosts with a true role and timeline, on which failovers, crashes, freezes and
//! split brains happen; the machine gets what probes would tell, late, in another order, or not at
//! all. After every input the invariants must hold; after a calm time the picture must be true.
//! A failing history prints its seed; `LEADPOOL_SEED=n` replays it alone, and
//! `LEADPOOL_HISTORIES=n` sets how many are run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashMap, time::Duration};

use leadpool::{
    Config, Event, HostAddr,
    failover::{Action, Answer, Failure, Input, Machine, Report},
    topology::{Phase, Role, Term, Topology},
};

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Up,
    Frozen,
    Dead,
}

#[derive(Clone, Debug)]
struct Server {
    life: Life,
    primary: bool,
    timeline: u32,
    started: i64,
}

/// What is on its way to the machine.
#[derive(Clone, Debug)]
struct Mail {
    due: u64,
    input: Input,
}

struct World {
    dice: Dice,
    now: u64,
    servers: Vec<Server>,
    names: Vec<HostAddr>,
    mail: Vec<Mail>,
    machine: Machine,
    /// What the machine was last told by each host itself, since its last failure.
    told: HashMap<HostAddr, Answer>,
    highest_told: u32,
    generations: HashMap<HostAddr, (u64, u64)>,
    trace: Vec<String>,
}

const SYSTEM: u64 = 7;

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let count = 1 + dice.below(4);
        let names: Vec<HostAddr> = (0..count)
            .map(|n| HostAddr::new(format!("h{n}"), 1))
            .collect();
        let servers = (0..count)
            .map(|n| Server {
                life: Life::Up,
                primary: n == 0,
                timeline: 1,
                started: n as i64,
            })
            .collect();
        let list: Vec<String> = names.iter().map(|name| name.name().to_owned()).collect();
        let config = Config::from_url(&format!("postgres://{}/x", list.join(","))).unwrap();
        Self {
            machine: Machine::new(&names, config.monitor().clone()),
            dice,
            now: 0,
            servers,
            names,
            mail: Vec::new(),
            told: HashMap::new(),
            highest_told: 0,
            generations: HashMap::new(),
            trace: Vec::new(),
        }
    }

    /// Something happens to the servers.
    fn strike(&mut self) {
        let at = self.dice.below(self.servers.len());
        let top = self
            .servers
            .iter()
            .map(|server| server.timeline)
            .max()
            .unwrap_or(1);
        let now = self.now as i64;
        let server = &mut self.servers[at];
        match self.dice.roll() % 8 {
            0 => server.life = Life::Dead,
            1 => server.life = Life::Frozen,
            // Comes back as it was: perhaps a stale primary.
            2 | 3 => {
                if server.life == Life::Dead {
                    server.started = now;
                }
                server.life = Life::Up;
            }
            4 if server.life == Life::Up && !server.primary => {
                server.primary = true;
                server.timeline = top + 1;
            }
            // Rejoins.
            5 if server.life == Life::Up => {
                server.primary = false;
                server.started = now;
            }
            // An orderly switchover.
            6 => {
                for server in &mut self.servers {
                    server.primary &= server.life != Life::Up;
                }
                let server = &mut self.servers[at];
                if server.life == Life::Up {
                    server.primary = true;
                    server.timeline = top + 1;
                }
            }
            _ => {}
        }
    }

    /// A probe of a host: its answer, or what becomes of it, comes later.
    fn probe(&mut self, at: usize, calm: bool) {
        let server = &self.servers[at];
        let host = self.names[at].clone();
        let fails = |failure| Input::Failed {
            host: host.clone(),
            failure,
        };
        let lost = !calm && self.dice.chance(15);
        let input = match server.life {
            _ if lost => fails(match self.dice.roll() % 3 {
                0 => Failure::Silent,
                1 => Failure::Unreachable("reset".into()),
                _ => Failure::Denied("too many".into()),
            }),
            Life::Dead => fails(Failure::Refused),
            Life::Frozen => fails(Failure::Silent),
            Life::Up => {
                let mut answer = if server.primary {
                    Answer::primary(Term::from_timeline(server.timeline))
                } else {
                    Answer::standby()
                };
                answer.system_identifier = Some(SYSTEM);
                answer.started_at = Some(server.started);
                Input::Answered { host, answer }
            }
        };
        let delay = if calm { 0 } else { self.dice.roll() % 400 };
        self.mail.push(Mail {
            due: self.now + delay,
            input,
        });
    }

    fn report(&mut self) {
        let at = self.dice.below(self.names.len());
        let host = self.names[at].clone();
        let current = self
            .generations
            .get(&host)
            .map_or(1, |(generation, _)| *generation);
        let age = self.dice.roll() % 3;
        self.mail.push(Mail {
            due: self.now,
            input: Input::Reported {
                host,
                generation: current.saturating_sub(age),
                report: Report::ConnectionLost,
            },
        });
    }

    /// Some hosts are in use, and some that live are heard of.
    fn look(&mut self) {
        let mut hosts = |percent| -> Vec<HostAddr> {
            let some = self.names.iter().zip(&self.servers);
            some.filter(|(_, server)| server.life == Life::Up || percent == 50)
                .filter(|_| self.dice.chance(percent))
                .map(|(name, _)| name.clone())
                .collect()
        };
        let (in_use, heard) = (hosts(50), hosts(40));
        self.mail.push(Mail {
            due: self.now,
            input: Input::Looked { in_use, heard },
        });
    }

    /// The answers of one host come in order, as over one connection; those of several do not.
    fn deliver(&mut self) {
        self.mail.sort_by_key(|mail| mail.due);
        let due = self.mail.partition_point(|mail| mail.due <= self.now);
        let ready: Vec<Mail> = self.mail.drain(..due).collect();
        // What time alone does is not to be taken for the work of an input.
        self.tell(Input::Tick);
        for mail in ready {
            self.tell(mail.input);
        }
    }

    fn tell(&mut self, input: Input) {
        let before = self.machine.topology();
        match &input {
            Input::Answered { host, answer } => {
                if !answer.recovering {
                    self.highest_told = self.highest_told.max(answer.term.unwrap().get() as u32);
                }
                self.told.insert(host.clone(), answer.clone());
            }
            Input::Failed {
                host,
                failure: Failure::Refused,
            } => {
                self.told.remove(host);
            }
            _ => {}
        }
        self.trace.push(format!("{} {input:?}", self.now));
        let actions = self
            .machine
            .handle(Duration::from_millis(self.now), input.clone());
        let after = self.machine.topology();
        self.check(&input, &before, &after, &actions);
    }

    /// What must hold whatever happens.
    fn check(&mut self, input: &Input, before: &Topology, after: &Topology, actions: &[Action]) {
        if let Some(writer) = &after.writer {
            // 1: by its own, positive answer.
            let told = self.told.get(writer).expect("the writer has answered");
            assert!(
                !told.recovering && !told.read_only,
                "{writer} said it is a primary"
            );
            // 2: no lower term than one seen.
            assert_eq!(
                told.term.unwrap().get() as u32,
                self.highest_told,
                "highest term"
            );
            let view = after.host(writer).unwrap();
            assert_eq!(view.role, Role::Primary);
            assert!(!view.fenced && view.foreign.is_none());
        } else {
            assert!(matches!(
                after.phase,
                Phase::Starting | Phase::NoPrimary | Phase::Contested
            ));
        }
        // Anew a writer is made by an answer alone, or by time after answers.
        if before.writer != after.writer && after.writer.is_some() {
            assert!(matches!(
                input,
                Input::Answered { .. } | Input::Tick | Input::Failed { .. }
            ));
        }
        let mut invalidated = HashMap::new();
        for action in actions {
            if let Action::Emit(Event::Invalidated {
                host,
                generation,
                aborted,
                ..
            }) = action
            {
                invalidated.insert(host.clone(), (*generation, *aborted));
            }
        }
        for view in after.hosts() {
            let old = before.host(&view.addr).unwrap();
            // Generations only grow, and each step is told.
            assert!(view.generation >= old.generation && view.aborted >= old.aborted);
            assert!(
                view.aborted < view.generation,
                "the present generation lives"
            );
            assert_eq!(
                view.generation > old.generation,
                invalidated.contains_key(&view.addr),
                "{}",
                view.addr
            );
            // 3: a demoted or fenced host keeps no connection of before.
            let was_usable = old.role == Role::Primary && !old.fenced;
            let lost_role = view.role == Role::Standby || view.fenced;
            if was_usable && lost_role {
                assert_eq!(
                    view.aborted,
                    view.generation - 1,
                    "{} is aborted",
                    view.addr
                );
            }
            self.generations
                .insert(view.addr.clone(), (view.generation, view.aborted));
        }
        // A report changes nothing, and an old one does not even make the monitor look.
        if let Input::Reported {
            host, generation, ..
        } = input
        {
            assert_eq!(before.epoch, after.epoch);
            let current = before.host(host).unwrap().generation == *generation;
            let looks = actions
                .iter()
                .any(|action| matches!(action, Action::Probe(_)));
            assert_eq!(current, looks);
        }
        // Whoever waits for a change is woken by every change that matters.
        if before.writer != after.writer || before.phase != after.phase {
            assert!(after.epoch > before.epoch);
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.now += 1 + self.dice.roll() % 300;
            if self.dice.chance(20) {
                self.strike();
            }
            for at in 0..self.names.len() {
                if self.dice.chance(60) {
                    self.probe(at, false);
                }
            }
            if self.dice.chance(20) {
                self.report();
            }
            if self.dice.chance(30) {
                self.look();
            }
            self.deliver();
        }
        self.settle();
    }

    /// Nothing happens any more and every probe arrives: the picture becomes true.
    fn settle(&mut self) {
        self.now += 1000;
        self.deliver();
        for _ in 0..30 {
            self.now += 300;
            for at in 0..self.names.len() {
                self.probe(at, true);
            }
            self.deliver();
        }
        let top = self.highest_told;
        let truth: Vec<&HostAddr> = self
            .servers
            .iter()
            .zip(&self.names)
            .filter(|(server, _)| {
                server.life == Life::Up && server.primary && server.timeline == top
            })
            .map(|(_, name)| name)
            .collect();
        let topology = self.machine.topology();
        match truth.as_slice() {
            [] => assert_eq!(topology.writer, None, "nobody is the primary"),
            [one] => {
                assert_eq!(
                    topology.writer.as_ref(),
                    Some(*one),
                    "the one primary is found"
                );
                assert_eq!(topology.phase, Phase::Stable);
            }
            _ => assert_eq!(topology.phase, Phase::Contested),
        }
        for (server, name) in self.servers.iter().zip(&self.names) {
            let view = topology.host(name).unwrap();
            let reader = server.life == Life::Up && !server.primary;
            assert_eq!(view.is_reader(), reader, "{name} as a reader");
        }
    }
}

fn play(seed: u64) {
    let mut world = World::new(seed);
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let steps = 10 + world.dice.below(40);
        world.run(steps);
    }));
    if let Err(panic) = played {
        let tail = world.trace.len().saturating_sub(30);
        eprintln!(
            "seed {seed}, the last inputs:\n{}",
            world.trace[tail..].join("\n")
        );
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn a_hundred_thousand_histories() {
    if let Some(seed) = number("LEADPOOL_SEED") {
        return play(seed);
    }
    let histories = number("LEADPOOL_HISTORIES").unwrap_or(100_000);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for seed in (worker..histories).step_by(workers as usize) {
                    play(seed);
                }
            });
        }
    });
}
