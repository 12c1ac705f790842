//! LISTEN that follows the writer, with the methods of sqlx's.

use std::fmt;

use async_stream::try_stream;
use futures_util::{FutureExt as _, Stream};
use leadpool::{Gap, HostAddr, Listener, ListenerEvent, Notification};

use crate::{Pool, error::into_sqlx};

/// Receives the notifications of channels, from whoever is the writer. It stands in for
/// [`sqlx::postgres::PgListener`].
///
/// After a failover, or when the connection is lost, the channels are subscribed again on the
/// writer of then, by itself, and while nobody reads too. Nobody listened in between, so what the
/// notifications are about should be read again then: [`try_recv`](Self::try_recv) says so in its
/// place by `None`, and [`gap`](Self::gap) says what it was.
///
/// It has a connection of its own, beside those of the pool, and leadpool's: it is opened with the
/// cluster's configuration, and neither [`connect_options`](crate::PgPoolOptions::connect_options)
/// nor [`after_connect`](crate::PgPoolOptions::after_connect) count for it; nor can statements be
/// run on it. What is not read is buffered, as [`leadpool::Listener`] has it.
///
/// It ends when the pool is closed, or when it is dropped.
///
/// ```no_run
/// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), sqlx::Error> {
/// use leadpool_sqlx::PgListener;
///
/// let mut listener = PgListener::connect_with(&pool).await?;
/// listener.listen("orders").await?;
/// // Read what is there now: what comes from here on is notified.
/// loop {
///     match listener.try_recv().await? {
///         Some(notification) => println!("{}", notification.payload()),
///         None => println!("read everything again: {:?}", listener.gap()),
///     }
/// }
/// # }
/// ```
pub struct PgListener {
    listener: Listener,
    /// A gap that nobody has been told of yet.
    untold: Option<Gap>,
    /// The last one that was told.
    gap: Option<Gap>,
}

/// A notification, with the methods of [`sqlx::postgres::PgNotification`].
///
/// ```no_run
/// # fn f(notification: leadpool_sqlx::PgNotification) {
/// println!("{} from {}", notification.payload(), notification.host());
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PgNotification(Notification);

