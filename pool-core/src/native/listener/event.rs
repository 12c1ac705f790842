//! What a listener gives out.

use crate::topology::HostAddr;

/// What a [`Listener`](crate::Listener) gives out.
///
/// ```no_run
/// # async fn f(mut listener: leadpool::Listener) {
/// use leadpool::ListenerEvent;
///
/// while let Some(event) = listener.next().await {
///     match event {
///         ListenerEvent::Notification(notification) => println!("{}", notification.payload),
///         ListenerEvent::Gap(_) => println!("read again what the notifications are about"),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerEvent {
    /// Somebody has notified a channel.
    Notification(Notification),
    /// Notifications may be missing here.
    Gap(Gap),
}

/// A notification.
///
/// ```no_run
/// # fn f(notification: leadpool::Notification) {
/// println!("{}: {}", notification.channel, notification.payload);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// The channel.
    pub channel: String,
    /// What `NOTIFY` was given, or nothing.
    pub payload: String,
    /// The process of the server that notified: `pg_backend_pid()` of that session.
    pub process_id: i32,
    /// The host that it came from.
    pub host: HostAddr,
}

/// Why notifications may be missing. Read again what they are about: whatever was committed
/// before the marker is there by then.
///
/// ```no_run
/// # fn f(gap: leadpool::Gap) {
/// use leadpool::Gap;
///
/// match gap {
///     Gap::Reconnected { from, to, .. } => println!("nobody listened between {from} and {to}"),
///     Gap::Overflow { missed, .. } => println!("{missed} came too fast"),
///     _ => {}
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// The connection was lost, or its host invalidated, and another one has subscribed to all
    /// channels again. What was notified in between is lost: PostgreSQL keeps nothing for who does
    /// not listen. Once for each such change, before anything of the new connection.
    #[non_exhaustive]
    Reconnected {
        /// Where the channels were subscribed before.
        from: HostAddr,
        /// Where they are now; the same host if only the connection was lost.
        to: HostAddr,
    },
    /// The application has not read for so long that the buffer was full.
    #[non_exhaustive]
    Overflow {
        /// How many notifications were dropped here, with the gaps among them.
        missed: u64,
    },
}
