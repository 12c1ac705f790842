//! Migrations that took too long.

use std::{error::Error as StdError, fmt, time::Duration};

use leadpool::HostAddr;

/// Migrations did not come to their end in time.
///
/// ```no_run
/// # fn f(what: leadpool_sqlx::MigrationDeadline) {
/// use leadpool_sqlx::MigrationPhase;
///
/// match what.phase {
///     MigrationPhase::Lock => eprintln!("another instance is at it"),
///     _ => eprintln!("{what}"),
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct MigrationDeadline {
    /// How long they were given.
    pub limit: Duration,
    /// The writer, if there was one.
    pub host: Option<HostAddr>,
    /// How far it had got.
    pub phase: MigrationPhase,
}

/// How far [`Pool::migrate`](crate::Pool::migrate) has got.
///
/// ```no_run
/// # fn f(phase: leadpool_sqlx::MigrationPhase) {
/// if let leadpool_sqlx::MigrationPhase::Applying(version) = phase {
///     eprintln!("migration {version} takes too long");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationPhase {
    /// It waited for a writer, or for a connection to it.
    Writer,
    /// Another session held the lock.
    Lock,
    /// It read or wrote its table.
    Table,
    /// It ran the migration of this version.
    Applying(i64),
}

impl fmt::Display for MigrationDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "migrations did not end within {:.1?}", self.limit)?;
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        match self.phase {
            MigrationPhase::Writer => f.write_str(": there was no connection to a writer"),
            MigrationPhase::Lock => f.write_str(
                ": another session holds the lock, and may be running them; pg_locks has it, with \
                 the locktype advisory",
            ),
            MigrationPhase::Table => f.write_str(": the table of migrations did not answer"),
            MigrationPhase::Applying(version) => write!(
                f,
                ": migration {version} was running; it is rolled back, or dirty if it runs without \
                 a transaction"
            ),
        }
    }
}

impl StdError for MigrationDeadline {}
