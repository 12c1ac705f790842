//! The handle of a cluster.

use std::{
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{broadcast, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    Pauses, Pulse, Replay,
    shared::{Follower, Shared},
    worker::{Request, Worker},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    discovery::{Auto, Discovery},
    error::{BoxError, Error, NoHost},
    failover::{Event, Machine, Report},
    observe::{Announcer, Events, Meters},
    outcome::History,
    routing::Usable,
    topology::{HostAddr, Target, Topology},
};

/// One logical database served by several hosts, watched by one monitor.
///
/// All pools of an application that use the same database hang on one `Cluster`, so the hosts are
/// probed once and all pools change over together. Cloning is cheap. The monitor stops when the
/// last handle and the last pool are dropped, or at [`close`](Self::close).
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// use leadpool::{Cluster, Config, Pool};
///
/// let cluster = Cluster::connect(Config::from_url("postgres://app@db1,db2,db3/shop")?).await?;
/// let pool = Pool::new(&cluster);
/// println!("{:?}", cluster.topology().writer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    events: broadcast::WeakSender<Event>,
    meters: Meters,
    monitor: JoinHandle<()>,
    runtime: Handle,
    /// Whatever is streamed to clients ends with it.
    service_end: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.monitor.abort();
    }
}

impl Cluster {
    /// Starts to watch the hosts of the configuration, and those that the
    /// [source chosen](Auto) by itself finds, and waits until one is usable as its
    /// target asks. With [`lazy`](crate::config::PoolSettings::lazy) it does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::NoHost`] when the startup timeout passes before: it says what was seen on each
    /// host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything that it started.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        Self::connect_with(config, Auto::new()).await
    }

    /// Like [`connect`](Self::connect), with a source of hosts in place of the configuration's
    /// list, which is where it begins.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(config: Config, discovery: impl Discovery) -> Result<Self, Error> {
        Self::connect_all(config, vec![Arc::new(discovery)]).await
    }

    /// Like [`connect_with`](Self::connect_with), with several sources: what one of them names
    /// belongs to the cluster. Of zones, weights and hints the first one's count.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_all(
        config: Config,
        sources: Vec<Arc<dyn Discovery>>,
    ) -> Result<Self, Error> {
        let cluster = Self::start(config, sources);
        let pool = cluster.config().pool();
        if !pool.lazy {
            let target = cluster.config().target();
            let deadline = Instant::now() + pool.startup_timeout;
            cluster.wait_usable(target, deadline).await?;
        }
        Ok(cluster)
    }

    fn start(config: Config, sources: Vec<Arc<dyn Discovery>>) -> Self {
        let config = Arc::new(config);
        let unknown = Machine::new(config.hosts(), config.monitor().clone()).topology();
        let shared = Arc::new(Shared::new(unknown));
        let (events, _) = broadcast::channel(config.monitor().events_capacity);
        let (requests, inbox) = mpsc::channel(1024);
        let meters = Meters::new(config.pool_name());
        let announcer = Arc::new(Announcer::new(events, meters.clone()));
        let weak = announcer.downgrade();
        let worker = Worker::new(config.clone(), sources, shared.clone(), announcer);
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by `Inner`, which aborts it"
        )]
        let monitor = tokio::spawn(worker.run(inbox));
        Self {
            inner: Arc::new(Inner {
                config,
                shared,
                requests,
                events: weak,
                meters,
                monitor,
                runtime: Handle::current(),
                service_end: CancellationToken::new(),
            }),
        }
    }

    /// The newest picture of the cluster.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        self.inner.shared.topology()
    }

    /// The newest picture, without counting a reference.
    pub(crate) fn glance(&self) -> impl std::ops::Deref<Target = Topology> + '_ {
        self.inner.shared.glance()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The events from now on. The [topology](Self::topology) is published before the events that
    /// tell of it, so the first of them may tell of what it shows already.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(match self.inner.events.upgrade() {
            Some(sender) => sender.subscribe(),
            // Closed: a stream that ends at once.
            None => broadcast::channel(1).1,
        })
    }

    /// Waits until a host is usable as `target` asks, and returns the picture that shows it.
    ///
    /// # Errors
    ///
    /// [`Error::NoHost`] when `timeout` passes before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn wait_for(
        &self,
        target: Target,
        timeout: Duration,
    ) -> Result<Arc<Topology>, Error> {
        self.wait_usable(target, Instant::now() + timeout).await
    }

    async fn wait_usable(&self, target: Target, deadline: Instant) -> Result<Arc<Topology>, Error> {
        let begun = Instant::now();
        let mut epoch = self.inner.shared.subscribe();
        loop {
            epoch.borrow_and_update();
            let topology = self.topology();
            if Usable::of(&topology).route(target).is_some() {
                return Ok(topology);
            }
            if self.is_closed() {
                return Err(Error::Closed);
            }
            if !matches!(timeout_at(deadline, epoch.changed()).await, Ok(Ok(()))) {
                return Err(self.no_host(target, begun.elapsed(), None));
            }
        }
    }

    /// Forgets the highest term: the way out when a host with a higher term joined by mistake (a
    /// restored copy, a test promotion) and its claim fences the real primary.
    ///
    /// Stop that host first. While it goes on claiming, its term is the highest again with its
    /// next answer.
    pub fn forget_term(&self) {
        // A monitor that has ended fences nobody.
        drop(self.inner.requests.try_send(Request::ForgetTerm));
    }

    /// Has all hosts probed and all sources asked at once: for callbacks of failover managers, and
    /// whoever else hears of a change first. It changes nothing by itself, so it may be called in
    /// vain, and by anybody; calls in quick succession count as one.
    pub fn probe_now(&self) {
        // A monitor that has ended probes nobody.
        drop(self.inner.requests.try_send(Request::ProbeNow));
    }

    /// Stops the monitor. The picture stays as it is; checkouts of its pools fail with
    /// [`Error::Closed`] once they are closed too ([`Pool::close`](crate::Pool::close) does both).
    pub fn close(&self) {
        self.inner.shared.close();
        self.inner.monitor.abort();
        self.inner.service_end.cancel();
    }

    /// Happens when the service is told to end, and when the cluster is closed.
    #[cfg(feature = "web")]
    pub(crate) fn service_end(&self) -> CancellationToken {
        self.inner.service_end.clone()
    }

    /// Whether the monitor has been stopped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.shared.is_closed()
    }

    pub(crate) fn config_arc(&self) -> Arc<Config> {
        self.inner.config.clone()
    }

    /// Feeds the metrics of this cluster.
    pub(crate) fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    pub(crate) fn attach(&self, follower: &Arc<impl Follower + 'static>) {
        self.inner.shared.attach(follower);
    }

    /// All pools of the cluster.
    pub(crate) fn followers(&self) -> Vec<Arc<dyn Follower>> {
        self.inner.shared.followers()
    }

    /// Who has all pools of the cluster paused.
    pub(crate) fn pauses(&self) -> &Pauses {
        self.inner.shared.pauses()
    }

    /// Where the monitor runs, and the tasks of its pools.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }

    /// Tells of what a pool of the cluster does.
    pub(crate) fn emit(&self, event: Event) {
        // A monitor that has ended tells nobody.
        drop(self.inner.requests.try_send(Request::Announce(event)));
    }

    /// Notes a checkout of the writer.
    #[inline]
    pub(crate) fn note_writing(&self) {
        if self.inner.shared.note_writing() {
            self.tell_writing();
        }
    }

    #[cold]
    fn tell_writing(&self) {
        if self.inner.requests.try_send(Request::Writing).is_err() {
            // The next one tells.
            self.inner.shared.take_writing();
        }
    }

    /// Notes a checkout of any host.
    #[inline]
    pub(crate) fn note_use(&self) {
        if self.inner.shared.note_use() {
            self.tell_use();
        }
    }

    #[cold]
    fn tell_use(&self) {
        if self.inner.requests.try_send(Request::InUse).is_err() {
            // The next one tells.
            self.inner.shared.take_used();
        }
    }

    /// Where signs of a host's life are noted.
    pub(crate) fn pulse(&self, host: &HostAddr) -> Arc<Pulse> {
        self.inner.shared.pulse(host)
    }

    /// What is known of how far the host is.
    pub(crate) fn replay(&self, host: &HostAddr) -> Arc<Replay> {
        self.inner.shared.replay(host)
    }

    pub(crate) fn reporter(&self) -> Reporter {
        Reporter {
            requests: self.inner.requests.clone(),
        }
    }

    /// What is remembered of promotions and flushed logs.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.inner.shared.history()
    }

    pub(crate) fn no_host(
        &self,
        target: Target,
        waited: Duration,
        source: Option<BoxError>,
    ) -> Error {
        Error::NoHost(Box::new(NoHost {
            target,
            waited,
            seen: self
                .topology()
                .hosts()
                .iter()
                .map(crate::topology::HostView::describe)
                .chain(
                    source
                        .as_ref()
                        .map(|error| format!("last attempt: {error}")),
                )
                .collect(),
            source,
        }))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("config", &self.inner.config)
            .field("topology", &self.topology())
            .finish_non_exhaustive()
    }
}

/// Tells the monitor what connections see.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    requests: mpsc::Sender<Request>,
}

impl Reporter {
    /// Reports without waiting. A full inbox drops it: the monitor is looking already then.
    pub(crate) fn report(&self, host: &HostAddr, generation: u64, report: Report) {
        drop(self.requests.try_send(Request::Report {
            host: host.clone(),
            generation,
            report,
            done: None,
        }));
    }

    /// Reports, and waits until the host has been looked at since, or `limit` has passed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn verify(
        &self,
        host: &HostAddr,
        generation: u64,
        report: Report,
        limit: Duration,
    ) {
        let (done, looked) = oneshot::channel();
        let request = Request::Report {
            host: host.clone(),
            generation,
            report,
            done: Some(done),
        };
        let deadline = Instant::now() + limit;
        if let Ok(Ok(())) = timeout_at(deadline, self.requests.send(request)).await {
            // An error means that the monitor is gone; the caller's next step will find out.
            let _ = timeout_at(deadline, looked).await;
        }
    }
}
