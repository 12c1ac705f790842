//! The buffer between a listener's connection and its reader.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Gap, ListenerEvent};

/// Holds as many events as it may, and one gap more: a reader that is slow loses what comes then,
/// and is told so in its place. The server is never made to wait, since its queue of notifications
/// is one for all sessions, and would grow.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<ListenerEvent>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            capacity,
        }
    }

    pub(super) fn push(&self, event: ListenerEvent) {
        let mut inner = self.lock();
        if inner.events.len() < self.capacity {
            inner.events.push_back(event);
        } else if let Some(ListenerEvent::Gap(Gap::Overflow { missed })) = inner.events.back_mut() {
            *missed += 1;
        } else {
            let overflow = Gap::Overflow { missed: 1 };
            inner.events.push_back(ListenerEvent::Gap(overflow));
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Nothing comes any more; what is there can still be read.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for the next event; `None` at the end. For one reader.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&self) -> Option<ListenerEvent> {
        loop {
            {
                let mut inner = self.lock();
                let event = inner.events.pop_front();
                if event.is_some() || inner.is_closed {
                    return event;
                }
            }
            // What has happened since is kept for this.
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Notification, *};
    use crate::topology::HostAddr;

    fn notification(payload: u32) -> ListenerEvent {
        ListenerEvent::Notification(Notification {
            channel: "c".into(),
            payload: payload.to_string(),
            process_id: 1,
            host: HostAddr::new("db1", 5432),
        })
    }

    fn overflow(missed: u64) -> ListenerEvent {
        ListenerEvent::Gap(Gap::Overflow { missed })
    }

    #[tokio::test]
    async fn what_is_lost_is_told_where_it_was_lost() {
        let queue = Queue::new(2);
        for payload in 0..5 {
            queue.push(notification(payload));
        }
        assert_eq!(queue.next().await, Some(notification(0)));
        // Two are there: it is still full.
        queue.push(notification(5));
        assert_eq!(queue.next().await, Some(notification(1)));
        queue.push(notification(6));
        queue.push(notification(7));
        queue.close();
        for expected in [overflow(4), notification(6), overflow(1)] {
            assert_eq!(queue.next().await, Some(expected));
        }
        assert_eq!(queue.next().await, None);
    }
}
