//! What is known of a connection beside diesel's object.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use diesel_async::pooled_connection::deadpool::{Hook, HookError};
use leadpool::adapter::{Answers, Generation};
use tokio::task::AbortHandle;

use super::{AsyncPgConnection, Object, opening::take_over};

/// An open connection, beside the object that applications hold.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) answers: Arc<Answers>,
    task: AbortHandle,
    generation: Weak<Generation>,
}

impl Session {
    pub(super) fn new(
        answers: Arc<Answers>,
        task: AbortHandle,
        generation: &Arc<Generation>,
    ) -> Arc<Self> {
        Arc::new(Self {
            answers,
            task,
            generation: Arc::downgrade(generation),
        })
    }

    /// Closes the connection at once: diesel's object alone would wait for what is to be answered.
    pub(super) fn end(&self) {
        self.task.abort();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// `None` once nothing of it is in use.
    pub(super) fn generation(&self) -> Option<Arc<Generation>> {
        self.generation.upgrade()
    }
}

/// The sessions of the connections of a pool.
///
/// The objects are diesel's and have no place for more. What tells them from each other is the
/// instant at which deadpool has made them, which stays with them; two that share one can't be told
/// apart, so the second is refused.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Instant, Arc<Session>>>);

impl Sessions {
    /// Takes over what was opened for the pool.
    pub(super) fn hook(self: &Arc<Self>) -> Hook<AsyncPgConnection> {
        let sessions = self.clone();
        Hook::sync_fn(move |conn, metrics| {
            let taken =
                take_over(conn).is_some_and(|session| sessions.insert(metrics.created, session));
            match taken {
                true => Ok(()),
                false => Err(HookError::message("can't be told from another connection")),
            }
        })
    }

    pub(super) fn get(&self, conn: &Object) -> Option<Arc<Session>> {
        self.of(Object::metrics(conn).created)
    }

    /// By the moment at which deadpool has made the object.
    pub(super) fn of(&self, created: Instant) -> Option<Arc<Session>> {
        self.lock().get(&created).cloned()
    }

    fn insert(&self, created: Instant, session: Arc<Session>) -> bool {
        let mut known = self.lock();
        if known.len() == known.capacity() {
            known.retain(|_, session| !session.has_ended());
        }
        if known.get(&created).is_some_and(|other| !other.has_ended()) {
            session.end();
            return false;
        }
        known.insert(created, session);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Instant, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("known", &self.lock().len())
            .finish()
    }
}
