//! What can go wrong while a cluster is handled.

use std::{io, path::PathBuf, time::Duration};

/// What went wrong, on which host, and what to do.
///
/// ```
/// use leadpool_testkit::PgInstall;
///
/// let error = PgInstall::at("/nonexistent").unwrap_err();
/// assert!(error.to_string().contains("/nonexistent"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No PostgreSQL server was found.
    #[error(
        "no PostgreSQL server found; looked at: {looked}. Install it ({install}) or set PG_BIN to the folder that holds `postgres`"
    )]
    #[non_exhaustive]
    NotInstalled {
        /// Where it was looked for.
        looked: String,
        /// How to install it here.
        install: String,
    },
    /// The folder holds no usable PostgreSQL.
    #[error("{}: {problem}", path.display())]
    #[non_exhaustive]
    BadInstall {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A stack's own programs are not installed.
    #[error("{stack} needs {missing}; install it ({install})")]
    #[non_exhaustive]
    Missing {
        /// The stack.
        stack: &'static str,
        /// What was not found.
        missing: String,
        /// How to install it here.
        install: String,
    },
    /// A program beside the servers ended, or did not do in time what was waited for.
    #[error("{program}: {problem}; the end of its log: {log}")]
    #[non_exhaustive]
    Program {
        /// The program, and for which host.
        program: String,
        /// What was wrong.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// Another program than PostgreSQL's was not found.
    #[error(
        "no {program} found; looked at: {looked}. Install it ({install}), or say by the variable where it is"
    )]
    #[non_exhaustive]
    ProgramMissing {
        /// The program.
        program: &'static str,
        /// Where it was looked for; the variable is named first.
        looked: String,
        /// How to install it here.
        install: String,
    },
    /// The machine can't do what is asked for.
    #[error("{what} can't be had here: {problem}")]
    #[non_exhaustive]
    Unavailable {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        problem: String,
    },
    /// A setting makes no sense.
    #[error("{key}: {problem}")]
    #[non_exhaustive]
    Setting {
        /// The builder's method.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A command failed.
    #[error("`{command}` failed: {output}")]
    #[non_exhaustive]
    Command {
        /// The command.
        command: String,
        /// What it printed.
        output: String,
    },
    /// Something did not happen in time.
    #[error("host {host}: waited {waited:.1?} for {what}; the end of its log: {log}")]
    #[non_exhaustive]
    Timeout {
        /// The host's index.
        host: usize,
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last lines of the server's log.
        log: String,
    },
    /// A host is not in a state that allows the action.
    #[error("host {host}: {problem}")]
    #[non_exhaustive]
    State {
        /// The host's index.
        host: usize,
        /// Why not.
        problem: String,
    },
    /// A statement failed.
    #[error("host {host}: {source}")]
    #[non_exhaustive]
    Sql {
        /// The host's index.
        host: usize,
        /// The driver's error.
        source: tokio_postgres::Error,
    },
    /// The monitor of a pg_auto_failover formation did not answer as it should.
    #[error("the monitor: {source}")]
    #[non_exhaustive]
    Monitor {
        /// The driver's error.
        source: tokio_postgres::Error,
    },
    /// A name server can't have that record.
    #[error("{name:?} {problem}")]
    #[non_exhaustive]
    Record {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Patroni refused something.
    #[error("host {host}: Patroni answered with status {status}: {answer}")]
    #[non_exhaustive]
    Rest {
        /// The host's index.
        host: usize,
        /// The HTTP status.
        status: u16,
        /// Patroni's reason.
        answer: String,
    },
    /// etcd did not start, or is not in a state that allows the action.
    #[error("etcd: {problem}; the end of its log: {log}")]
    #[non_exhaustive]
    Etcd {
        /// What went wrong.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    #[non_exhaustive]
    Io {
        /// What was tried.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn sql(host: usize) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Sql { host, source }
    }
}
