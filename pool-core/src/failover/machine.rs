//! The state machine: inputs to topology and actions.

use std::time::Duration;

use super::{
    Event, Input, Pace,
    claim::{self, Claim, Verdict},
    lag::Tide,
    record::Record,
    reign,
};
use crate::{
    config::MonitorSettings,
    topology::{Health, HostAddr, HostView, Phase, Role, Term, Topology},
};

/// What the shell has to do after an input.
///
/// ```
/// use leadpool::failover::Action;
/// use leadpool::HostAddr;
///
/// assert_ne!(
///     Action::Probe(HostAddr::new("db1", 5432)),
///     Action::Watch(HostAddr::new("db1", 5432)),
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Begin to probe this host.
    Watch(HostAddr),
    /// Stop probing this host: it left the cluster.
    Unwatch(HostAddr),
    /// Probe this host at once.
    Probe(HostAddr),
    /// Tell the application.
    Emit(Event),
}

/// The topology logic: a pure function of its inputs.
///
/// Time is given as the duration since some fixed start; a time earlier than one given before
/// counts as that one.
///
/// ```
/// use std::time::Duration;
/// use leadpool::{Config, HostAddr};
/// use leadpool::failover::{Answer, Input, Machine};
/// use leadpool::topology::Term;
///
/// let config = Config::from_url("postgres://db1,db2/shop")?;
/// let mut machine = Machine::new(config.hosts(), config.monitor().clone());
/// let (db1, db2) = (HostAddr::new("db1", 5432), HostAddr::new("db2", 5432));
///
/// let ms = Duration::from_millis;
/// machine.handle(ms(1), Input::Answered { host: db2.clone(), answer: Answer::standby() });
/// let answer = Answer::primary(Term::from_timeline(1));
/// machine.handle(ms(2), Input::Answered { host: db1.clone(), answer });
/// assert_eq!(machine.topology().writer, Some(db1.clone()));
///
/// // db2 is promoted: db1's claim is now one of a lower term, whatever db1 says.
/// let answer = Answer::primary(Term::from_timeline(2));
/// machine.handle(ms(3), Input::Answered { host: db2.clone(), answer });
/// assert_eq!(machine.topology().writer, Some(db2));
/// assert!(machine.topology().host(&db1).is_some_and(|host| host.fenced));
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) settings: MonitorSettings,
    pub(super) records: Vec<Record>,
    pub(super) now: Duration,
    epoch: u64,
    phase: Phase,
    pub(super) writer: Option<HostAddr>,
    /// The highest term, and when a host last showed it.
    highest: Option<(Term, Duration)>,
    pub(super) system_identifier: Option<u64>,
    /// Since when there has been no writer that answers.
    trouble_since: Option<Duration>,
    /// Until when every host gets the chance to answer.
    pub(super) settle_until: Duration,
    /// There has been a writer, or every host had the chance to answer.
    pub(super) settled: bool,
    /// When one writer last took over from another.
    changed_at: Option<Duration>,
    had_writer: bool,
    writing: bool,
    /// How the writer's log grew.
    tide: Tide,
}

impl Machine {
    /// A machine that knows the names of some hosts, and nothing else.
    #[must_use]
    pub fn new(hosts: &[HostAddr], settings: MonitorSettings) -> Self {
        Self {
            settle_until: settings.settle,
            settings,
            records: hosts.iter().cloned().map(Record::new).collect(),
            now: Duration::ZERO,
            epoch: 0,
            phase: Phase::Starting,
            writer: None,
            highest: None,
            system_identifier: None,
            trouble_since: Some(Duration::ZERO),
            settled: false,
            changed_at: None,
            had_writer: false,
            writing: false,
            tide: Tide::default(),
        }
    }

    /// Takes in one input and says what to do.
    ///
    /// The order is fixed: the input changes what is known of its host, overdue hosts are given
    /// up, claims are judged, the phase follows from the judgement, and then who has to leave (and
    /// if somebody has, claims are judged again) and who lags behind the writer.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        self.now = self.now.max(now);
        let before: Vec<HostView> = self.records.iter().map(|r| r.view.clone()).collect();
        let (phase, writer) = (self.phase, self.writer.clone());
        let mut actions = Vec::new();
        let mut events = Vec::new();
        let answered = match &input {
            Input::Answered { host, .. } => Some(host.clone()),
            _ => None,
        };

        self.apply(input, &mut actions, &mut events);
        // Not before the input: it may be what ends a silence.
        for record in &mut self.records {
            record.expire(self.now, &self.settings, &mut events);
        }
        self.elect(&mut events);
        // Whoever has left votes no more, and nobody waits for its answer.
        while self.dismiss(&mut actions, &mut events) {
            self.elect(&mut events);
        }
        if let Some(host) = answered {
            self.gauge(&host, &mut events);
        }

