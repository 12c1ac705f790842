//! The one task that owns the topology.
//!
//! It alone changes the [`Machine`]; everybody else reads snapshots. It owns the probers (a task
//! a host) and the discovery's, and ends them when it ends.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, timeout},
};

use super::{
    discoverer::{Discovered, Discoverer},
    prober::{Bell, Finding, Prober},
    shared::Shared,
    wakes::Sleeper,
    watchdog::Watchdog,
};
use crate::{
    config::Config,
    discovery::{Discovery, Found},
    failover::{Action, Event, Input, Machine, Pace, Report},
    observe::{Announcer, Gauges},
    topology::{HostAddr, Topology},
};

/// How long the application counts as writing after its last checkout of the writer.
const WRITING_LASTS: Duration = Duration::from_secs(2);

/// How long to wait for the first word of a source of hosts before the hosts of the configuration
/// are watched: an endpoint that stands for a whole cluster should not be taken for a host.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// How long to rest after a panic, so that one that comes back does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What the worker is asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// A connection of the application saw something.
    Report {
        host: HostAddr,
        generation: u64,
        report: Report,
        /// Answered after a probe that began later has ended.
        done: Option<oneshot::Sender<()>>,
    },
    /// The application has begun to write.
    Writing,
    /// The application has begun to use connections.
    InUse,
    /// An operator's order.
    ForgetTerm,
    /// Somebody has heard of a change.
    ProbeNow,
    /// A pool has something to tell.
    Announce(Event),
}

#[derive(Debug)]
struct Watched {
    bell: Arc<Bell>,
    task: AbortHandle,
    /// Those who wait for a probe with a number greater than theirs.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// One source of hosts.
#[derive(Debug)]
struct Source {
    discovery: Arc<dyn Discovery>,
    bell: Arc<Notify>,
    task: Option<AbortHandle>,
    /// What it last said.
    found: Option<Found>,
}

/// The worker's state.
#[derive(Debug)]
pub(super) struct Worker {
    config: Arc<Config>,
    sources: Vec<Source>,
    shared: Arc<Shared>,
    announcer: Arc<Announcer>,
    gauges: Gauges,
    /// When the gauges are told next.
    gauges_due: Instant,
    /// The epoch that they last told of.
    gauged: Option<u64>,
    machine: Machine,
    start: Instant,
    watched: HashMap<HostAddr, Watched>,
    tasks: JoinSet<()>,
    pace: watch::Sender<(Pace, Instant)>,
    findings: (mpsc::Sender<Finding>, mpsc::Receiver<Finding>),
    discovered: (mpsc::Sender<Discovered>, mpsc::Receiver<Discovered>),
    writing_until: Option<Instant>,
    watchdog: Watchdog,
    sleeper: Sleeper,
}

impl Worker {
    pub(super) fn new(
        config: Arc<Config>,
        sources: Vec<Arc<dyn Discovery>>,
        shared: Arc<Shared>,
        announcer: Arc<Announcer>,
    ) -> Self {
        let start = Instant::now();
        let machine = Machine::new(config.hosts(), config.monitor().clone());
        let pace = machine.pace(Duration::ZERO);
        Self {
            gauges: Gauges::new(announcer.meters().clone()),
            gauges_due: start,
            gauged: None,
            machine,
            start,
            watched: HashMap::new(),
            tasks: JoinSet::new(),
            pace: watch::Sender::new((pace, start)),
            findings: mpsc::channel(64),
            discovered: mpsc::channel(16),
            writing_until: None,
            watchdog: Watchdog::new(config.monitor().watchdog_interval),
            sleeper: Sleeper::default(),
            config,
            sources: sources
                .into_iter()
                .map(|discovery| Source {
                    discovery,
                    bell: Arc::default(),
                    task: None,
                    found: None,
                })
                .collect(),
            shared,
            announcer,
        }
    }

