//! One attempt, between whoever waits for it and the thread in which it blocks.

use std::{
    any::Any,
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver},
};

use diesel::{Connection, connection::LoadConnection, migration::MigrationSource, pg::Pg};
use diesel_migrations::MigrationHarness;
use leadpool::{adapter::Generation, error::BoxError};
use tokio::sync::oneshot;

use super::{
    MigrationError, MigrationPhase,
    runner::{Runner, Session, in_transaction},
};

/// A connection that migrations can be run on: one of diesel's.
pub(crate) trait Runs:
    Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static
{
}

impl<C> Runs for C where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static
{
}

/// One attempt. Whoever waits for it may give it up, and shut the connection down.
#[derive(Debug)]
pub(crate) struct Work {
    pub(super) generation: Arc<Generation>,
    pub(super) progress: Arc<Mutex<Progress>>,
    /// Gets a word when the host is given up; is closed when the attempt is.
    pub(super) leave: Receiver<()>,
    pub(super) reply: oneshot::Sender<Result<(), Failure>>,
}

/// How far an attempt has got.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) phase: MigrationPhase,
    /// Its own session; before it has one, one that was lost and may hold the lock.
    pub(super) session: Option<Session>,
    pub(super) applied: Applied,
}

impl Progress {
    pub(super) fn new(lost: Option<Session>, applied: Applied) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            phase: MigrationPhase::Table,
            session: lost,
            applied,
        }))
    }
}

/// What has been applied, by all attempts of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    pub(super) versions: Vec<String>,
    /// One more, perhaps: its end was not answered.
    pub(super) in_doubt: Option<String>,
}

impl Applied {
    /// With what is in the table of the writer of now.
    pub(super) fn compare(&mut self, known: &HashSet<String>) {
        let in_doubt = self.in_doubt.take();
        self.versions.extend(in_doubt);
        self.versions.retain(|version| known.contains(version));
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection was lost, or its host given up while it waited for the lock.
    Lost(BoxError),
    /// The host can't be written to.
    Refused(BoxError),
    /// For good.
    Told(MigrationError),
    /// A migration panicked, with this.
    Panicked(Box<dyn Any + Send>),
}

/// An attempt that has come to its end, of which nobody has heard yet.
#[derive(Debug)]
pub(crate) struct Ended {
    /// In a transaction that was begun for a test: all of it would be lost with the connection.
    is_test: bool,
    result: Result<(), Failure>,
    reply: oneshot::Sender<Result<(), Failure>>,
}

impl Work {
    /// Runs it, unless nobody waits for it any more.
    ///
    /// The connection is to be [parted with](Ended::part) then.
    pub(crate) fn run<C: Runs>(
        self,
        conn: &mut C,
        source: &impl MigrationSource<Pg>,
    ) -> Option<Ended> {
        if self.reply.is_closed() {
            return None;
        }
        let is_test = in_transaction(conn);
        let runner = Runner {
            conn,
            generation: &self.generation,
            progress: &self.progress,
            leave: &self.leave,
            is_test,
        };
        let ran = catch_unwind(AssertUnwindSafe(|| runner.run(source)));
        Some(Ended {
            is_test,
            result: ran.unwrap_or_else(|panic| Err(Failure::Panicked(panic))),
            reply: self.reply,
        })
    }
}

impl Ended {
    /// Closes the connection, so that settings that a migration has made reach nobody, or returns
    /// it; then tells whoever waits.
    pub(crate) fn part<C>(self, conn: C, close: impl FnOnce(C)) {
        match self.is_test {
            true => drop(conn),
            false => close(conn),
        }
        // Or nobody does any more.
        drop(self.reply.send(self.result));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
