//! Random histories of a cluster's log, against the rule that decides on a COMMIT in flight.
//!
//! The world has a primary and standbys that hold a log, record by record: it is flushed, copied,
//! cut by crashes, and left behind by promotions, and ids are given out again. Whatever the rule
//! says of a transaction is compared with the log itself. A failing history prints its seed;
//! `LEADPOOL_SEED=n` replays it alone, and `LEADPOOL_HISTORIES=n` sets how many are run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use leadpool::{
    HostAddr,
    outcome::{Doubt, Evidence, History, Incarnation, Proof, Status, Testimony, Verdict, judge},
    topology::Lsn,
};

const ID: Option<u64> = Some(7);
const STEPS: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Commit,
    /// What a server writes when it stops, has recovered, or is promoted.
    Checkpoint,
}

/// A record of the log; several transactions may have had its id.
#[derive(Clone, Copy, Debug)]
struct Record {
    end: u64,
    transaction: usize,
    id: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
struct Server {
    log: Vec<Record>,
    /// How many records are on disk.
    flushed: usize,
    life: Incarnation,
    /// The timelines before its own, and where each was left.
    left: Vec<(u32, u64)>,
    running: Vec<usize>,
    /// Whether it holds a prefix of the primary's log, and copies from there.
    follows: bool,
}

impl Server {
    fn end(&self) -> u64 {
        self.log.last().map_or(100, |record| record.end)
    }

    fn flushed_end(&self) -> u64 {
        self.log[..self.flushed]
            .last()
            .map_or(100, |record| record.end)
    }

    fn next_id(&self) -> u64 {
        self.log.iter().map(|record| record.id).max().unwrap_or(700) + 1
    }

