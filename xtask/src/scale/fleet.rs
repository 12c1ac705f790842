//! The scenarios of a run.

use std::{sync::Arc, time::Duration};

use leadpool::{Config, config::ConfigBuilder};

use super::{
    Args,
    scenario::{Fault, Scenario},
    tally::Tally,
};
use crate::Result;

const URL: &str = "postgres://app@db1,db2,db3/shop";

/// How long each checkout uses its connection.
const USE: Duration = Duration::from_millis(10);

/// What is played, and in the end what came of it.
#[derive(Debug)]
pub(super) struct Fleet<T = ()> {
    pub(super) failovers: Vec<Entry<T>>,
    /// Fleets that only look.
    pub(super) idle: Vec<Entry<T>>,
    /// The largest fleet, set in several ways.
    pub(super) tuned: Vec<(String, Entry<T>)>,
    /// On servers that allow fewer sessions.
    pub(super) limited: Vec<Entry<T>>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) scenario: Scenario,
    pub(super) tally: T,
}

/// How many sessions a server allows that has been set up for many.
const MANY_SESSIONS: usize = 5_000;

impl Fleet {
    pub(super) fn of(args: &Args) -> Result<Self> {
        let sizes = || {
            let powers = (1..).map(|power| 10_u32.saturating_pow(power));
            powers
                .take_while(|size| *size < args.clients)
                .chain([args.clients])
        };
        let defaults = Arc::new(Config::from_url(URL)?);
        let scenario = |clients, config: &Arc<Config>| Scenario {
            number: 0,
            seed: args.seed,
            clients,
            config: config.clone(),
            is_capped: true,
            is_writing: true,
            checkouts: args.checkouts,
            use_for: USE,
            fault: Some(Fault::Kill),
            promoted_after: Duration::from_millis(args.promotion_ms),
            model: args.model(),
        };
        let mut fleet = Self {
            failovers: Vec::new(),
            idle: Vec::new(),
            tuned: Vec::new(),
            limited: Vec::new(),
        };
        for fault in [Fault::Kill, Fault::Freeze] {
            for clients in sizes() {
                for is_capped in [true, false] {
                    fleet.failovers.push(Entry::of(Scenario {
                        fault: Some(fault),
                        is_capped,
                        ..scenario(clients, &defaults)
                    }));
                }
            }
        }
        for clients in sizes() {
            fleet.idle.push(Entry::of(Scenario {
                is_writing: false,
                fault: None,
                ..scenario(clients, &defaults)
            }));
        }
        for (name, config) in tunings()? {
            let entry = Entry::of(scenario(args.clients, &Arc::new(config)));
            fleet.tuned.push((name, entry));
        }
        // A fleet whose monitors alone are more has nothing to be looked at.
        let fits = |clients: &u32| (100..MANY_SESSIONS as u32).contains(clients);
        for clients in sizes().filter(fits) {
            let mut limited = scenario(clients, &defaults);
            limited.model.max_connections = MANY_SESSIONS;
            fleet.limited.push(Entry::of(limited));
        }
        fleet.number();
        Ok(fleet)
    }

    /// With what came of each.
    pub(super) fn played(self, tallies: Vec<Tally>) -> Fleet<Tally> {
        let with = |entry: Entry<()>| Entry {
            tally: tallies[entry.scenario.number].clone(),
            scenario: entry.scenario,
        };
        Fleet {
            failovers: self.failovers.into_iter().map(with).collect(),
            idle: self.idle.into_iter().map(with).collect(),
            tuned: self
                .tuned
                .into_iter()
                .map(|(name, entry)| (name, with(entry)))
                .collect(),
            limited: self.limited.into_iter().map(with).collect(),
        }
    }

    /// What is to be played, in the order of the numbers.
    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        let tuned = self.tuned.iter().skip(1).map(|(_, entry)| entry);
        let all = self.failovers.iter().chain(&self.idle).chain(tuned);
        let all = all.chain(&self.limited);
        all.map(|entry| entry.scenario.clone()).collect()
    }

    /// Numbers the entries. The largest fleet with the defaults has been played before it is tuned.
    fn number(&mut self) {
        let tuned = self.tuned.iter_mut().skip(1).map(|(_, entry)| entry);
        let all = self.failovers.iter_mut().chain(&mut self.idle).chain(tuned);
        for (number, entry) in all.chain(&mut self.limited).enumerate() {
            entry.scenario.number = number;
        }
        let is_same = |entry: &&Entry<()>| {
            entry.scenario.fault == Some(Fault::Kill) && entry.scenario.is_capped
        };
        let largest = self.failovers.iter().rfind(is_same);
        if let (Some(same), Some((_, first))) = (largest, self.tuned.first_mut()) {
            first.scenario.number = same.scenario.number;
        }
    }
}

impl Entry<()> {
    fn of(scenario: Scenario) -> Self {
        Self {
            scenario,
            tally: (),
        }
    }
}

/// Ways to set a large fleet, each with all of those before it.
fn tunings() -> Result<Vec<(String, Config)>> {
    type Step = (&'static str, fn(ConfigBuilder) -> ConfigBuilder);
    let steps: [Step; 5] = [
        ("the defaults", |to| to),
        ("max_concurrent_connects = 1", |to| {
            to.max_concurrent_connects(1)
        }),
        ("writer_size = reader_size = 2", |to| {
            to.writer_size(2).reader_size(2)
        }),
        (
            "fast_interval_min = 250 ms, fast_interval_max = after_change_interval = 2 s, fast_fraction = 0.2, active_interval = 5 s",
            |to| {
                to.fast_interval_min(Duration::from_millis(250))
                    .active_interval(Duration::from_secs(5))
                    .fast_interval_max(Duration::from_secs(2))
                    .after_change_interval(Duration::from_secs(2))
                    .fast_fraction(0.2)
            },
        ),
        ("reader_min_size = 1", |to| to.reader_min_size(1)),
    ];
    let mut all: Vec<(String, Config)> = Vec::new();
    for at in 0..steps.len() {
        let builder = Config::builder(URL);
        let builder = steps[..=at].iter().fold(builder, |to, step| step.1(to));
        all.push((steps[at].0.to_owned(), builder.build()?));
    }
    Ok(all)
}
