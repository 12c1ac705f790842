//! Migrations on one connection, under a lock, with a mark for what can be cut off. All of it
//! blocks.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Mutex,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use diesel::{
    QueryResult, RunQueryDsl as _,
    connection::{TransactionManager, TransactionManagerStatus},
    migration::{Migration, MigrationSource},
    pg::Pg,
    query_dsl::LoadQuery,
    sql_query,
    sql_types::{BigInt, Bool, Integer, Text},
};
use leadpool::{adapter::Generation, error::BoxError};

use super::{
    MigrationError, MigrationPhase, UnknownMigration,
    work::{Failure, Progress, Runs, lock},
};

/// The pauses between looks at the lock.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The bytes of "leadpool": diesel has no lock whose number could be taken.
const LOCK: i64 = 0x6c65_6164_706f_6f6c;

const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock($1) AS answer";
const UNLOCK: &str = "SELECT pg_catalog.pg_advisory_unlock($1) AS answer";

/// What tells this session from every other one.
const INTRODUCTION: &str = "\
SELECT pid, (EXTRACT(epoch FROM backend_start) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at \
FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()";

/// So that a session whose client is gone ends in the midst of a statement too, and its lock with
/// it. Since PostgreSQL 14, and not on every system: then it ends with the statement
/// ([PostgreSQL documentation, section 20.3](https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL)).
const NOTICE_THE_END: &str = "SET client_connection_check_interval = '1s'";

/// Not while it waits for a synchronous standby: what it does is durable here already, and would
/// only lose its wait.
const TERMINATE: &str = "\
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
WHERE pid OPERATOR(pg_catalog.=) $1 \
      AND (EXTRACT(epoch FROM backend_start) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 OPERATOR(pg_catalog.=) $2 \
      AND (wait_event IS NULL OR wait_event OPERATOR(pg_catalog.<>) 'SyncRep')";

/// Asked after an error: whether the host can't be written to any more.
const READ_ONLY: &str = "\
SELECT pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on' AS answer";

const MARKS_EXIST: &str =
    "SELECT pg_catalog.to_regclass('__leadpool_begun_migrations') IS NOT NULL AS answer";
/// Of the kind of diesel's, and beside it. What lists tables for diesel leaves out such names.
const CREATE_MARKS: &str = "\
CREATE TABLE IF NOT EXISTS __leadpool_begun_migrations \
(version VARCHAR(50) PRIMARY KEY, begun_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";
/// Of what somebody has entered by hand.
const UNMARK_KNOWN: &str = "\
DELETE FROM __leadpool_begun_migrations \
WHERE version IN (SELECT version FROM __diesel_schema_migrations)";
const MARKED: &str = "SELECT version FROM __leadpool_begun_migrations ORDER BY version";
const MARK: &str = "INSERT INTO __leadpool_begun_migrations (version) VALUES ($1)";
const UNMARK: &str = "DELETE FROM __leadpool_begun_migrations WHERE version = $1";
/// In one statement: there is always the one or the other.
const ENTER: &str = "\
WITH unmarked AS (DELETE FROM __leadpool_begun_migrations WHERE version = $1) \
INSERT INTO __diesel_schema_migrations (version) VALUES ($1)";

#[derive(diesel::QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    answer: bool,
}

#[derive(diesel::QueryableByName)]
struct Marked {
    #[diesel(sql_type = Text)]
    version: String,
}

/// A session of a server. No other one ever has both in common.
#[derive(Clone, Copy, Debug, diesel::QueryableByName)]
pub(super) struct Session {
    #[diesel(sql_type = Integer)]
    pid: i32,
    /// In microseconds since 1970, by the server's clock.
    #[diesel(sql_type = BigInt)]
    started_at: i64,
}

/// Whether a transaction is open: one that was begun for a test.
pub(super) fn in_transaction<C: Runs>(conn: &mut C) -> bool {
    let status: &TransactionManagerStatus =
        C::TransactionManager::transaction_manager_status_mut(conn);
    matches!(status.transaction_depth(), Ok(Some(_)))
}

