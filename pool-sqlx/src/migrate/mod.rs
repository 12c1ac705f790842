//! Migrations, run once, on whoever is the writer.

mod error;
mod runner;

use std::time::Duration;

pub use error::{MigrationDeadline, MigrationPhase};
use leadpool::{adapter::Generation, error::Disposition, error::TxPhase, failover::Report};
use runner::Runner;
use sqlx::migrate::{MigrateError, Migrator};
use tokio::time::{Instant, timeout_at};

use crate::{
    Error, Pool,
    error::{Interrupted, disposition},
    lease::Lease,
    repeat::{Repeats, is_lost, look},
};

/// How long migrations may take without a word about it: building an index takes its time, and so
/// does waiting for who builds it.
const DEADLINE: Duration = Duration::from_secs(60 * 60);
/// For limits that no clock can hold.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

impl Pool {
    /// Runs the migrations that the writer does not have yet; each of them once, also when many
    /// instances of an application start together, and when the writer changes meanwhile. Takes
    /// an hour at most: see [`migrate_within`](Self::migrate_within).
    ///
    /// It waits for a writer, and then for the lock that sqlx's migrators take. Unlike theirs, its
    /// wait holds no snapshot on the server, so `CREATE INDEX CONCURRENTLY`, which waits for all
    /// snapshots, is not caught in a deadlock with the instances that wait for it.
    ///
    /// When the host is given up, or the connection lost, it begins again on the writer of then:
    /// under the lock, the table `_sqlx_migrations` says what has been applied there. That is also
    /// how a COMMIT without an answer is found out. If that happened on the same host, the session
    /// that was lost is ended first, if it still holds the lock.
    ///
    /// A migration that runs in no transaction (`-- no-transaction`) is entered into the table
    /// before it runs, as one without success, and with success behind it. One that was cut off
    /// stays as it was entered, and ends this call and all later ones, of sqlx's own migrators
    /// too, with [`MigrateError::Dirty`]: it may have run in part, in whole, or not at all. Look
    /// what there is of it. Then either bring it to its end and enter the success
    /// (`UPDATE _sqlx_migrations SET success = true WHERE version = ..`), or undo what there is
    /// and delete the row, so that it runs again. After a failover without the row, nothing of the
    /// migration has reached the new writer, and it is run there. One that the server answered
    /// with an error is told, and run again the next time, as by sqlx.
    ///
    /// What has been applied on a writer can still be lost with it, if its standbys are not
    /// synchronous. The connection is closed at the end, so that settings that a migration has
    /// made reach nobody.
    ///
    /// sqlx's own [`run`](Migrator::run), [`run_to`](Migrator::run_to), [`skip`](Migrator::skip)
    /// and [`undo`](Migrator::undo) take `&pool` too, and do what they do on a [`sqlx::PgPool`]:
    /// without the above, and on the writer if the handle is one for the writer.
    ///
    /// # Errors
    ///
    /// - what sqlx says of migrations: one that was changed, is missing, is dirty, or failed.
    /// - `Execute`, with what [`acquire`](Self::acquire) may end with, and with
    ///   [`Error::MigrationDeadline`] [inside](Error::inside).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection. The server notices within a second (before
    /// PostgreSQL 14: at the end of the statement), ends what runs there and rolls it back; a
    /// migration without a transaction is dirty then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("tests/migrations");
    ///
    /// # async fn f() -> Result<(), sqlx::Error> {
    /// let pool = leadpool_sqlx::Pool::connect("postgres://app@db1,db2,db3/shop").await?;
    /// pool.migrate(&MIGRATOR).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), MigrateError> {
        self.migrate_within(migrator, DEADLINE).await
    }

    /// As [`migrate`](Self::migrate), with a limit of its own for everything: waiting for writers
    /// (each time the acquire timeout at most), for the lock, and the migrations themselves.
    ///
    /// # Errors
    ///
    /// As [`migrate`](Self::migrate).
    ///
    /// # Cancel safety
    ///
    /// As [`migrate`](Self::migrate).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool) {
    /// use std::time::Duration;
    /// use leadpool_sqlx::Error;
    ///
    /// let migrator = sqlx::migrate!("tests/migrations");
    /// if let Err(error) = pool.migrate_within(&migrator, Duration::from_secs(300)).await {
    ///     let error = sqlx::Error::from(error);
    ///     match Error::inside(&error) {
    ///         Some(Error::MigrationDeadline(what)) => eprintln!("come again: {what}"),
    ///         _ => eprintln!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn migrate_within(
        &self,
        migrator: &Migrator,
        limit: Duration,
    ) -> Result<(), MigrateError> {
        let deadline = Instant::now() + limit.min(NEVER);
        let too_late = |host, phase| {
            let what = MigrationDeadline { limit, host, phase };
            Err(execute(Error::MigrationDeadline(Box::new(what))))
        };
        let writer = self.writer();
        let mut repeats = Repeats::new(writer.inner().transactions.budget());
        let mut lost = None;
        loop {
            let (conn, generation) = match timeout_at(deadline, writer.checkout()).await {
                Ok(got) => got?,
                Err(_) => return too_late(None, MigrationPhase::Writer),
            };
            let mut runner = Runner::new(Lease::new(conn), generation.clone(), lost.take());
            let ended = tokio::select! {
                biased;
                ended = timeout_at(deadline, runner.run(migrator)) => ended.ok(),
                () = generation.aborted() => Some(Err(interrupted(&generation))),
            };
            let Some(ended) = ended else {
                let host = generation.host().clone();
                return too_late(Some(host), runner.phase());
            };
            let Err(error) = ended else {
                return Ok(());
            };
            lost = runner.close();
            let again = is_worth_another(&generation, &error).await;
            if !again || !repeats.may_repeat() {
                return Err(error);
            }
        }
    }
}

/// Whether the host was lost, or its role: on another writer there may be no error.
async fn is_worth_another(generation: &Generation, error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    if is_lost(error) {
        look(generation, Report::ConnectionLost).await;
        return true;
    }
    if disposition(error, TxPhase::Open) == Disposition::CheckRole {
        look(generation, Report::WriteRefused).await;
        return generation.is_retired() || !generation.is_writer();
    }
    false
}

fn interrupted(generation: &Generation) -> MigrateError {
    execute(Error::Interrupted(Box::new(Interrupted {
        host: generation.host().clone(),
        source: None,
    })))
}

fn execute(error: Error) -> MigrateError {
    MigrateError::Execute(error.into())
}

/// So that `?` works in functions that return this crate's.
impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            error => sqlx::Error::from(error).into(),
        }
    }
}
