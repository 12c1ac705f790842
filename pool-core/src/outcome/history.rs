//! What the monitor has seen of a cluster's history: where timelines parted, and up to where a
//! log was flushed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Incarnation;
use crate::topology::{HostAddr, Lsn};

/// How many incarnations are remembered; each server adds one with every start.
const INCARNATIONS: usize = 64;
/// How many promotions.
const SWITCHES: usize = 256;

/// What is remembered of a cluster beyond its newest topology.
///
/// ```
/// use leadpool::outcome::History;
///
/// assert_eq!(History::default().switch(Some(7), 2), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Where each timeline began; `None` when two promotions took the same number.
    switches: BTreeMap<(Option<u64>, u32), Option<Lsn>>,
    /// The highest flush position seen in each incarnation, newest first.
    flushed: VecDeque<(Option<u64>, Incarnation, Lsn)>,
    /// Of each server that was last seen as a standby that had not streamed yet: its start time,
    /// and how far it had replayed.
    unstreamed: HashMap<HostAddr, (i64, Option<Lsn>)>,
    /// The cluster that each primary belongs to.
    identities: HashMap<HostAddr, u64>,
}

impl History {
    /// A host was seen in recovery, how far it had `replayed`, and what it had `received` if it has
    /// streamed since it started.
    pub fn saw_standby(
        &mut self,
        host: &HostAddr,
        started_at: i64,
        replayed: Option<Lsn>,
        received: Option<Lsn>,
    ) {
        match received {
            None => self.unstreamed.insert(host.clone(), (started_at, replayed)),
            Some(_) => self.unstreamed.remove(host),
        };
    }

    /// A host was seen as a primary.
    pub fn saw_primary(
        &mut self,
        host: &HostAddr,
        system_identifier: Option<u64>,
        incarnation: &Incarnation,
        flushed: Option<Lsn>,
    ) {
        match system_identifier {
            Some(id) => self.identities.insert(host.clone(), id),
            None => self.identities.remove(host),
        };
        // Where its recovery ended is where it was promoted, and not where a crash after that
        // ended: what it received is forgotten in a crash. One that never streamed (a manager
        // restarts standbys so) must have been seen as a standby in the same life, and to have
        // replayed no more since.
        let own = (incarnation.started_at, incarnation.replayed);
        let was_standby = self.unstreamed.remove(host) == Some(own);
        if incarnation.received.is_some() || was_standby {
            if let Some(at) = incarnation.replayed {
                self.saw_switch(system_identifier, incarnation.timeline, at);
            }
        }
        if let Some(flushed) = flushed {
            self.saw_flush(system_identifier, incarnation, flushed);
        }
    }

    fn saw_switch(&mut self, system_identifier: Option<u64>, timeline: u32, at: Lsn) {
        let known = self
            .switches
            .entry((system_identifier, timeline))
            .or_insert(Some(at));
        if *known != Some(at) {
            *known = None;
        }
        while self.switches.len() > SWITCHES {
            self.switches.pop_first();
        }
    }

    /// The log of this incarnation was flushed at least this far.
    pub fn saw_flush(
        &mut self,
        system_identifier: Option<u64>,
        incarnation: &Incarnation,
        flushed: Lsn,
    ) {
        let known = self
            .flushed
            .iter_mut()
            .find(|(id, life, _)| *id == system_identifier && life == incarnation);
        if let Some((_, _, highest)) = known {
            *highest = flushed.max(*highest);
            return;
        }
        self.flushed
            .push_front((system_identifier, incarnation.clone(), flushed));
        self.flushed.truncate(INCARNATIONS);
    }

    /// The id of the cluster that a primary belongs to, if it told.
    #[must_use]
    pub fn system_identifier(&self, host: &HostAddr) -> Option<u64> {
        self.identities.get(host).copied()
    }

    /// Where this timeline began, if the promotion was seen and its number taken once.
    #[must_use]
    pub fn switch(&self, system_identifier: Option<u64>, timeline: u32) -> Option<Lsn> {
        *self.switches.get(&(system_identifier, timeline))?
    }

