//! The stream of events.

use tokio::sync::broadcast::{self, error::RecvError};

use crate::failover::Event;

/// A stream of the cluster's events, from the moment it was made.
///
/// A receiver that is too slow loses the oldest events, and is told how many it lost
/// ([`Event::Missed`]); it never slows the monitor.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// let mut events = pool.cluster().events();
/// tokio::spawn(async move {
///     while let Some(event) = events.next().await {
///         println!("{event:?}");
///     }
/// });
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self { receiver }
    }

    /// Waits for the next event; `None` after the cluster has been closed or dropped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => Some(Event::Missed { count }),
            Err(RecvError::Closed) => None,
        }
    }
}
