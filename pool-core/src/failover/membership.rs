//! Who belongs to the cluster: what discovery names, and who is of another cluster.

use super::{Action, Event, Machine, record::Record};
use crate::topology::{Found, Health, HostAddr, Role};

impl Machine {
    /// Takes in what discovery names. New hosts are watched. Those that are no longer named leave,
    /// but not yet: see [`dismiss`](Self::dismiss).
    pub(super) fn adopt(
        &mut self,
        found: Found,
        actions: &mut Vec<Action>,
        events: &mut Vec<Event>,
    ) {
        // A discovery that finds nobody has failed; it is no reason to forget everybody.
        if found.hosts.is_empty() {
            return;
        }
        if self.records.is_empty() {
            // Now the chance to answer begins.
            self.settle_until = self.now + self.settings.settle;
        }
        for record in &mut self.records {
            record.leaving = !found.names(&record.view.addr);
        }
        for host in found.hosts {
            let (zone, weight) = (host.zone, host.weight.unwrap_or(1));
            if let Some(record) = self.record(&host.addr) {
                record.view.zone = zone;
                record.view.weight = weight;
                continue;
            }
            actions.push(Action::Watch(host.addr.clone()));
            events.push(Event::HostAdded {
                host: host.addr.clone(),
            });
            let mut record = Record::new(host.addr);
            record.view.zone = zone;
            record.view.weight = weight;
            self.records.push(record);
        }
        // The source's word makes no primary, but it is a reason to look.
        let news = found
            .primary
            .filter(|host| self.writer.as_ref() != Some(host));
        if let Some(host) = news.filter(|host| self.record(host).is_some()) {
            actions.push(Action::Probe(host));
            actions.extend(self.writer.clone().map(Action::Probe));
        }
    }

    /// Lets those go whom discovery no longer names. Some stay: whoever claims to be the primary, for
    /// as long as the claim stands, and everybody, until one of those who are named has shown
    /// itself to be of this cluster. So a discovery that lies takes nothing away that works, and
    /// decides no contest. Whether anybody went.
    pub(super) fn dismiss(&mut self, actions: &mut Vec<Action>, events: &mut Vec<Event>) -> bool {
        let members = self.records.len();
        let confirmed = self.records.iter().any(|record| {
            // One of another cluster has no role here.
            !record.leaving && record.view.health == Health::Up && record.view.role != Role::Unknown
        });
        let writer = self.writer.clone();
        let server = writer
            .as_ref()
            .and_then(|writer| self.record(writer))
            .and_then(|record| record.incarnation);
        self.records.retain_mut(|record| {
            let addr = &record.view.addr;
            if !record.leaving {
                record.missed = false;
                return true;
            }
            let in_use = writer.as_ref() == Some(addr);
            // Another name of the writer's own server is no claim of its own.
            let alias = !in_use && server.is_some() && record.incarnation == server;
            let claims = record.view.role == Role::Primary && !record.view.fenced && !alias;
            if confirmed && !claims {
                actions.push(Action::Unwatch(addr.clone()));
                events.push(Event::HostRemoved { host: addr.clone() });
                return false;
            }
            if in_use && !std::mem::replace(&mut record.missed, true) {
                events.push(Event::DiscoveryContradicted {
                    problem: format!("it does not name {addr}, which is the writer and stays it"),
                });
            }
            true
        });
        self.records.len() < members
    }

    /// Whether a host with this system identifier belongs to another cluster: then this one, and
    /// the one it should show.
    ///
    /// Before the first writer, what most hosts show is right, and in a draw what the host shows
    /// that the configuration names first. So one stranger in the list, answering first, does not
    /// make strangers of all others.
    pub(super) fn stranger(&self, id: u64) -> Option<(u64, u64)> {
        if let Some(expected) = self.system_identifier {
            return (id != expected).then_some((id, expected));
        }
        let shown = || self.records.iter().filter_map(|r| r.system_identifier);
        let votes = |id: u64| shown().filter(|other| *other == id).count();
        let most = shown().map(votes).max()?;
        let expected = shown().find(|other| votes(*other) == most)?;
        let outvoted = votes(id) < most;
        (id != expected && (self.settled || outvoted)).then_some((id, expected))
    }

    /// Refuses strangers also when they answered before those who outvote them.
    pub(super) fn outvote_strangers(&mut self, events: &mut Vec<Event>) {
        for at in 0..self.records.len() {
            let record = &self.records[at];
            let Some(id) = record.system_identifier else {
                continue;
            };
            if record.view.role == Role::Unknown {
                continue;
            }
            if let Some((id, expected)) = self.stranger(id) {
                self.records[at].refuse(id, expected, events);
            }
        }
    }

    pub(super) fn record(&mut self, host: &HostAddr) -> Option<&mut Record> {
        self.records.iter_mut().find(|r| r.view.addr == *host)
    }
}
