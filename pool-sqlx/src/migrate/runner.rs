//! sqlx's migrator on one connection, with a lock of another kind and a mark for what can be cut
//! off.

use std::{io, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::future::BoxFuture;
use leadpool::adapter::Generation;
use sqlx::{
    AssertSqlSafe, Executor as _, PgConnection, Row as _,
    migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator},
};
use tokio::time::{Instant, sleep};

use super::MigrationPhase;
use crate::{lease::Lease, repeat::is_lost};

/// The pauses between looks at the lock.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What the lock's number depends on, and what tells this session from every other one.
const INTRODUCTION: &str = "\
SELECT pg_catalog.current_database()::pg_catalog.text AS database, pid, \
       (EXTRACT(epoch FROM backend_start) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at \
FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()";

/// So that a session whose client is gone ends in the midst of a statement too, and its lock with
/// it. Since PostgreSQL 14, and not on every system: then it ends with the statement
/// ([PostgreSQL documentation, section 20.3](https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL)).
const NOTICE_THE_END: &str = "SET client_connection_check_interval = '1s'";

const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock($1)";

/// Not while it waits for a synchronous standby: what it does is durable here already, and would
/// only lose its wait.
const TERMINATE: &str = "\
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
WHERE pid OPERATOR(pg_catalog.=) $1 \
      AND (EXTRACT(epoch FROM backend_start) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 OPERATOR(pg_catalog.=) $2 \
      AND (wait_event IS NULL OR wait_event OPERATOR(pg_catalog.<>) 'SyncRep')";

/// A session of a server. No other one ever has both in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pid: i32,
    /// In microseconds since 1970, by the server's clock.
    started_at: i64,
}

/// What sqlx's migrator works on. What is not special here is as sqlx does it.
pub(super) struct Runner {
    lease: Lease,
    generation: Arc<Generation>,
    phase: MigrationPhase,
    session: Option<Session>,
    /// One of ours whose connection was lost, and that may hold the lock.
    lost: Option<Session>,
}

impl Runner {
    pub(super) fn new(lease: Lease, generation: Arc<Generation>, lost: Option<Session>) -> Self {
        Self {
            lease,
            generation,
            phase: MigrationPhase::Table,
            session: None,
            lost,
        }
    }

    /// Runs what the host does not have yet.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the connection must be closed, which ends the lock.
    pub(super) async fn run(&mut self, migrator: &Migrator) -> Result<(), MigrateError> {
        migrator.run_direct(None, self, false).await
    }

    pub(super) fn phase(&self) -> MigrationPhase {
        self.phase
    }

    /// Closes the connection. The session may outlive it.
    pub(super) fn close(self) -> Option<Session> {
        self.session.or(self.lost)
    }

    /// Asks for the lock until it is free. It is not waited for on the server: a statement that
    /// waits holds a snapshot, and `CREATE INDEX CONCURRENTLY` waits for every snapshot.
    async fn take_lock(&mut self) -> Result<(), MigrateError> {
        self.phase = MigrationPhase::Lock;
        let row = self.lease.fetch_one(INTRODUCTION).await?;
        let id = lock_id(row.try_get("database")?);
        self.session = Some(Session {
            pid: row.try_get("pid")?,
            started_at: row.try_get("started_at")?,
        });
        match self.lease.execute(NOTICE_THE_END).await {
            Err(error) if is_lost(&error) => return Err(error.into()),
            _ => {}
        }
        let mut pauses = pauses();
        loop {
            self.generation.heard();
            let asked = sqlx::query_scalar(TRY_LOCK).bind(id);
            if asked.fetch_one(&mut *self.lease).await? {
                self.phase = MigrationPhase::Table;
                return Ok(());
            }
            if let Some(lost) = self.lost {
                let end = sqlx::query(TERMINATE).bind(lost.pid).bind(lost.started_at);
                end.execute(&mut *self.lease).await?;
            }
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            tokio::select! {
                biased;
                // Nothing is under way here that would be worth staying for.
                () = self.generation.retired() => return Err(self.left()),
                () = sleep(pause) => {}
            }
        }
    }

