//! What the machine keeps of one host, and how an answer or a failure changes it.

use std::time::Duration;

use super::{Answer, Event, Failure, Invalidation, reign::Reign, silence::Silence};
use crate::{
    config::MonitorSettings,
    topology::{Health, HostAddr, HostView, Lsn, Role, Term},
};

/// One host, with what only the machine needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) view: HostView,
    /// A probe has ended once, in whatever way.
    pub(super) heard: bool,
    /// For how long it has shown no life.
    pub(super) silence: Silence,
    /// Connections of older generations may still be checked out, not aborted.
    draining: bool,
    pub(super) system_identifier: Option<u64>,
    /// The highest term it has claimed since the machine last took it into account.
    pub(super) claimed: Option<Term>,
    /// System identifier (0 if the host does not tell) and start time of the server behind the
    /// address.
    pub(super) incarnation: Option<(u64, i64)>,
    /// What a claim that came with a stamp instead of a timeline began with.
    pub(super) reign: Option<Reign>,
    /// What the provider calls it.
    pub(super) instance: Option<String>,
    /// Whom its last answer named as the writer.
    pub(super) names: Option<String>,
    /// Up to where a standby has received the log.
    pub(super) received: Option<Lsn>,
    /// How old its data is by the provider's word.
    pub(super) told_staleness: Option<Duration>,
    /// Its lag has been judged once.
    pub(super) gauged: bool,
    /// Discovery no longer names it.
    pub(super) leaving: bool,
    /// It has been told that discovery does not name it.
    pub(super) missed: bool,
}

impl Record {
    pub(super) fn new(addr: HostAddr) -> Self {
        Self {
            view: HostView::new(addr),
            heard: false,
            silence: Silence::default(),
            draining: false,
            system_identifier: None,
            claimed: None,
            incarnation: None,
            reign: None,
            instance: None,
            names: None,
            received: None,
            told_staleness: None,
            gauged: false,
            leaving: false,
            missed: false,
        }
    }

    /// Takes in the host's own word.
    pub(super) fn answered(&mut self, now: Duration, answer: &Answer, events: &mut Vec<Event>) {
        let role = if answer.recovering {
            Role::Standby
        } else {
            Role::Primary
        };
        let was = self.view.role;
        let back = self.view.health != Health::Up || self.view.foreign.is_some();

        self.heard = true;
        self.silence.broken(now);
        self.system_identifier = answer.system_identifier;
        let incarnation = answer
            .started_at
            .map(|at| (answer.system_identifier.unwrap_or_default(), at));
        let replaced =
            self.incarnation.is_some() && incarnation.is_some() && self.incarnation != incarnation;
        self.incarnation = incarnation.or(self.incarnation);
        self.view.started_at = answer.started_at;
        self.view.role = role;
        self.view.health = Health::Up;
        self.view.foreign = None;
        self.instance.clone_from(&answer.instance);
        self.names.clone_from(&answer.writer);
        self.reign = match role {
            Role::Primary => Reign::after(self.reign, answer.stamp, self.incarnation),
            _ => None,
        };
        self.view.term = answer
            .term
            .or_else(|| self.reign.map(|reign| reign.term))
            .filter(|_| role == Role::Primary);
        self.received = answer.received.filter(|_| role == Role::Standby);
        self.told_staleness = answer.staleness;
        self.claimed = self.claimed.max(self.view.term);
        self.view.position = answer.position;
        self.view.round_trip = answer.round_trip;
        self.view.latency = smoothed(self.view.latency, answer.round_trip);
        self.view.last_answer = Some(now);
        self.view.problem = None;

        let read_only = role == Role::Primary && answer.read_only;
        if read_only && !self.view.read_only {
            events.push(Event::PrimaryReadOnly {
                host: self.view.addr.clone(),
            });
        }
        self.view.read_only = read_only;
        // Also when it was down in between: what is still checked out was opened on a primary.
        let held_primary = was == Role::Primary || self.draining;
        if role == Role::Standby {
            self.view.fenced = false;
            if held_primary {
                events.push(Event::Demoted {
                    host: self.view.addr.clone(),
                });
                self.invalidate(Invalidation::Demoted, events);
            } else if replaced && was == Role::Standby {
                // They lead to another server of the same role, or are dead.
                self.retire(false, Invalidation::Replaced, events);
            }
        } else if replaced && held_primary {
            // After a restart they are dead. If the name moved, they lead to a former primary.
            self.invalidate(Invalidation::Replaced, events);
        } else {
            // What it drains was opened on the primary that it still is.
            self.draining = false;
        }
        if back {
            events.push(Event::HostUp {
                host: self.view.addr.clone(),
                role,
            });
        }
    }

