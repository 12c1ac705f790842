//! Why migrations did not come to their end.

use std::{error::Error as StdError, fmt, time::Duration};

use leadpool::{HostAddr, error::BoxError};

/// What `run_migrations` may end with.
///
/// ```no_run
/// # fn f(error: leadpool_diesel::migrations::MigrationError) {
/// use leadpool_diesel::migrations::MigrationError;
///
/// match error {
///     MigrationError::Unknown(what) => eprintln!("look yourself: {what}"),
///     MigrationError::Deadline(what) => eprintln!("come again: {what}"),
///     error => eprintln!("{error}"),
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MigrationError {
    /// Something failed for good. A migration in a transaction is rolled back then. One without is
    /// run again the next time, as by diesel's own harness: the server has answered.
    #[non_exhaustive]
    Failed {
        /// How far it had got.
        phase: MigrationPhase,
        /// The writer.
        host: HostAddr,
        /// The error, as `diesel_migrations` tells it.
        source: BoxError,
    },
    /// A migration that runs in no transaction was cut off, by this call or by an earlier one.
    Unknown(Box<UnknownMigration>),
    /// It took too long.
    Deadline(Box<MigrationDeadline>),
    /// leadpool's: no writer in time, the pool is closed ...
    Pool(leadpool::Error),
}

/// A migration without a transaction of which it is not known whether it has run in part, in whole,
/// or not at all.
///
/// Look what there is of it. Then either bring it to its end, and enter it
/// (`INSERT INTO __diesel_schema_migrations (version) VALUES ('..')`), or undo what there is, and
/// delete its mark (`DELETE FROM __leadpool_begun_migrations WHERE version = '..'`), so that it runs
/// again. No migration is run until then.
///
/// ```no_run
/// # fn f(what: leadpool_diesel::migrations::UnknownMigration) {
/// eprintln!("look at {} what there is of {}", what.host, what.version);
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct UnknownMigration {
    /// The version.
    pub version: String,
    /// The writer, which has its mark.
    pub host: HostAddr,
}

/// Migrations did not come to their end in time.
///
/// ```no_run
/// # fn f(what: leadpool_diesel::migrations::MigrationDeadline) {
/// use leadpool_diesel::migrations::MigrationPhase;
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

/// How far it has got.
///
/// ```no_run
/// # fn f(phase: leadpool_diesel::migrations::MigrationPhase) {
/// use leadpool_diesel::migrations::MigrationPhase;
///
/// if let MigrationPhase::Applying(version) = phase {
///     eprintln!("migration {version} takes too long");
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationPhase {
    /// It waited for a writer, or for a connection to it.
    Writer,
    /// Another session held the lock.
    Lock,
    /// It read its tables, or the migrations.
    Table,
    /// It ran the migration of this version, or entered it.
    Applying(String),
}

impl fmt::Display for MigrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed {
                phase: MigrationPhase::Applying(version),
                host,
                source,
            } => write!(f, "migration {version} failed on {host}: {source}"),
            Self::Failed { host, source, .. } => {
                write!(f, "migrations can't be run on {host}: {source}")
            }
            Self::Unknown(what) => fmt::Display::fmt(what, f),
            Self::Deadline(what) => fmt::Display::fmt(what, f),
            Self::Pool(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl StdError for MigrationError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(&**source),
            Self::Unknown(what) => Some(&**what),
            Self::Deadline(what) => Some(&**what),
            Self::Pool(error) => Some(error),
        }
    }
}

impl fmt::Display for UnknownMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, host } = self;
        write!(
            f,
            "migration {version}, which runs without a transaction, was cut off, and may have run \
             in part, in whole, or not at all: look at {host} what there is of it; then bring it \
             to its end and insert its version into __diesel_schema_migrations, or undo it and \
             delete its version from __leadpool_begun_migrations"
        )
    }
}

impl StdError for UnknownMigration {}

impl fmt::Display for MigrationDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "migrations did not end within {:.1?}", self.limit)?;
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        match &self.phase {
            MigrationPhase::Writer => f.write_str(": there was no connection to a writer"),
            MigrationPhase::Lock => f.write_str(
                ": another session holds the lock, and may be running them; pg_locks has it, with \
                 the locktype advisory",
            ),
            MigrationPhase::Table => f.write_str(": the tables of migrations did not answer"),
            MigrationPhase::Applying(version) => write!(
                f,
                ": migration {version} was running; it is rolled back, or unknown if it runs \
                 without a transaction"
            ),
        }
    }
}

impl StdError for MigrationDeadline {}

impl From<leadpool::Error> for MigrationError {
    fn from(error: leadpool::Error) -> Self {
        Self::Pool(error)
    }
}

/// So that `?` works in functions that return this crate's.
#[cfg(feature = "async")]
impl From<MigrationError> for crate::Error {
    fn from(error: MigrationError) -> Self {
        Self::Pool(error.into_pool())
    }
}

/// So that `?` works in functions that return this module's.
#[cfg(feature = "blocking")]
impl From<MigrationError> for crate::blocking::Error {
    fn from(error: MigrationError) -> Self {
        Self::Pool(error.into_pool())
    }
}

impl MigrationError {
    fn into_pool(self) -> leadpool::Error {
        match self {
            Self::Pool(error) => error,
            error => leadpool::Error::user(error),
        }
    }
}