    fn has_committed(&self, transaction: usize) -> bool {
        let commits = |record: &Record| record.kind == Kind::Commit;
        self.log
            .iter()
            .any(|record| commits(record) && record.transaction == transaction)
    }
}

struct World {
    servers: Vec<Server>,
    primary: usize,
    timelines: u32,
    clock: i64,
    transactions: Vec<Evidence>,
    history: History,
    /// Whether the files that tell where timelines were left may be read.
    readable: bool,
    random: fastrand::Rng,
}

/// How often each verdict was given, and how often the status alone would have been wrong.
type Count = BTreeMap<String, u64>;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = |started_at| Server {
            log: Vec::new(),
            flushed: 0,
            life: Incarnation {
                timeline: 1,
                started_at,
                ..Incarnation::default()
            },
            left: Vec::new(),
            running: Vec::new(),
            follows: true,
        };
        Self {
            servers: (1..=3).map(server).collect(),
            primary: 0,
            timelines: 1,
            clock: 3,
            transactions: Vec::new(),
            history: History::default(),
            readable: random.bool(),
            random,
        }
    }

    fn primary(&mut self) -> &mut Server {
        &mut self.servers[self.primary]
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    fn append(&mut self, transaction: usize, id: u64, kind: Kind) -> u64 {
        let size = self.random.u64(20..100);
        let primary = self.primary();
        let end = primary.end() + size;
        primary.log.push(Record {
            end,
            transaction,
            id,
            kind,
        });
        end
    }

    /// A transaction writes, and its evidence is taken.
    fn begin(&mut self) {
        let number = self.transactions.len();
        let primary = &self.servers[self.primary];
        let running = primary.running.iter();
        let open = running.map(|number| self.transactions[*number].transaction);
        // An id that runs has been given out, whatever became of its records.
        let id = primary.next_id().max(open.max().map_or(0, |open| open + 1));
        let marker = self.append(number, id, Kind::Write);
        let primary = self.primary();
        primary.running.push(number);
        let (life, flushed) = (primary.life.clone(), primary.flushed_end());
        let mut evidence = template();
        evidence.host = address(self.primary);
        evidence.incarnation = life;
        evidence.transaction = id;
        evidence.marker = Lsn::new(marker);
        evidence.flushed = Lsn::new(flushed);
        if self.random.bool() {
            let (life, at) = (evidence.incarnation.clone(), evidence.flushed);
            self.history.saw_flush(ID, &life, at);
        }
        self.transactions.push(evidence);
    }

    fn end(&mut self) {
        if self.primary().running.is_empty() {
            return;
        }
        let open = self.primary().running.len();
        let at = self.random.usize(0..open);
        let transaction = self.primary().running.swap_remove(at);
        if self.random.u32(0..10) < 7 {
            let id = self.transactions[transaction].transaction;
            self.append(transaction, id, Kind::Commit);
            // Or `synchronous_commit` is off, or the crash comes first.
            if self.random.bool() {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let primary = self.primary();
        primary.flushed = primary.log.len();
    }

    fn any_standby(&mut self) -> usize {
        (self.primary + self.random.usize(1..self.servers.len())) % self.servers.len()
    }

    /// A standby copies what the primary has on disk, or a part of it.
    fn replicate(&mut self) {
        let standby = self.any_standby();
        let primary = self.primary();
        let source = primary.log[..primary.flushed].to_vec();
        let (timeline, left) = (self.primary().life.timeline, self.primary().left.clone());
        let started_at = self.tick();
        let standby = &mut self.servers[standby];
        if !standby.follows {
            // Copied anew, as a standby that was just started.
            standby.log.clear();
            standby.follows = true;
            standby.life.started_at = started_at;
        }
        let most = source.len().max(standby.log.len());
        let upto = self.random.usize(standby.log.len()..=most);
        standby
            .log
            .extend_from_slice(&source[standby.log.len()..upto]);
        standby.flushed = standby.log.len();
        // It streams: so it says what it has received.
        let end = standby.end();
        standby.life.received = Some(Lsn::new(end));
        // It is on the timeline that it has got to.
        let passed = left.iter().take_while(|(_, at)| *at <= end).count();
        standby.life.timeline = left.get(passed).map_or(timeline, |(parent, _)| *parent);
        standby.left = left[..passed].to_vec();
    }

    /// The primary loses what is not on disk.
    fn crash(&mut self) {
        let started_at = self.tick();
        let one_backend = self.random.bool();
        let primary = self.primary();
        primary.log.truncate(primary.flushed);
        primary.running.clear();
        primary.life.replayed = Some(Lsn::new(primary.end()));
        primary.life.received = None;
        if !one_backend {
            primary.life.started_at = started_at;
        }
        self.checkpoint();
    }

    fn checkpoint(&mut self) {
        self.append(usize::MAX, 0, Kind::Checkpoint);
        self.flush();
    }

    fn restart(&mut self) {
        let started_at = self.tick();
        self.checkpoint();
        let primary = self.primary();
        primary.running.clear();
        primary.life.replayed = None;
        primary.life.received = None;
        primary.life.started_at = started_at;
    }

    fn promote(&mut self) {
        let next = self.any_standby();
        // Taking the cluster back into a history that it had left is told by the files alone.
        if !self.servers[next].follows && !self.readable {
            return;
        }
        self.timelines += 1;
        let timeline = self.timelines;
        // A manager may have restarted it alone before.
        let alone = self.random.u32(0..4) == 0;
        let started_at = self.tick();
        let server = &mut self.servers[next];
        if alone {
            server.life.started_at = started_at;
            server.life.received = None;
            let end = Some(Lsn::new(server.end()));
            if self.random.bool() {
                let host = address(next);
                self.history.saw_standby(&host, started_at, end, None);
            }
        }
        let server = &mut self.servers[next];
        let end = server.end();
        server.left.push((server.life.timeline, end));
        server.life.timeline = timeline;
        server.life.replayed = Some(Lsn::new(end));
        server.life.received = server.life.received.map(|_| Lsn::new(end));
        server.running.clear();
        // Who has more than the new primary has parted from it, and so has the old one.
        let log: Vec<u64> = server.log.iter().map(|record| record.end).collect();
        for (at, other) in self.servers.iter_mut().enumerate() {
            let is_prefix = other
                .log
                .iter()
                .enumerate()
                .all(|(at, record)| log.get(at) == Some(&record.end));
            other.follows &= at != self.primary && is_prefix;
            other.running.clear();
        }
        self.primary = next;
        self.checkpoint();
    }

    /// The monitor looks at everybody, or at some.
    fn observe(&mut self) {
        for at in 0..self.servers.len() {
            if self.random.u32(0..3) == 0 {
                continue;
            }
            let server = &self.servers[at];
            let (host, life) = (address(at), &server.life);
            if at == self.primary {
                let flushed = Some(Lsn::new(server.flushed_end()));
                self.history.saw_primary(&host, ID, life, flushed);
            } else if server.follows {
                let end = Some(Lsn::new(server.end()));
                self.history
                    .saw_standby(&host, life.started_at, end, life.received);
            }
        }
    }

    fn status(&self, id: u64) -> Status {
        let primary = &self.servers[self.primary];
        let of_id = |record: &&Record| record.id == id;
        let runs = |number: &usize| self.transactions[*number].transaction == id;
        if primary.running.iter().any(runs) {
            Status::InProgress
        } else if id >= primary.next_id() {
            Status::Future
        } else if primary
            .log
            .iter()
            .filter(of_id)
            .any(|record| record.kind == Kind::Commit)
        {
            Status::Committed
        } else {
            Status::Aborted
        }
    }

    /// Asks for a transaction, and compares with the log.
    fn ask(&mut self, count: &mut Count) {
        if self.transactions.is_empty() {
            return;
        }
        let number = self.random.usize(0..self.transactions.len());
        let evidence = &self.transactions[number];
        let primary = &self.servers[self.primary];
        let timeline = evidence.incarnation.timeline;
        let left = primary.left.iter().find(|(parent, _)| *parent == timeline);
        let is_later = primary.life.timeline > timeline;
        let status = self.status(evidence.transaction);
        let testimony = Testimony {
            system_identifier: ID,
            recovering: false,
            incarnation: primary.life.clone(),
            status,
            inserted: Some(Lsn::new(primary.end())),
            fork: (self.readable && is_later).then(|| Lsn::new(left.map_or(0, |(_, left)| *left))),
        };
        let has_committed = primary.has_committed(number);
        let runs = primary.running.contains(&number);
        let verdict = judge(evidence, &testimony, &self.history, Proof::Strict);
        let context = || format!("{number} {evidence:?} {testimony:?} {:?}", self.history);
        match verdict {
            Verdict::Committed => assert!(has_committed, "{}", context()),
            Verdict::NotCommitted => assert!(!has_committed && !runs, "{}", context()),
            Verdict::InProgress => assert!(runs, "{}", context()),
            Verdict::Unknown(Doubt::NotFlushed | Doubt::SwitchUnseen) => {}
            other => panic!("{other:?} {}", context()),
        }
        *count.entry(format!("{verdict:?}")).or_default() += 1;
        if status == Status::Committed && !has_committed {
            *count.entry("the status alone lies".into()).or_default() += 1;
        }
    }

    fn play(&mut self, count: &mut Count) {
        for _ in 0..STEPS {
            match self.random.u32(0..100) {
                0..30 => self.begin(),
                30..50 => self.end(),
                50..58 => self.flush(),
                58..72 => self.replicate(),
                72..76 => self.crash(),
                76..78 => self.restart(),
                78..82 => self.promote(),
                82..90 => self.observe(),
                _ => self.ask(count),
            }
        }
    }
}

fn address(server: usize) -> HostAddr {
    HostAddr::new(format!("s{server}"), 5432)
}

/// Evidence can be read only; its fields are then what the history says.
fn template() -> Evidence {
    let body = "leadpool1|7|1|||1|701|1|1|1|0||5432|s0";
    let sum = body.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    format!("{body}|{sum:016x}").parse().unwrap()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_verdict_is_wrong_in_any_history() {
    let seeds = match number("LEADPOOL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LEADPOOL_HISTORIES").unwrap_or(20_000),
    };
    let is_many = seeds.end - seeds.start > 1_000;
    let mut count = Count::new();
    for seed in seeds {
        let played = std::panic::catch_unwind(|| {
            let mut count = Count::new();
            World::new(seed).play(&mut count);
            count
        });
        match played {
            Ok(played) => {
                for (verdict, times) in played {
                    *count.entry(verdict).or_default() += times;
                }
            }
            Err(panic) => {
                eprintln!("LEADPOOL_SEED={seed} replays it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{count:#?}");
    // The histories are such that it matters, and the rule does not only shrug.
    for what in ["Committed", "NotCommitted", "the status alone lies"] {
        assert!(
            !is_many || count.get(what).is_some_and(|times| *times > 100),
            "{what}"
        );
    }
}
