//! LISTEN that follows the leader.

mod event;
mod queue;
mod subscriber;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

pub use event::{Gap, ListenerEvent, Notification};
use queue::Queue;
use subscriber::Subscriber;

use super::Native;
use crate::{
    config::ConfigError,
    error::{ConnectError, Error},
    pool::SubPools,
    topology::Target,
};

/// Longer names are cut off by the server
/// ([PostgreSQL documentation, section 4.1.1](https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS)).
const LONGEST_NAME: usize = 63;

/// Receives the notifications of channels, from whoever is the writer. From
/// [`Pool::listener`](crate::Pool::listener).
///
/// It has a connection of its own, beside those of the pool, and a task that drives it. After a
/// failover, or when the connection is lost, the channels are subscribed again on the writer of
/// then, and a [`Gap`] stands between what came before and after: nobody listened in between, so
/// read again what the notifications are about. While there is no writer it waits for one.
///
/// What is not read is buffered, up to
/// [`listener_capacity`](crate::config::SessionSettings::listener_capacity) events; what comes then
/// is dropped, and a [`Gap`] tells how many. So a slow reader does not stop the server, whose queue
/// of notifications is one for all.
///
/// It ends when the pool is closed, or when it is dropped. Like a handle of the pool it keeps the
/// cluster watched.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use leadpool::ListenerEvent;
///
/// let mut listener = pool.listener();
/// listener.listen("orders").await?;
/// // Read what is there now: what comes from here on is notified.
/// while let Some(event) = listener.next().await {
///     match event {
///         ListenerEvent::Notification(n) => println!("{}: {}", n.channel, n.payload),
///         ListenerEvent::Gap(gap) => println!("read everything again: {gap:?}"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    pools: Arc<SubPools<Native>>,
    shared: Arc<Shared>,
    /// The channels that should be subscribed.
    wanted: watch::Sender<Vec<String>>,
    /// Those that are.
    in_force: watch::Receiver<Vec<String>>,
    /// How long to wait for a subscription.
    limit: Duration,
    task: JoinHandle<()>,
}

/// What the task tells, besides what is in force.
struct Shared {
    queue: Queue,
    /// Why the last attempt to subscribe failed.
    failure: Mutex<Option<Failure>>,
}

impl Shared {
    fn note(&self, failure: Failure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Takes the last failure, if it is `wanted`.
    fn take_failure(&self, wanted: impl FnOnce(&Failure) -> bool) -> Option<ConnectError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let found = failure.take_if(|failure| wanted(failure))?;
        Some(found.error)
    }
}

/// Why a host took no subscription.
struct Failure {
    error: ConnectError,
    /// Whether waiting may cure it.
    is_curable: bool,
}

impl Listener {
    pub(crate) fn new(pools: Arc<SubPools<Native>>, limit: Duration) -> Self {
        let capacity = pools.cluster().config().session().listener_capacity;
        let shared = Arc::new(Shared {
            queue: Queue::new(capacity),
            failure: Mutex::new(None),
        });
        let (wanted, wishes) = watch::channel(Vec::new());
        let (tell, in_force) = watch::channel(Vec::new());
        let subscriber = Subscriber::new(pools.clone(), shared.clone(), wishes, tell);
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by `Listener`, which aborts it"
        )]
        let task = tokio::spawn(subscriber.run());
        Self {
            pools,
            shared,
            wanted,
            in_force,
            limit,
            task,
        }
    }

    /// Subscribes to a channel, and waits until that is in force, for the checkout timeout at
    /// most: what is notified from then on is received.
    ///
    /// The name is taken as it is, so `listen("Orders")` hears `NOTIFY "Orders"`, while
    /// `NOTIFY Orders` without quotes notifies `orders`.
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: no channel can have that name.
    /// - [`Error::NoHost`]: there was no writer in time.
    /// - [`Error::Connect`]: the writer refuses the session.
    /// - [`Error::Closed`]: the pool has been closed.
    ///
    /// After an error the channel is not subscribed to.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the channel is still subscribed to, as soon as that is possible.
    pub async fn listen(&mut self, channel: &str) -> Result<(), Error> {
        self.listen_all([channel]).await
    }

    /// Subscribes to several channels at once.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen), and for all of them.
    ///
    /// # Cancel safety
    ///
    /// As [`listen`](Self::listen).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(mut listener: leadpool::Listener) -> Result<(), leadpool::Error> {
    /// listener.listen_all(["orders", "returns"]).await
    /// # }
    /// ```
    pub async fn listen_all(
        &mut self,
        channels: impl IntoIterator<Item = &str>,
    ) -> Result<(), Error> {
        let channels: Vec<_> = channels.into_iter().map(str::to_owned).collect();
        for channel in &channels {
            check_channel(channel)?;
        }
        let subscribed = self.subscribed(&channels).await;
        if subscribed.is_err() {
            for channel in &channels {
                self.unlisten(channel);
            }
        }
        subscribed
    }

    async fn subscribed(&mut self, channels: &[String]) -> Result<(), Error> {
        drop(self.shared.take_failure(|_| true));
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.len();
            for channel in channels {
                if !wanted.contains(channel) {
                    wanted.push(channel.clone());
                }
            }
            wanted.len() != before
        });
        let begun = Instant::now();
        let (in_force, shared) = (&mut self.in_force, &self.shared);
        let subscribed = timeout(self.limit, async {
            loop {
                let is_done = {
                    let known = in_force.borrow_and_update();
                    channels.iter().all(|channel| known.contains(channel))
                };
                if is_done {
                    return Ok(());
                }
                if let Some(refusal) = shared.take_failure(|failure| !failure.is_curable) {
                    return Err(Error::Connect(Box::new(refusal)));
                }
                if in_force.changed().await.is_err() {
                    return Err(Error::Closed);
                }
            }
        });
        subscribed.await.unwrap_or_else(|_| {
            let failure = shared.take_failure(|_| true);
            let source = failure.map(|failure| Box::new(failure) as _);
            let cluster = self.pools.cluster();
            Err(cluster.no_host(Target::Primary, begun.elapsed(), source))
        })
    }

    /// Ends the subscription to a channel. What was received before can still be read.
    pub fn unlisten(&mut self, channel: &str) {
        self.wanted.send_if_modified(|channels| {
            let before = channels.len();
            channels.retain(|known| known != channel);
            channels.len() != before
        });
    }

    /// The channels that it subscribes to.
    #[must_use]
    pub fn channels(&self) -> Vec<String> {
        self.wanted.borrow().clone()
    }

    /// Waits for the next event; `None` after the pool has been closed, and everything before has
    /// been read.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<ListenerEvent> {
        self.shared.queue.next().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("channels", &self.channels())
            .finish_non_exhaustive()
    }
}

fn check_channel(name: &str) -> Result<(), ConfigError> {
    let problem = match name {
        "" => "a channel has a name",
        _ if name.len() > LONGEST_NAME => "a channel's name has 63 bytes at most",
        _ if name.contains('\0') => "the name contains a NUL character",
        _ => return Ok(()),
    };
    Err(ConfigError::invalid("channel", problem))
}
