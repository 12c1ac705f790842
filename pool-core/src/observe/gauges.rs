//! The gauges: what is so now, told when it changes and at an interval.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use metrics::{Gauge, Key, Level as Importance, Metadata, with_recorder};

use super::{
    Meters,
    metrics::{
        HOST_ROLE, HOST_UP, Metric, PHASE, POOL_CONNECTIONS, POOL_CONNECTIONS_MAX, POOL_WAITING,
        REPLAY_LAG, REPLAY_LAG_BYTES, TERM, WRITER_MISSING_SINCE, WRITER_WAITING,
    },
};
use crate::topology::{Health, HostAddr, Phase, Role, Topology};

static METADATA: Metadata<'static> =
    Metadata::new("leadpool", Importance::INFO, Some(module_path!()));

const PHASES: [Phase; 5] = [
    Phase::Starting,
    Phase::Stable,
    Phase::Suspect,
    Phase::NoPrimary,
    Phase::Contested,
];
const ROLES: [Role; 3] = [Role::Primary, Role::Standby, Role::Unknown];

/// How full the pools of one cluster are, all of them together.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    hosts: HashMap<HostAddr, Level>,
    /// Checkouts that wait because there is no writer.
    pub(crate) waiting_for_writer: usize,
}

/// The four numbers of one host.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    max: usize,
    idle: usize,
    used: usize,
    waiting: usize,
}

impl Levels {
    /// Adds one sub-pool.
    pub(crate) fn add(
        &mut self,
        host: &HostAddr,
        max: usize,
        idle: usize,
        used: usize,
        waiting: usize,
    ) {
        let level = self.hosts.entry(host.clone()).or_default();
        level.max += max;
        level.idle += idle;
        level.used += used;
        level.waiting += waiting;
    }
}

/// Sets the gauges of one cluster. What is no longer so goes to 0 (a lag to NaN), also when this
/// is dropped: exporters keep the last value of a series for ever.
#[derive(Debug)]
pub(crate) struct Gauges {
    meters: Meters,
    shown: HashMap<Key, (Gauge, Ending)>,
    missing_since: Option<SystemTime>,
}

/// What a gauge is set to when it has nothing more to say.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Zero,
    Nan,
}

impl Gauges {
    pub(crate) fn new(meters: Meters) -> Self {
        Self {
            meters,
            shown: HashMap::new(),
            missing_since: None,
        }
    }

    /// Tells how it is now.
    pub(crate) fn show(&mut self, topology: &Topology, levels: &Levels) {
        let before = std::mem::take(&mut self.shown);
        self.cluster(topology);
        self.set(&WRITER_WAITING, &[], count(levels.waiting_for_writer));
        for host in topology.hosts() {
            let name = host.addr.to_string();
            let up = host.health == Health::Up && host.foreign.is_none();
            self.set(&HOST_UP, &[&name], f64::from(u8::from(up)));
            for role in ROLES {
                let is = f64::from(u8::from(role == host.role));
                self.set(&HOST_ROLE, &[&name, &role.to_string()], is);
            }
            if host.role == Role::Standby {
                let age = host.staleness.map_or(f64::NAN, |age| age.as_secs_f64());
                let bytes = host.lag.map_or(f64::NAN, |bytes| bytes as f64);
                self.set_until(&REPLAY_LAG, &[&name], age, Ending::Nan);
                self.set_until(&REPLAY_LAG_BYTES, &[&name], bytes, Ending::Nan);
            }
            if let Some(level) = levels.hosts.get(&host.addr) {
                let role = &*host.role.to_string();
                let values = |state| [&*name, role, state];
                self.set(&POOL_CONNECTIONS, &values("idle"), count(level.idle));
                self.set(&POOL_CONNECTIONS, &values("used"), count(level.used));
                self.set(&POOL_CONNECTIONS_MAX, &[&name, role], count(level.max));
                self.set(&POOL_WAITING, &[&name, role], count(level.waiting));
            }
        }
        end(before
            .into_iter()
            .filter(|(key, _)| !self.shown.contains_key(key))
            .map(|(_, gauge)| gauge));
    }

    fn cluster(&mut self, topology: &Topology) {
        for phase in PHASES {
            let is = f64::from(u8::from(phase == topology.phase));
            self.set(&PHASE, &[&phase.to_string()], is);
        }
        self.missing_since = match topology.phase {
            Phase::Stable => None,
            _ => self.missing_since.or_else(|| Some(SystemTime::now())),
        };
        let since = self
            .missing_since
            .and_then(|since| since.duration_since(UNIX_EPOCH).ok())
            .map_or(0.0, |since| since.as_secs_f64());
        self.set(&WRITER_MISSING_SINCE, &[], since);
        if let Some(term) = topology.term {
            self.set(&TERM, &[], term.get() as f64);
        }
    }

    fn set(&mut self, metric: &Metric, values: &[&str], value: f64) {
        self.set_until(metric, values, value, Ending::Zero);
    }

    fn set_until(&mut self, metric: &Metric, values: &[&str], value: f64, ending: Ending) {
        let key = self.meters.key(metric, values);
        // Asked for each time, so that a recorder that comes late finds them.
        let gauge = with_recorder(|recorder| recorder.register_gauge(&key, &METADATA));
        gauge.set(value);
        self.shown.insert(key, (gauge, ending));
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        end(self.shown.drain().map(|(_, gauge)| gauge));
    }
}

fn end(gauges: impl Iterator<Item = (Gauge, Ending)>) {
    for (gauge, ending) in gauges {
        gauge.set(match ending {
            Ending::Zero => 0.0,
            Ending::Nan => f64::NAN,
        });
    }
}

fn count(number: usize) -> f64 {
    number as f64
}