    /// Works until all senders of requests are gone. A panic is told and survived: what has been
    /// learnt, the highest term above all, must outlive it.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.begin().await;
        while AssertUnwindSafe(self.work(&mut requests))
            .catch_unwind()
            .await
            .is_err()
        {
            let task = "monitor".to_owned();
            self.announcer.announce(Event::TaskRestarted { task });
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Begins with what the first source says, or with the hosts of the configuration.
    async fn begin(&mut self) {
        for source in 0..self.sources.len() {
            self.spawn_discoverer(source);
        }
        let first = timeout(FIRST_WORD, self.discovered.1.recv()).await;
        // Time begins now: until now nobody could have answered.
        self.start = Instant::now();
        let pace = self.machine.pace(Duration::ZERO);
        self.pace.send_replace((pace, self.start));
        for host in self.config.hosts().to_vec() {
            self.watch(host);
        }
        if let Ok(Some(discovered)) = first {
            self.discovered(discovered);
        }
    }

    async fn work(&mut self, requests: &mut mpsc::Receiver<Request>) {
        loop {
            let tick = self.next_tick();
            self.watchdog.sleeps_until(tick);
            tokio::select! {
                biased;
                Some(finding) = self.findings.1.recv() => self.found(finding),
                request = requests.recv() => match request {
                    Some(request) => self.asked(request),
                    None => return,
                },
                Some(discovered) = self.discovered.1.recv() => self.discovered(discovered),
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                () = self.sleeper.sleep_until(tick) => self.tick(),
            }
        }
    }

    fn next_tick(&self) -> Instant {
        let tick = self.machine.next_tick();
        tick.and_then(|at| self.start.checked_add(at))
            .into_iter()
            .chain(self.writing_until)
            .chain(Some(self.gauges_due))
            .chain(self.watchdog.next())
            .min()
            // Far enough to cost nothing, near enough for any clock.
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn tick(&mut self) {
        if self
            .writing_until
            .is_some_and(|until| until <= Instant::now())
        {
            // Cleared first: a checkout that comes now sets it again and asks again.
            if self.shared.take_writing() {
                self.writing_until = Some(Instant::now() + WRITING_LASTS);
            } else {
                self.writing_until = None;
                self.handle(Input::Writing(false));
            }
        }
        let looked = self.watchdog.look(&self.shared, self.watched.keys());
        self.handle(looked.unwrap_or(Input::Tick));
        if self.gauges_due <= Instant::now() {
            self.gauge();
        }
    }

    fn found(&mut self, finding: Finding) {
        let Finding {
            host,
            number,
            begun,
            result,
            over,
        } = finding;
        match &result {
            Ok(answer) => {
                if let Some(took) = answer.round_trip {
                    self.announcer.meters().probe_answered(&host, took);
                }
            }
            // Silence that goes on is told more than once.
            Err(failure) if over => self.announcer.meters().probe_failed(&host, failure),
            Err(_) => {}
        }
        if let Ok(answer) = &result {
            // Also of a host that is no longer watched: what it said was true.
            self.shared.remember(&host, begun, answer);
        }
        let input = match result {
            Ok(answer) => Input::Answered {
                host: host.clone(),
                answer,
            },
            Err(failure) => Input::Failed {
                host: host.clone(),
                failure,
            },
        };
        if self.watched.contains_key(&host) {
            self.handle(input);
        }
        if let (Some(watched), true) = (self.watched.get_mut(&host), over) {
            let (answered, still) = std::mem::take(&mut watched.waiting)
                .into_iter()
                .partition(|(after, _)| *after < number);
            watched.waiting = still;
            for (_, done) in answered as Vec<(u64, oneshot::Sender<()>)> {
                // Who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    fn asked(&mut self, request: Request) {
        match request {
            Request::Report {
                host,
                generation,
                report,
                done,
            } => {
                if let (Some(done), Some(watched)) = (done, self.watched.get_mut(&host)) {
                    let begun = watched.bell.begun.load(Ordering::Acquire);
                    watched.waiting.push((begun, done));
                }
                self.handle(Input::Reported {
                    host,
                    generation,
                    report,
                });
            }
            Request::Writing => {
                if self.writing_until.is_none() {
                    self.shared.take_writing();
                    self.writing_until = Some(Instant::now() + WRITING_LASTS);
                    self.handle(Input::Writing(true));
                }
            }
            Request::InUse => self.watchdog.wake(&self.shared, self.watched.keys()),
            Request::ForgetTerm => self.handle(Input::ForgetTerm),
            Request::Announce(event) => self.announcer.announce(event),
            Request::ProbeNow => {
                for watched in self.watched.values() {
                    watched.bell.ring.notify_one();
                }
                for source in &self.sources {
                    source.bell.notify_one();
                }
            }
        }
    }

    /// Brings together what the sources said last. One that has failed keeps its last word.
    fn discovered(&mut self, discovered: Discovered) {
        let Some(found) = discovered.found else {
            return;
        };
        self.sources[discovered.source].found = Some(found);
        let mut all = Found::default();
        for said in self
            .sources
            .iter()
            .filter_map(|source| source.found.as_ref())
        {
            for host in &said.hosts {
                if !all.names(&host.addr) {
                    all.hosts.push(host.clone());
                }
            }
            all.primary = all.primary.or_else(|| said.primary.clone());
        }
        self.handle(Input::Discovered(all));
    }

    fn handle(&mut self, input: Input) {
        let now = self.start.elapsed();
        if let Some(stalled) = self.watchdog.stalled() {
            self.act(now, stalled);
        }
        self.act(now, input);
        if self.gauged != Some(self.shared.topology().epoch) {
            self.gauge();
        }
        let pace = self.machine.pace(now);
        self.pace.send_if_modified(|(current, _)| {
            let changed = *current != pace;
            *current = pace;
            changed
        });
    }

    fn act(&mut self, now: Duration, input: Input) {
        let actions = self.machine.handle(now, input);
        // The picture first: whoever reacts to what follows must find it.
        self.publish();
        for action in actions {
            match action {
                Action::Watch(host) => self.watch(host),
                Action::Unwatch(host) => {
                    if let Some(watched) = self.watched.remove(&host) {
                        watched.task.abort();
                        self.shared.drop_host(&host);
                    }
                }
                Action::Probe(host) => {
                    if let Some(watched) = self.watched.get(&host) {
                        watched.bell.ring.notify_one();
                    }
                }
                Action::Emit(event) => self.announcer.announce(event),
            }
        }
    }

    fn publish(&self) {
        let topology: Topology = self.machine.topology();
        self.shared.publish(Arc::new(topology));
    }

    /// Tells the gauges.
    fn gauge(&mut self) {
        let topology = self.shared.topology();
        self.gauges.show(&topology, &self.shared.measure());
        self.gauged = Some(topology.epoch);
        self.gauges_due = Instant::now() + self.config.observe().metrics_interval;
    }

    fn watch(&mut self, host: HostAddr) {
        // What it says is kept from the first word on.
        drop(self.shared.replay(&host));
        let bell = Arc::new(Bell::default());
        let prober = Prober {
            config: self.config.clone(),
            host: host.clone(),
            pace: self.pace.subscribe(),
            bell: bell.clone(),
            findings: self.findings.0.clone(),
        };
        let task = self.tasks.spawn(prober.run());
        let waiting = Vec::new();
        self.watched.insert(
            host,
            Watched {
                bell,
                task,
                waiting,
            },
        );
    }

    fn spawn_discoverer(&mut self, number: usize) {
        let source = &mut self.sources[number];
        let discoverer = Discoverer {
            number,
            source: source.discovery.clone(),
            config: self.config.clone(),
            shared: self.shared.clone(),
            pace: self.pace.subscribe(),
            bell: source.bell.clone(),
            discovered: self.discovered.0.clone(),
            announcer: self.announcer.clone(),
        };
        source.task = Some(self.tasks.spawn(discoverer.run()));
    }

    /// A task of ours ended. A panic is told and the task begun anew; silence would leave a host
    /// unwatched for ever.
    fn ended(&mut self, ended: Result<(), JoinError>) {
        let id = match ended {
            Err(error) if error.is_panic() => error.id(),
            _ => return,
        };
        let host = self
            .watched
            .iter()
            .find(|(_, watched)| watched.task.id() == id)
            .map(|(host, _)| host.clone());
        if let Some(host) = host {
            let task = format!("prober of {host}");
            self.announcer.announce(Event::TaskRestarted { task });
            return self.watch(host);
        }
        let source = self
            .sources
            .iter()
            .position(|source| source.task.as_ref().is_some_and(|task| task.id() == id));
        if let Some(number) = source {
            let task = format!("discovery: {}", self.sources[number].discovery.name());
            self.announcer.announce(Event::TaskRestarted { task });
            self.spawn_discoverer(number);
        }
    }
}