    fn left(&self) -> MigrateError {
        let text = format!("{} was given up", self.generation.host());
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
        MigrateError::Execute(error.into())
    }

    /// Runs a migration outside of a transaction, between two entries in the table. The first goes
    /// into the log before anything of the migration: whoever lacks it, after a failover, has
    /// nothing of the rest.
    async fn apply_marked(
        &mut self,
        table: &str,
        migration: &Migration,
    ) -> Result<Duration, MigrateError> {
        let begun = Instant::now();
        let conn = &mut *self.lease;
        let mark = format!(
            "INSERT INTO {table} (version, description, success, checksum, execution_time) \
             VALUES ($1, $2, false, $3, -1)"
        );
        sqlx::query(AssertSqlSafe(mark))
            .bind(migration.version)
            .bind(&*migration.description)
            .bind(&*migration.checksum)
            .execute(&mut *conn)
            .await?;
        if let Err(error) = conn.execute(migration.sql.clone()).await {
            if !is_lost(&error) {
                unmark(conn, table, migration.version).await?;
            }
            return Err(MigrateError::ExecuteMigration(error, migration.version));
        }
        let took = begun.elapsed();
        let done =
            format!("UPDATE {table} SET success = true, execution_time = $2 WHERE version = $1");
        sqlx::query(AssertSqlSafe(done))
            .bind(migration.version)
            .bind(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX))
            .execute(conn)
            .await?;
        Ok(took)
    }
}

/// The server has answered with an error: who began the migration is told, and may run it again.
async fn unmark(conn: &mut PgConnection, table: &str, version: i64) -> Result<(), MigrateError> {
    // It may have begun a transaction by itself.
    conn.execute("ROLLBACK").await?;
    let delete = format!("DELETE FROM {table} WHERE version = $1");
    let delete = sqlx::query(AssertSqlSafe(delete)).bind(version);
    delete.execute(conn).await?;
    Ok(())
}

impl Migrate for Runner {
    fn create_schema_if_not_exists<'e>(
        &'e mut self,
        schema: &'e str,
    ) -> BoxFuture<'e, Result<(), MigrateError>> {
        self.lease.create_schema_if_not_exists(schema)
    }

    fn ensure_migrations_table<'e>(
        &'e mut self,
        table: &'e str,
    ) -> BoxFuture<'e, Result<(), MigrateError>> {
        self.lease.ensure_migrations_table(table)
    }

    fn dirty_version<'e>(
        &'e mut self,
        table: &'e str,
    ) -> BoxFuture<'e, Result<Option<i64>, MigrateError>> {
        self.lease.dirty_version(table)
    }

    fn list_applied_migrations<'e>(
        &'e mut self,
        table: &'e str,
    ) -> BoxFuture<'e, Result<Vec<AppliedMigration>, MigrateError>> {
        self.lease.list_applied_migrations(table)
    }

    fn lock(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        Box::pin(self.take_lock())
    }

    fn unlock(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        self.lease.unlock()
    }

    fn apply<'e>(
        &'e mut self,
        table: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<Duration, MigrateError>> {
        Box::pin(async move {
            self.phase = MigrationPhase::Applying(migration.version);
            let took = match migration.no_tx {
                true => self.apply_marked(table, migration).await?,
                false => self.lease.apply(table, migration).await?,
            };
            self.generation.heard();
            self.phase = MigrationPhase::Table;
            Ok(took)
        })
    }

    fn revert<'e>(
        &'e mut self,
        table: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<Duration, MigrateError>> {
        self.lease.revert(table, migration)
    }

    fn skip<'e>(
        &'e mut self,
        table: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<(), MigrateError>> {
        self.lease.skip(table, migration)
    }
}

/// The number of sqlx's own lock, so that its migrators and `sqlx migrate` are kept out too: the
/// `impl Migrate for PgConnection` in sqlx-postgres 0.9.
fn lock_id(database: &str) -> i64 {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    0x3d32_ad9e * i64::from(CRC.checksum(database.as_bytes()))
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
        .map(|pause| pause.min(LONGEST_PAUSE))
}
