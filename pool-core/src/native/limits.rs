//! Statement timeouts of single checkouts, and that nobody inherits them.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, StatementCache};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_postgres::{Error, SimpleQueryStream, error::SqlState};

use crate::{config::Milliseconds, observe::rows, pool::Generation};

/// Which connections have another limit than the pool's.
///
/// Nobody waits for the answer to `SET` and `RESET`. Each is looked at when the connection is
/// about to be handed out the next time: one on which either was refused is closed instead.
///
/// A connection is told from another by its statement cache, as in `session.rs`.
#[derive(Default)]
pub(super) struct Limits {
    /// How many are known, so that the rest of the world looks at one number.
    count: AtomicUsize,
    known: Mutex<HashMap<usize, Changed>>,
}

struct Changed {
    cache: Weak<StatementCache>,
    is_set: bool,
    /// What has not been seen to be answered yet.
    answers: Vec<Pin<Box<SimpleQueryStream>>>,
}

impl Limits {
    /// Sends the limit ahead of what comes next.
    pub(super) fn set(&self, client: &ClientWrapper, limit: Duration) -> Result<(), Error> {
        let limit = Milliseconds::from(limit);
        let answer = send(client, &format!("SET statement_timeout = {limit}"))?;
        let mut known = self.lock();
        if !known.contains_key(&key(client)) {
            known.retain(|_, changed| changed.cache.strong_count() > 0);
        }
        let changed = known.entry(key(client)).or_insert_with(|| Changed {
            cache: Arc::downgrade(&client.statement_cache),
            is_set: false,
            answers: Vec::new(),
        });
        changed.is_set = true;
        changed.answers.push(answer);
        self.count.store(known.len(), Ordering::Release);
        Ok(())
    }

    /// Gives the connection its pool's limit back, before it is handed out.
    ///
    /// # Errors
    ///
    /// It has another limit than it should have, and must not be used.
    pub(super) fn restore(
        &self,
        client: &ClientWrapper,
        generation: &Generation,
    ) -> Result<(), Error> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut known = self.lock();
        let Some(changed) = known.get_mut(&key(client)) else {
            return Ok(());
        };
        let restored = changed.restore(client);
        if restored.is_err() || changed.answers.is_empty() {
            known.remove(&key(client));
            self.count.store(known.len(), Ordering::Release);
        }
        restored.inspect_err(|error| {
            // Not its text: what a server says may quote what the application sent.
            tracing::event!(
                name: rows::LIMIT_REFUSED.name,
                target: rows::LIMIT_REFUSED.target,
                rows::LIMIT_REFUSED.level,
                {
                    db.client.connection.pool.name = generation.meters().pool(),
                    server.address = generation.host().name(),
                    server.port = generation.host().port(),
                    db.response.status_code = error.code().map(SqlState::code),
                },
                "statement_timeout could not be set; the connection is closed"
            );
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Changed>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changed {
    fn restore(&mut self, client: &ClientWrapper) -> Result<(), Error> {
        let mut open = Vec::new();
        for mut answer in self.answers.drain(..) {
            if !is_answered(&mut answer)? {
                open.push(answer);
            }
        }
        self.answers = open;
        if std::mem::take(&mut self.is_set) {
            // To what the connection was opened with.
            self.answers.push(send(client, "RESET statement_timeout")?);
        }
        Ok(())
    }
}

/// Looks whether the last answer is there, without waiting for it.
fn is_answered(answer: &mut Pin<Box<SimpleQueryStream>>) -> Result<bool, Error> {
    loop {
        match answer.next().now_or_never() {
            Some(Some(message)) => drop(message?),
            Some(None) => return Ok(true),
            None => return Ok(false),
        }
    }
}

fn send(client: &ClientWrapper, sql: &str) -> Result<Pin<Box<SimpleQueryStream>>, Error> {
    super::attempt::send(client, sql).map(Box::pin)
}

fn key(client: &ClientWrapper) -> usize {
    Arc::as_ptr(&client.statement_cache).addr()
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