impl PgListener {
    /// Makes a pool of its own for a cluster, by [`Pool::connect`], and listens there.
    ///
    /// # Errors
    ///
    /// As [`Pool::connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::connect`].
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        Self::connect_with(&Pool::connect(url).await?).await
    }

    /// A listener beside a pool. Its connection is opened with its first channel; unlike sqlx's it
    /// takes none of the pool's. Whatever the handle is for, it listens to the writer.
    ///
    /// # Errors
    ///
    /// `PoolClosed`: the pool has been closed.
    ///
    /// # Cancel safety
    ///
    /// It does not wait.
    pub async fn connect_with(pool: &Pool) -> Result<Self, sqlx::Error> {
        if pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        let limit = pool.options().get_acquire_timeout();
        Ok(Self {
            listener: pool.inner().resolver.listener(limit),
            untold: None,
            gap: None,
        })
    }

    /// Subscribes to a channel, and waits until that is in force, for the acquire timeout at most:
    /// what is notified from then on is received. The name is taken as it is, as if quoted.
    ///
    /// # Errors
    ///
    /// - `Configuration`: no channel can have that name.
    /// - `Io` with [`leadpool::Error::NoHost`] [inside](crate::Error::inside): there was no writer
    ///   in time.
    /// - `PoolClosed`: the pool has been closed.
    /// - what the server answers to a session that it refuses.
    ///
    /// After an error the channel is not subscribed to.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the channel is still subscribed to, as soon as that is possible.
    pub async fn listen(&mut self, channel: &str) -> Result<(), sqlx::Error> {
        self.listener.listen(channel).await.map_err(into_sqlx)
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
    pub async fn listen_all(
        &mut self,
        channels: impl IntoIterator<Item = &str>,
    ) -> Result<(), sqlx::Error> {
        let listened = self.listener.listen_all(channels).await;
        listened.map_err(into_sqlx)
    }

    /// Ends the subscription to a channel. It does not wait for the server; what was received
    /// before can still be read.
    ///
    /// # Errors
    ///
    /// None: the result is sqlx's.
    ///
    /// # Cancel safety
    ///
    /// It does not wait.
    pub async fn unlisten(&mut self, channel: &str) -> Result<(), sqlx::Error> {
        self.listener.unlisten(channel);
        Ok(())
    }

    /// Ends the subscriptions to all channels: as [`unlisten`](Self::unlisten).
    ///
    /// # Errors
    ///
    /// None: the result is sqlx's.
    ///
    /// # Cancel safety
    ///
    /// It does not wait.
    pub async fn unlisten_all(&mut self) -> Result<(), sqlx::Error> {
        for channel in self.listener.channels() {
            self.listener.unlisten(&channel);
        }
        Ok(())
    }

    /// Waits for the next notification, and passes by gaps in silence, as sqlx's does:
    /// [`try_recv`](Self::try_recv) tells of them.
    ///
    /// # Errors
    ///
    /// `PoolClosed`: the pool has been closed, and everything before has been read.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<PgNotification, sqlx::Error> {
        loop {
            if let Some(notification) = self.try_recv().await? {
                return Ok(notification);
            }
        }
    }

    /// Waits for the next notification; `None` where notifications may be missing.
    ///
    /// With sqlx's, `None` says that the connection was lost. Here it comes when the channels have
    /// been subscribed again, before anything of the new connection, and also where more came than
    /// the buffer holds. So what is read after it misses nothing.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn try_recv(&mut self) -> Result<Option<PgNotification>, sqlx::Error> {
        loop {
            if let Some(gap) = self.untold.take() {
                self.gap = Some(gap);
                return Ok(None);
            }
            let event = self.listener.next().await.ok_or(sqlx::Error::PoolClosed)?;
            if let Some(notification) = self.taken(event) {
                return Ok(Some(notification));
            }
        }
    }

    /// The next notification that has come already. At a gap it gives nothing until
    /// [`try_recv`](Self::try_recv) or [`recv`](Self::recv) has passed it.
    pub fn next_buffered(&mut self) -> Option<PgNotification> {
        if self.untold.is_some() {
            return None;
        }
        let event = self.listener.next().now_or_never().flatten()?;
        self.taken(event)
    }

    /// Which gap the last `None` of [`try_recv`](Self::try_recv) was, or the last that
    /// [`recv`](Self::recv) has passed by.
    #[must_use]
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Of no effect; there for code that was written for sqlx's. The channels are always
    /// subscribed again at once.
    pub fn eager_reconnect(&mut self, _: bool) {}

    /// The listener as a stream, which passes by gaps in silence as [`recv`](Self::recv) does. It
    /// ends with an error, when the pool has been closed.
    pub fn into_stream(
        mut self,
    ) -> impl Stream<Item = Result<PgNotification, sqlx::Error>> + Send + Unpin {
        Box::pin(try_stream! {
            loop {
                yield self.recv().await?;
            }
        })
    }

    /// Takes in what has come, and gives out the notification.
    fn taken(&mut self, event: ListenerEvent) -> Option<PgNotification> {
        match event {
            ListenerEvent::Notification(notification) => Some(PgNotification(notification)),
            ListenerEvent::Gap(gap) => {
                self.untold = Some(gap);
                None
            }
            _ => None,
        }
    }
}

impl PgNotification {
    /// The process of the server that notified: `pg_backend_pid()` of that session.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.0.process_id.cast_unsigned()
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.0.channel
    }

    /// What `NOTIFY` was given, or nothing.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.0.payload
    }

    /// The host that it came from.
    #[must_use]
    pub fn host(&self) -> &HostAddr {
        &self.0.host
    }
}

impl fmt::Debug for PgListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgListener")
            .field("channels", &self.listener.channels())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PgNotification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgNotification")
            .field("process_id", &self.process_id())
            .field("channel", &self.channel())
            .field("payload", &self.payload())
            .finish_non_exhaustive()
    }
}
