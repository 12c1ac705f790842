//! What is counted.

use std::time::Duration;

use super::{
    clock::Time,
    world::{HOSTS, NEW},
};

/// What is counted over time is counted by so much of it.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// How many of those make a second.
const STEPS_A_SECOND: usize = 10;

/// What happened in each step of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Series(Vec<u64>);

/// What is counted of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostTally {
    pub(super) probes: Series,
    /// Connects asked for by monitors, and by pools.
    pub(super) monitor_connects: Series,
    pub(super) pool_connects: Series,
    /// Connects that the server has taken, and of those the ones that nobody waited for any more.
    pub(super) forks: Series,
    pub(super) vain_forks: u64,
    /// Connects that found the backlog full.
    pub(super) dropped: u64,
    /// Connects that found too many sessions.
    pub(super) denied: u64,
    pub(super) most_sessions: usize,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) started_at: Time,
    pub(super) fault_at: Time,
    pub(super) promoted_at: Time,
    pub(super) ended_at: Time,
    pub(super) hosts: [HostTally; HOSTS as usize],
    /// When each client saw the new writer.
    pub(super) found: Vec<Time>,
    /// When each client got its first connection, and when each checkout got one.
    pub(super) first_served: Vec<Time>,
    pub(super) served: Vec<Time>,
    /// Checkouts that waited, and those that waited in vain; clients that got nothing at all.
    pub(super) waiting: u64,
    pub(super) failed: u64,
    pub(super) clients_left_out: u64,
    clients_over: u64,
    clients_waiting: u64,
    connecting: i64,
    /// Connects of pools under way at the same time: of one client, and of all.
    pub(super) most_of_one: usize,
    pub(super) most_of_all: i64,
    pub(super) failed_connects: u64,
}

impl Series {
    fn add(&mut self, step: usize, count: u64) {
        if self.0.len() <= step {
            self.0.resize(step + 1, 0);
        }
        self.0[step] += count;
    }

    /// What happened in that step.
    pub(super) fn at(&self, step: usize) -> u64 {
        self.0.get(step).copied().unwrap_or_default()
    }

    /// The most that happened within a second, from that step on.
    pub(super) fn most_in_a_second(&self, from: usize) -> u64 {
        let later = self.0.get(from..).unwrap_or_default();
        let windows = later.windows(STEPS_A_SECOND.min(later.len()).max(1));
        let sums = windows.map(|window| window.iter().sum());
        sums.max().unwrap_or_default()
    }

    /// How much happened per second between the two steps.
    pub(super) fn mean(&self, from: usize, to: usize) -> f64 {
        let sum: u64 = (from..to).map(|step| self.at(step)).sum();
        sum as f64 * STEPS_A_SECOND as f64 / to.saturating_sub(from).max(1) as f64
    }
}

impl HostTally {
    /// The most connects that were asked for within a second, from that step on.
    pub(super) fn connects_in_a_second(&self, from: usize) -> u64 {
        let mut all = self.pool_connects.clone();
        for (step, count) in self.monitor_connects.0.iter().enumerate() {
            all.add(step, *count);
        }
        all.most_in_a_second(from)
    }
}

impl Tally {
    pub(super) fn new(started_at: Time, fault_at: Time) -> Self {
        Self {
            started_at,
            fault_at,
            promoted_at: fault_at,
            ended_at: fault_at,
            hosts: Default::default(),
            found: Vec::new(),
            first_served: Vec::new(),
            served: Vec::new(),
            waiting: 0,
            failed: 0,
            clients_left_out: 0,
            clients_over: 0,
            clients_waiting: 0,
            connecting: 0,
            most_of_one: 0,
            most_of_all: 0,
            failed_connects: 0,
        }
    }

    /// In which step of time that is.
    pub(super) fn step(&self, at: Time) -> usize {
        (at.since(self.started_at).as_micros() / STEP.as_micros()) as usize
    }