    /// Whether a position of a timeline is part of a later one, `now`; `None` if that can't be told
    /// because a promotion in between was not seen, or its number taken twice.
    #[must_use]
    pub fn is_kept(
        &self,
        system_identifier: Option<u64>,
        timeline: u32,
        position: Lsn,
        now: u32,
    ) -> Option<bool> {
        if timeline >= now {
            return (timeline == now).then_some(true);
        }
        let between = (system_identifier, timeline + 1)..=(system_identifier, now);
        let mut seen = 0;
        for switch in self.switches.range(between).filter_map(|(_, at)| *at) {
            if position > switch {
                return Some(false);
            }
            seen += 1;
        }
        (seen == now - timeline).then_some(true)
    }

    /// Up to where the log of this incarnation is known to have been flushed.
    #[must_use]
    pub fn flushed(
        &self,
        system_identifier: Option<u64>,
        incarnation: &Incarnation,
    ) -> Option<Lsn> {
        self.flushed
            .iter()
            .find(|(id, life, _)| *id == system_identifier && life == incarnation)
            .map(|(_, _, flushed)| *flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(timeline: u32, replayed: u64, received: Option<u64>) -> Incarnation {
        Incarnation {
            timeline,
            replayed: Some(Lsn::new(replayed)),
            received: received.map(Lsn::new),
            started_at: 9,
        }
    }

    #[test]
    fn a_promotion_is_remembered_and_the_end_of_a_crash_is_not_taken_for_one() {
        let host = HostAddr::new("a", 1);
        let mut history = History::default();
        history.saw_primary(&host, Some(7), &life(2, 50, Some(60)), None);
        assert_eq!(history.switch(Some(7), 2), Some(Lsn::new(50)));
        assert_eq!(history.switch(Some(8), 2), None);
        history.saw_primary(&host, Some(7), &life(3, 90, None), None);
        assert_eq!(history.switch(Some(7), 3), None, "a crash, for all we know");
        // Promoted by itself, without anybody to stream from.
        let at = |position| Some(Lsn::new(position));
        history.saw_standby(&host, 9, at(95), None);
        history.saw_primary(&host, Some(7), &life(4, 95, None), None);
        assert_eq!(history.switch(Some(7), 4), at(95));
        // It may have crashed after its promotion.
        history.saw_standby(&host, 9, at(95), None);
        history.saw_primary(&host, Some(7), &life(5, 120, None), None);
        assert_eq!(history.switch(Some(7), 5), None);
        // It had streamed, and has forgotten: so it has.
        history.saw_standby(&host, 9, at(99), None);
        history.saw_standby(&host, 9, at(99), at(99));
        history.saw_primary(&host, Some(7), &life(5, 99, None), None);
        assert_eq!(history.switch(Some(7), 5), None);
    }

    #[test]
    fn one_number_for_two_promotions_tells_nothing() {
        let mut history = History::default();
        let (a, b) = (HostAddr::new("a", 1), HostAddr::new("b", 1));
        history.saw_primary(&a, None, &life(2, 50, Some(50)), None);
        history.saw_primary(&b, None, &life(2, 51, Some(51)), None);
        history.saw_primary(&a, None, &life(2, 50, Some(50)), None);
        assert_eq!(history.switch(None, 2), None);
    }

    #[test]
    fn the_highest_flush_position_counts() {
        let mut history = History::default();
        let life = life(1, 5, None);
        history.saw_flush(None, &life, Lsn::new(9));
        history.saw_flush(None, &life, Lsn::new(8));
        assert_eq!(history.flushed(None, &life), Some(Lsn::new(9)));
        assert_eq!(history.flushed(Some(1), &life), None);
        for started_at in 0..1_000 {
            let other = Incarnation {
                started_at,
                ..Incarnation::default()
            };
            history.saw_flush(None, &other, Lsn::new(1));
        }
        assert_eq!(history.flushed.len(), INCARNATIONS);
    }
}