/// What one attempt has.
pub(super) struct Runner<'a, C> {
    pub(super) conn: &'a mut C,
    pub(super) generation: &'a Generation,
    pub(super) progress: &'a Mutex<Progress>,
    pub(super) leave: &'a Receiver<()>,
    pub(super) is_test: bool,
}

impl<C: Runs> Runner<'_, C> {
    /// Runs what the host does not have yet. Unless it succeeds, the connection must be closed,
    /// which ends the lock.
    pub(super) fn run(mut self, source: &impl MigrationSource<Pg>) -> Result<(), Failure> {
        self.take_lock()?;
        let pending = self.pending(source);
        for migration in self.judged(pending)? {
            if matches!(self.leave.try_recv(), Err(TryRecvError::Disconnected)) {
                return Err(self.left());
            }
            self.apply(&*migration)?;
        }
        // What matters is done. It ends with the connection, if that is not a test's.
        let _ = sql_query(UNLOCK).bind::<BigInt, _>(LOCK).execute(self.conn);
        Ok(())
    }

    /// Asks for the lock until it is free. It is not waited for on the server: a statement that
    /// waits holds a snapshot, and `CREATE INDEX CONCURRENTLY` waits for every snapshot.
    fn take_lock(&mut self) -> Result<(), Failure> {
        self.phase(MigrationPhase::Lock);
        let lost = lock(self.progress).session.take();
        let session: QueryResult<Session> = sql_query(INTRODUCTION).get_result(self.conn);
        match session {
            Ok(session) => lock(self.progress).session = Some(session),
            Err(error) => {
                lock(self.progress).session = lost;
                return self.judged(Err(error));
            }
        }
        if !self.is_test {
            // Older servers do not know it.
            let _ = self.conn.batch_execute(NOTICE_THE_END);
        }
        let mut pauses = pauses();
        loop {
            let asked = self.try_lock(lost);
            if self.judged(asked)? {
                self.phase(MigrationPhase::Table);
                return Ok(());
            }
            self.generation.heard();
            match self
                .leave
                .recv_timeout(pauses.next().unwrap_or(LONGEST_PAUSE))
            {
                Err(RecvTimeoutError::Timeout) => {}
                // Nothing is under way here that would be worth staying for.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(self.left()),
            }
        }
    }

    /// Ends a session of this call's whose connection was lost, if it has the lock still.
    fn try_lock(&mut self, lost: Option<Session>) -> QueryResult<bool> {
        if ask(self.conn, sql_query(TRY_LOCK).bind::<BigInt, _>(LOCK))? {
            return Ok(true);
        }
        if let Some(Session { pid, started_at }) = lost {
            let end = sql_query(TERMINATE)
                .bind::<Integer, _>(pid)
                .bind::<BigInt, _>(started_at);
            // If it may not, the lock is free when the server has noticed.
            let _ = end.execute(self.conn);
        }
        Ok(false)
    }

    /// What is to be run, in order.
    fn pending(
        &mut self,
        source: &impl MigrationSource<Pg>,
    ) -> Result<Vec<Box<dyn Migration<Pg>>>, Stop> {
        let known = self.conn.applied_migrations()?;
        self.generation.heard();
        let known: HashSet<String> = known.iter().map(ToString::to_string).collect();
        lock(self.progress).applied.compare(&known);
        if ask(self.conn, sql_query(MARKS_EXIST))? {
            sql_query(UNMARK_KNOWN).execute(self.conn)?;
            let marked: Vec<Marked> = sql_query(MARKED).load(self.conn)?;
            if let Some(Marked { version }) = marked.into_iter().next() {
                let host = self.generation.host().clone();
                let unknown = UnknownMigration { version, host };
                return Err(Stop::Told(MigrationError::Unknown(Box::new(unknown))));
            }
        }
        // As diesel's harness does: by versions, each of them once.
        let migrations = source.migrations()?.into_iter();
        let mut migrations: BTreeMap<_, _> = migrations
            .map(|migration| (version(&*migration), migration))
            .collect();
        migrations.retain(|version, _| !known.contains(version));
        Ok(migrations.into_values().collect())
    }

    fn apply(&mut self, migration: &dyn Migration<Pg>) -> Result<(), Failure> {
        let version = version(migration);
        {
            let mut progress = lock(self.progress);
            progress.phase = MigrationPhase::Applying(version.clone());
            progress.applied.in_doubt = Some(version.clone());
        }
        match migration.metadata().run_in_transaction() {
            true => {
                let ran = self.conn.run_migration(migration);
                self.judged(ran)?;
            }
            false => self.apply_marked(migration, &version)?,
        }
        self.generation.heard();
        let mut progress = lock(self.progress);
        progress.phase = MigrationPhase::Table;
        progress.applied.in_doubt = None;
        progress.applied.versions.push(version);
        Ok(())
    }

    /// Runs a migration outside of a transaction, between a mark and its entry in diesel's table.
    /// The mark goes into the log before anything of the migration: whoever lacks it, after a
    /// failover, has nothing of the rest.
    fn apply_marked(
        &mut self,
        migration: &dyn Migration<Pg>,
        version: &str,
    ) -> Result<(), Failure> {
        let begun = self.mark(version);
        self.judged(begun)?;
        if let Err(error) = migration.run(self.conn) {
            if !self.is_test {
                // It may have begun a transaction by itself.
                let _ = self.conn.batch_execute("ROLLBACK");
            }
            let failure = self.judge(Stop::Error(error));
            if let Failure::Told(_) = failure {
                // The server has answered: who began it is told, and may run it again.
                let unmarked = send(self.conn, UNMARK, version);
                self.judged(unmarked)?;
            }
            return Err(failure);
        }
        let entered = send(self.conn, ENTER, version);
        self.judged(entered)
    }

    fn mark(&mut self, version: &str) -> QueryResult<()> {
        if !ask(self.conn, sql_query(MARKS_EXIST))? {
            self.conn.batch_execute(CREATE_MARKS)?;
        }
        send(self.conn, MARK, version)
    }

    fn judged<T>(&mut self, ended: Result<T, impl Into<Stop>>) -> Result<T, Failure> {
        ended.map_err(|error| self.judge(error.into()))
    }

    /// Whether another attempt, perhaps on another writer, could end better. `diesel_migrations`
    /// tells the text of an error only; so the host is asked.
    fn judge(&mut self, stop: Stop) -> Failure {
        let error = match stop {
            Stop::Error(error) => error,
            Stop::Told(error) => return Failure::Told(error),
        };
        if !self.is_test {
            match ask(self.conn, sql_query(READ_ONLY)) {
                Ok(false) => {}
                Ok(true) => return Failure::Refused(error),
                Err(_) => return Failure::Lost(error),
            }
        }
        Failure::Told(MigrationError::Failed {
            phase: lock(self.progress).phase.clone(),
            host: self.generation.host().clone(),
            source: error,
        })
    }

    fn left(&self) -> Failure {
        Failure::Lost(format!("{} was given up", self.generation.host()).into())
    }

    fn phase(&self, phase: MigrationPhase) {
        lock(self.progress).phase = phase;
    }
}

/// Why it does not go on.
enum Stop {
    Error(BoxError),
    Told(MigrationError),
}

impl From<diesel::result::Error> for Stop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<BoxError> for Stop {
    fn from(error: BoxError) -> Self {
        Self::Error(error)
    }
}

fn version(migration: &dyn Migration<Pg>) -> String {
    migration.name().version().to_string()
}

fn ask<'q, C, Q>(conn: &mut C, question: Q) -> QueryResult<bool>
where
    Q: LoadQuery<'q, C, Answer>,
{
    Ok(question.get_result(conn)?.answer)
}

fn send<C: Runs>(conn: &mut C, sql: &str, version: &str) -> QueryResult<()> {
    let statement = sql_query(sql).bind::<Text, _>(version);
    statement.execute(conn).map(drop)
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