        let same = phase == self.phase
            && writer == self.writer
            && before.len() == self.records.len()
            && before
                .iter()
                .zip(&self.records)
                .all(|(old, new)| matters_equal(old, &new.view));
        if !same {
            self.epoch += 1;
        }
        actions.extend(events.into_iter().map(Action::Emit));
        actions
    }

    fn apply(&mut self, input: Input, actions: &mut Vec<Action>, events: &mut Vec<Event>) {
        match input {
            Input::Answered { host, answer } => {
                let now = self.now;
                let Some(record) = self.record(&host) else {
                    return;
                };
                record.system_identifier = answer.system_identifier;
                let stranger = answer.system_identifier.and_then(|id| self.stranger(id));
                let Some(record) = self.record(&host) else {
                    return;
                };
                match stranger {
                    Some((id, expected)) => record.refuse(id, expected, events),
                    None => record.answered(now, &answer, events),
                }
            }
            Input::Failed { host, failure } => {
                let now = self.now;
                let record = self.records.iter_mut().find(|r| r.view.addr == host);
                if let Some(record) = record {
                    record.failed(now, &failure, &self.settings, events);
                }
            }
            // A report is about the connection it came from. One of an older generation is about
            // a host that has been judged since.
            Input::Reported {
                host, generation, ..
            } => {
                if self
                    .record(&host)
                    .is_some_and(|record| record.view.generation == generation)
                {
                    actions.push(Action::Probe(host));
                }
            }
            Input::Discovered(found) => self.adopt(found, actions, events),
            Input::Looked { in_use, heard } => self.looked(&in_use, &heard, actions),
            Input::Stalled(by) => {
                for record in &mut self.records {
                    record.silence.discount(self.now, by);
                }
            }
            Input::Writing(writing) => self.writing = writing,
            Input::ForgetTerm => self.forget(events),
            Input::Tick => {}
        }
    }

    /// Takes in what the application's connections show. Who is in use and was not heard of lately
    /// is asked.
    fn looked(&mut self, in_use: &[HostAddr], heard: &[HostAddr], actions: &mut Vec<Action>) {
        for record in &mut self.records {
            let addr = &record.view.addr;
            record.silence.set_in_use(in_use.contains(addr));
            if heard.contains(addr) {
                record.silence.heard(self.now);
            } else if record.silence.wants_look(self.now, &self.settings) {
                actions.push(Action::Probe(addr.clone()));
            }
        }
    }

    fn forget(&mut self, events: &mut Vec<Event>) {
        if let Some((term, _)) = self.highest.take() {
            for record in &mut self.records {
                record.view.fenced = false;
            }
            events.push(Event::TermForgotten { term });
        }
    }

    /// Measures how far standbys are behind: the one that has answered, and those that nobody has
    /// judged yet. Without a writer that answers, what was judged before stands.
    fn gauge(&mut self, answered: &HostAddr, events: &mut Vec<Event>) {
        let is_writer = self.writer.as_ref() == Some(answered);
        if let Some(position) = self
            .record(answered)
            .and_then(|record| record.view.position)
        {
            if is_writer {
                self.tide.saw(self.now, position);
            }
        }
        let judges = self.phase == Phase::Stable;
        for record in &mut self.records {
            if record.view.addr == *answered || (judges && !record.gauged) {
                record.measure(self.now, &self.tide);
                if judges {
                    record.gauged = true;
                    record.judge_lag(&self.settings, events);
                }
            }
        }
    }

    fn elect(&mut self, events: &mut Vec<Event>) {
        self.settle();
        self.outvote_strangers(events);
        reign::renew(&mut self.records, self.highest.map(|(term, _)| term));
        let claims = self.claims();
        // Not before all had their chance: the claim of a stranger would fence everybody.
        if self.settled {
            self.remember_highest(&claims, events);
        }
        let highest = self.highest.map(|(term, _)| term);
        for claim in &claims {
            let record = &mut self.records[claim.host];
            match (claim.term, highest) {
                (Some(term), Some(highest)) if claim::is_fenced(claim, Some(highest)) => {
                    record.fence(term, highest, events);
                }
                _ => record.view.fenced = false,
            }
        }

        let current = self
            .writer
            .as_ref()
            .and_then(|writer| self.records.iter().position(|r| r.view.addr == *writer));
        let verdict = if self.settled {
            claim::judge(&claims, highest, current, self.settings.contested)
        } else {
            Verdict::Nobody
        };
        self.conclude(&verdict, events);
    }

    /// The claims that stand. A host that is down has none; one that is overdue keeps its own.
    fn claims(&self) -> Vec<Claim> {
        self.records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.view.role == Role::Primary)
            .map(|(host, record)| Claim {
                host,
                term: record.view.term,
                fresh: record.view.health == Health::Up,
                writable: !record.view.read_only,
                leaving: record.leaving,
                incarnation: record.incarnation,
            })
            .collect()
    }

    fn remember_highest(&mut self, claims: &[Claim], events: &mut Vec<Event>) {
        // Also what was claimed before the machine settled, and has been withdrawn since.
        let withdrawn = self.records.iter_mut().filter_map(|r| r.claimed.take());
        let claimed = withdrawn
            .chain(claims.iter().filter_map(|claim| claim.term))
            .max();
        let seen_again = |highest: Option<(Term, Duration)>| match (claimed, highest) {
            (Some(term), Some((highest, _))) if term < highest => None,
            (term, _) => term,
        };
        if let (None, Some((_, seen)), Some(limit)) = (
            seen_again(self.highest),
            self.highest,
            self.settings.forget_term_after,
        ) {
            if self.now.saturating_sub(seen) >= limit {
                self.forget(events);
            }
        }
        if let Some(term) = seen_again(self.highest) {
            self.highest = Some((term, self.now));
        }
    }

    /// Before the first writer all hosts get the chance to answer once: a stale primary that
    /// happens to answer first must not be taken for the writer.
    fn settle(&mut self) {
        self.settled |= !self.records.is_empty()
            && (self.now >= self.settle_until || self.records.iter().all(|record| record.heard));
    }

    fn conclude(&mut self, verdict: &Verdict, events: &mut Vec<Event>) {
        let writer = match verdict {
            Verdict::Writer(at) => Some(*at),
            Verdict::Nobody | Verdict::Contested(_) => None,
        };
        let phase = match verdict {
            Verdict::Writer(at) if self.records[*at].view.health == Health::Up => Phase::Stable,
            Verdict::Writer(_) => Phase::Suspect,
            Verdict::Contested(_) => Phase::Contested,
            Verdict::Nobody if self.settled => Phase::NoPrimary,
            Verdict::Nobody => Phase::Starting,
        };
        if let (Verdict::Contested(hosts), false) = (verdict, self.phase == Phase::Contested) {
            events.push(Event::Contested {
                hosts: hosts
                    .iter()
                    .map(|at| self.records[*at].view.addr.clone())
                    .collect(),
            });
        }

        let to = writer.map(|at| self.records[at].view.addr.clone());
        if to != self.writer {
            let from = std::mem::replace(&mut self.writer, to.clone());
            let gap = self
                .trouble_since
                .map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
            let mut term = None;
            self.tide.turn();
            if let Some(at) = writer {
                if std::mem::replace(&mut self.had_writer, true) {
                    self.changed_at = Some(self.now);
                }
                self.system_identifier = self
                    .system_identifier
                    .or(self.records[at].system_identifier);
                term = self.records[at].view.term;
                for (other, record) in self.records.iter_mut().enumerate() {
                    if other != at {
                        record.supersede(events);
                    }
                }
            }
            events.push(Event::WriterChanged {
                gap: to.as_ref().map(|_| gap),
                from,
                to,
                term,
            });
        }
        self.trouble_since = match phase {
            Phase::Stable => None,
            _ => Some(self.trouble_since.unwrap_or(self.now)),
        };
        self.phase = phase;
    }

    /// The picture as it is now.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology {
            epoch: self.epoch,
            phase: self.phase,
            writer: self.writer.clone(),
            term: self.highest.map(|(term, _)| term),
            system_identifier: self.system_identifier,
            hosts: self.records.iter().map(|r| r.view.clone()).collect(),
        }
    }

    /// How often the hosts are to be asked from `now` on.
    #[must_use]
    pub fn pace(&self, now: Duration) -> Pace {
        match (self.trouble_since, self.changed_at) {
            (Some(since), _) => Pace::Urgent { since },
            (None, Some(at)) if now.saturating_sub(at) < self.settings.fast_after_change => {
                Pace::AfterChange
            }
            (None, _) if self.writing => Pace::Writing,
            (None, _) => Pace::Idle,
        }
    }

    /// When a [`Input::Tick`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let settle = (!self.settled && !self.records.is_empty()).then_some(self.settle_until);
        let calm = self
            .changed_at
            .map(|at| at + self.settings.fast_after_change)
            .filter(|at| *at > self.now);
        let forget = self
            .highest
            .zip(self.settings.forget_term_after)
            .map(|((_, seen), limit)| seen + limit);
        self.records
            .iter()
            .filter_map(|record| record.ends(&self.settings))
            .chain(settle)
            .chain(calm)
            .chain(forget)
            .min()
    }
}

/// Compares what a checkout reads. Positions and latencies change with every probe and wake
/// nobody.
fn matters_equal(a: &HostView, b: &HostView) -> bool {
    let key = |view: &HostView| {
        (
            view.role,
            view.health,
            view.generation,
            view.aborted,
            view.read_only,
            view.fenced,
            view.foreign,
            view.lagging,
            view.weight,
        )
    };
    a.addr == b.addr && key(a) == key(b)
}