    /// The host that is promoted.
    pub(super) fn new_primary(&self) -> &HostTally {
        &self.hosts[usize::from(NEW)]
    }

    /// Nobody waits any more who once did.
    pub(super) fn is_settled(&self) -> bool {
        self.clients_waiting > 0 && self.clients_over >= self.clients_waiting
    }

    /// Probes of the host that is promoted, per second: while all is well.
    pub(super) fn calm_probes(&self) -> f64 {
        let fault = self.step(self.fault_at);
        // The first second is not like the others: all clients begin in it.
        self.probes().mean(STEPS_A_SECOND, fault)
    }

    /// While there is no writer.
    pub(super) fn outage_probes(&self) -> f64 {
        let (from, to) = (self.step(self.fault_at), self.step(self.promoted_at));
        self.probes().mean(from, to)
    }

    /// In the busiest second since the fault.
    pub(super) fn most_probes(&self) -> f64 {
        self.probes().most_in_a_second(self.step(self.fault_at)) as f64
    }

    /// Once the new writer is known: in the last second but one.
    pub(super) fn probes_after_change(&self) -> f64 {
        let end = self.step(self.ended_at);
        self.probes()
            .mean(end - 2 * STEPS_A_SECOND, end - STEPS_A_SECOND)
    }

    fn probes(&self) -> &Series {
        &self.new_primary().probes
    }

    fn host(&mut self, host: u8) -> &mut HostTally {
        &mut self.hosts[usize::from(host)]
    }

    pub(super) fn probed(&mut self, at: Time, host: u8) {
        let step = self.step(at);
        self.host(host).probes.add(step, 1);
    }

    pub(super) fn asked(&mut self, at: Time, host: u8, is_pool: bool) {
        let step = self.step(at);
        let host = self.host(host);
        match is_pool {
            true => host.pool_connects.add(step, 1),
            false => host.monitor_connects.add(step, 1),
        }
    }

    pub(super) fn forked(&mut self, at: Time, host: u8, is_wanted: bool) {
        let step = self.step(at);
        let host = self.host(host);
        host.forks.add(step, 1);
        host.vain_forks += u64::from(!is_wanted);
    }

    pub(super) fn dropped(&mut self, host: u8) {
        self.host(host).dropped += 1;
    }

    pub(super) fn denied(&mut self, host: u8) {
        self.host(host).denied += 1;
    }

    pub(super) fn sessions(&mut self, host: u8, sessions: usize) {
        let most = &mut self.host(host).most_sessions;
        *most = sessions.max(*most);
    }

    pub(super) fn waits(&mut self, checkouts: u32) {
        self.clients_waiting += 1;
        self.waiting += u64::from(checkouts);
    }

    pub(super) fn found(&mut self, at: Time) {
        self.found.push(at);
    }

    pub(super) fn served(&mut self, at: Time, is_first: bool, is_last: bool) {
        if is_first {
            self.first_served.push(at);
        }
        self.clients_over += u64::from(is_last);
        self.served.push(at);
    }

    pub(super) fn failed(&mut self, checkouts: u32, is_client_left_out: bool) {
        self.failed += u64::from(checkouts);
        self.clients_left_out += u64::from(is_client_left_out);
        self.clients_over += 1;
    }

    pub(super) fn connect_failed(&mut self) {
        self.failed_connects += 1;
    }

    pub(super) fn connecting(&mut self, of_one: usize, change: i64) {
        self.connecting += change;
        self.most_of_one = self.most_of_one.max(of_one);
        self.most_of_all = self.most_of_all.max(self.connecting);
    }

    /// How long after the promotion that share of all `of` had come, in the order of time; `None`
    /// if so many never did.
    pub(super) fn after_promotion(&self, came: &[Time], share: f64, of: u64) -> Option<Duration> {
        let number = ((of as f64 * share).ceil() as usize).max(1);
        let at = came.get(number - 1)?;
        Some(at.since(self.promoted_at))
    }
}