    /// Takes in that a probe failed.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        failure: &Failure,
        settings: &MonitorSettings,
        events: &mut Vec<Event>,
    ) {
        self.heard = true;
        self.view.problem = Some(failure.to_string());
        match failure {
            Failure::Refused | Failure::NotAccepting(_) => {
                self.silence.broken(now);
                self.lose(Invalidation::Refused, events);
            }
            // Alive, but it would not say what it is: an old role stands, none is made.
            Failure::Denied(_) => {
                self.silence.broken(now);
                self.suspect(events);
            }
            Failure::Silent | Failure::Unreachable(_) if self.view.health == Health::Down => {}
            Failure::Silent => {
                self.silence.waiting(now, settings.suspect_after);
                self.suspect(events);
            }
            Failure::Unreachable(_) => {
                self.silence.unproven(now);
                self.suspect(events);
            }
        }
    }

    fn suspect(&mut self, events: &mut Vec<Event>) {
        if matches!(self.view.health, Health::Up | Health::Unknown) {
            self.view.health = Health::Suspect;
            events.push(Event::HostSuspect {
                host: self.view.addr.clone(),
                problem: self.view.problem.clone().unwrap_or_default(),
            });
        }
    }

    /// Gives the host up once it has been silent for too long.
    pub(super) fn expire(
        &mut self,
        now: Duration,
        settings: &MonitorSettings,
        events: &mut Vec<Event>,
    ) {
        if self.ends(settings).is_some_and(|end| now >= end) {
            self.silence.forget();
            self.lose(Invalidation::Silent, events);
        }
    }

    /// When the host is given up if it goes on like this.
    pub(super) fn ends(&self, settings: &MonitorSettings) -> Option<Duration> {
        self.silence.ends(self.view.latency, settings)
    }

    /// The host is gone. A refusal only drains: the kernel ends the connections of a dead process
    /// by itself, and a server that shuts down smartly still answers those it has. Silence ends
    /// nothing by itself, so there the connections are aborted.
    fn lose(&mut self, reason: Invalidation, events: &mut Vec<Event>) {
        if self.view.health == Health::Down {
            return;
        }
        let used = self.view.role != Role::Unknown;
        let was_primary = self.view.role == Role::Primary;
        self.view.health = Health::Down;
        self.view.role = Role::Unknown;
        self.view.fenced = false;
        self.view.read_only = false;
        events.push(Event::HostDown {
            host: self.view.addr.clone(),
            problem: self.view.problem.clone().unwrap_or_default(),
        });
        if !used {
            return;
        }
        if reason == Invalidation::Refused {
            self.draining |= was_primary;
            self.retire(false, reason, events);
        } else {
            self.invalidate(reason, events);
        }
    }

    /// Marks a claim with a lower term.
    pub(super) fn fence(&mut self, term: Term, highest: Term, events: &mut Vec<Event>) {
        if !self.view.fenced {
            self.view.fenced = true;
            events.push(Event::Fenced {
                host: self.view.addr.clone(),
                term,
                highest,
            });
            self.invalidate(Invalidation::Fenced, events);
        }
    }

    /// Refuses a host of another cluster.
    pub(super) fn refuse(&mut self, id: u64, expected: u64, events: &mut Vec<Event>) {
        if self.view.foreign != Some(id) {
            events.push(Event::ForeignHost {
                host: self.view.addr.clone(),
                system_identifier: id,
                expected,
            });
            if self.view.role != Role::Unknown {
                self.invalidate(Invalidation::Foreign, events);
            }
        }
        self.heard = true;
        self.silence.forget();
        self.incarnation = None;
        self.claimed = None;
        self.view.foreign = Some(id);
        self.view.role = Role::Unknown;
        self.view.health = Health::Up;
        self.view.fenced = false;
        self.view.read_only = false;
        self.view.term = None;
        self.view.problem = None;
    }

    /// Another host has become the writer: what this one still drains is aborted.
    pub(super) fn supersede(&mut self, events: &mut Vec<Event>) {
        if self.draining {
            self.invalidate(Invalidation::Superseded, events);
        }
    }

    fn invalidate(&mut self, reason: Invalidation, events: &mut Vec<Event>) {
        self.draining = false;
        self.retire(true, reason, events);
    }

    fn retire(&mut self, aborted: bool, reason: Invalidation, events: &mut Vec<Event>) {
        let generation = self.view.generation;
        self.view.generation += 1;
        if aborted {
            self.view.aborted = generation;
        }
        events.push(Event::Invalidated {
            host: self.view.addr.clone(),
            generation,
            aborted,
            reason,
        });
    }
}

/// An average in which the newest counts a quarter, and each one before it less.
fn smoothed(before: Option<Duration>, newest: Option<Duration>) -> Option<Duration> {
    match (before, newest) {
        (Some(before), Some(newest)) => Some((before * 3 + newest) / 4),
        (before, newest) => newest.or(before),
    }
}
