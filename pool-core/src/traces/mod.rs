//! The table of spans and events: before all others, since each of them may tell something.

use tracing::Level;

/// A span or an event that leadpool tells through `tracing`.
///
/// ```
/// use leadpool::observe::{TRACES, TraceKind};
///
/// let spans = TRACES.iter().filter(|row| row.kind == TraceKind::Span);
/// assert!(spans.map(|row| row.name).any(|name| name == "leadpool.failover"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// Its name.
    pub name: &'static str,
    /// A span or an event.
    pub kind: TraceKind,
    /// What filters go by: `leadpool::pool` and others.
    pub target: &'static str,
    /// How important it is.
    pub level: Level,
    /// Its fields, besides an event's message. Names without `leadpool.` are those of
    /// OpenTelemetry's [semantic conventions](https://opentelemetry.io/docs/specs/semconv/).
    pub fields: &'static [&'static str],
    /// One sentence.
    pub about: &'static str,
}

/// What a row of the table is.
///
/// ```
/// assert_eq!(leadpool::observe::TraceKind::Span.to_string(), "span");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceKind {
    /// Something that lasts.
    Span,
    /// Something that happens.
    Event,
}

impl std::fmt::Display for TraceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Span => "span",
            Self::Event => "event",
        })
    }
}

/// The rows by name, for the macros of `tracing`, which want constants.
pub(crate) mod rows {
    use super::{Level, Trace, TraceKind};

    macro_rules! table {
        ($($row:ident: $kind:ident $name:literal in $target:literal $level:ident [$($field:literal)*], $about:literal;)*) => {
            $(pub(crate) const $row: Trace = Trace {
                name: $name,
                kind: TraceKind::$kind,
                target: $target,
                level: Level::$level,
                fields: &[$($field),*],
                about: $about,
            };)*

            pub(super) const ALL: &[Trace] = &[$($row),*];
        };
    }

    table! {
        CHECKOUT: Span "leadpool.checkout" in "leadpool::pool" DEBUG
            ["db.client.connection.pool.name" "leadpool.target" "leadpool.outcome"],
            "A checkout that has to wait; one that finds an idle connection leaves no trace.";
        CONSISTENT_READ: Span "leadpool.consistent_read" in "leadpool::pool" DEBUG
            ["db.client.connection.pool.name" "leadpool.standing" "leadpool.served_by"],
            "A read with a consistency token that does not find an idle connection to a standby that is known to have it.";
        CONNECT: Span "leadpool.connect" in "leadpool::pool" DEBUG
            ["db.system.name" "db.client.connection.pool.name" "server.address" "server.port" "leadpool.outcome" "db.response.status_code"],
            "A connection is opened.";
        TRANSACTION: Span "leadpool.transaction" in "leadpool::tx" DEBUG
            ["db.system.name" "db.client.connection.pool.name" "leadpool.transaction.name" "leadpool.target" "leadpool.outcome" "db.response.status_code"],
            "A transaction of `run_tx`, all attempts together.";
        ATTEMPT: Span "leadpool.attempt" in "leadpool::tx" DEBUG
            ["leadpool.attempt" "server.address" "server.port"],
            "One attempt of a transaction; the host is known once it has a connection.";
        RESOLUTION: Span "leadpool.resolve_commit" in "leadpool::tx" INFO
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.transaction.id"],
            "It is found out what became of a COMMIT.";
        FAILOVER: Span "leadpool.failover" in "leadpool::failover" INFO
            ["db.system.name" "db.client.connection.pool.name" "leadpool.from" "leadpool.to" "leadpool.term" "leadpool.gap_seconds"],
            "From the loss of the writer to the next one; the events of that time are in it.";

        WRITER_CHANGED: Event "leadpool.writer_changed" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "leadpool.from" "leadpool.to" "leadpool.term" "leadpool.gap_seconds"],
            "Writes go to another host, or to none.";
        DEMOTED: Event "leadpool.demoted" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "A primary has become a standby, by its own word.";
        FENCED: Event "leadpool.fenced" in "leadpool::failover" WARN
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.term" "leadpool.highest_term"],
            "A host claims to be the primary with a lower term: it gets no writes.";
        CONTESTED: Event "leadpool.contested" in "leadpool::failover" ERROR
            ["db.client.connection.pool.name" "leadpool.hosts"],
            "Several hosts claim to be the primary, and the term can't order them.";
        HOST_UP: Event "leadpool.host_up" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.role"],
            "A host answers (again).";
        HOST_SUSPECT: Event "leadpool.host_suspect" in "leadpool::failover" WARN
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.problem"],
            "A probe is overdue, or failed without proof of a loss.";
        HOST_DOWN: Event "leadpool.host_down" in "leadpool::failover" WARN
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.problem"],
            "A host refuses connections, or was silent beyond the limit.";
        PRIMARY_READ_ONLY: Event "leadpool.primary_read_only" in "leadpool::failover" WARN
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "A host is the primary but accepts no writes.";
        INVALIDATED: Event "leadpool.invalidated" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.generation" "leadpool.aborted" "leadpool.reason"],
            "Connections to a host became unusable.";
        FOREIGN_HOST: Event "leadpool.foreign_host" in "leadpool::failover" ERROR
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.system_identifier" "leadpool.expected"],
            "A host belongs to another cluster and is not used.";
        HOST_ADDED: Event "leadpool.host_added" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "A host joined the cluster.";
        HOST_REMOVED: Event "leadpool.host_removed" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "A host left the cluster.";
        TERM_FORGOTTEN: Event "leadpool.term_forgotten" in "leadpool::failover" WARN
            ["db.client.connection.pool.name" "leadpool.term"],
            "The highest term was forgotten, by an operator or by the configured time.";
        TASK_RESTARTED: Event "leadpool.task_restarted" in "leadpool::failover" ERROR
            ["db.client.connection.pool.name" "leadpool.task"],
            "A background task panicked and was started again: a bug, please report it.";
        HOST_LAGGING: Event "leadpool.host_lagging" in "leadpool::failover" WARN
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.lag_bytes" "leadpool.staleness_seconds"],
            "A standby is behind the configured limits, and gets no reads.";
        HOST_CAUGHT_UP: Event "leadpool.host_caught_up" in "leadpool::failover" INFO
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "A standby that was behind has caught up.";
        PAUSED: Event "leadpool.paused" in "leadpool::pool" INFO
            ["db.client.connection.pool.name" "leadpool.all"],
            "Checkouts wait from now on: of one pool, or of all pools of the cluster.";
        RESUMED: Event "leadpool.resumed" in "leadpool::pool" INFO
            ["db.client.connection.pool.name" "leadpool.all"],
            "The pause is over.";
        DISCOVERY_FAILED: Event "leadpool.discovery_failed" in "leadpool::discovery" WARN
            ["db.client.connection.pool.name" "leadpool.source" "leadpool.problem"],
            "A source could not tell the hosts; told once for each problem.";
        DISCOVERY_CONTRADICTED: Event "leadpool.discovery_contradicted" in "leadpool::discovery" WARN
            ["db.client.connection.pool.name" "leadpool.problem"],
            "The hosts contradict what a source says.";
        HOST_NOT_ALLOWED: Event "leadpool.host_not_allowed" in "leadpool::discovery" WARN
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "A source named a host to which no credentials may go.";
        SOURCE_CHOSEN: Event "leadpool.source_chosen" in "leadpool::discovery" INFO
            ["leadpool.source"],
            "Which source of hosts was chosen without a word.";
        CALLBACK_PANICKED: Event "leadpool.callback_panicked" in "leadpool::discovery" ERROR
            [],
            "The application's closure behind a Patroni callback has panicked.";
        CREDENTIALS_REFUSED: Event "leadpool.credentials_refused" in "leadpool::credentials" DEBUG
            ["db.client.connection.pool.name" "server.address" "server.port" "db.response.status_code"],
            "A host refused the credentials, and the provider is asked for others.";
        PASS_FILE_IGNORED: Event "leadpool.pass_file_ignored" in "leadpool::credentials" WARN
            ["file.path" "leadpool.problem"],
            "The default password file is ignored: others may read it, or it can't be read; told once for each configuration.";
        CERTIFICATES_READ: Event "leadpool.certificates_read" in "leadpool::tls" INFO
            [],
            "The files of TLS have changed, and were read again.";
        CERTIFICATES_REFUSED: Event "leadpool.certificates_refused" in "leadpool::tls" WARN
            ["leadpool.setting" "leadpool.problem"],
            "The files of TLS have changed and can't be used: what was read before is; told once for each change.";
        LISTENER_LOST: Event "leadpool.listener_lost" in "leadpool::listener" DEBUG
            ["db.client.connection.pool.name" "server.address" "server.port"],
            "The connection of a listener ended, or was silent for too long.";
        NOT_SUBSCRIBED: Event "leadpool.not_subscribed" in "leadpool::listener" DEBUG
            ["db.client.connection.pool.name" "server.address" "server.port" "leadpool.curable" "db.response.status_code"],
            "A listener could not subscribe; it tries again.";
        NOT_CLEANED: Event "leadpool.not_cleaned" in "leadpool::pool" DEBUG
            ["db.client.connection.pool.name" "server.address" "server.port" "db.response.status_code"],
            "A used connection could not be cleaned, and is closed; of one of `deadpool_pool` the host is not named.";
        LIMIT_REFUSED: Event "leadpool.statement_timeout_refused" in "leadpool::pool" WARN
            ["db.client.connection.pool.name" "server.address" "server.port" "db.response.status_code"],
            "The `statement_timeout` of a checkout could not be set or taken back, and the connection is closed.";
        CONNECTION_LOST: Event "leadpool.connection_lost" in "leadpool::pool" DEBUG
            ["db.client.connection.pool.name" "server.address" "server.port" "db.response.status_code"],
            "A connection ended although nobody closed it.";
        RETRY: Event "leadpool.retry" in "leadpool::tx" DEBUG
            ["db.client.connection.pool.name" "leadpool.transaction.name" "leadpool.attempt" "server.address" "server.port" "error.type" "db.response.status_code"],
            "An attempt of a transaction has failed, and another follows.";
        COMMIT_RESOLVED: Event "leadpool.commit_resolved" in "leadpool::tx" INFO
            ["db.client.connection.pool.name" "leadpool.transaction.name" "server.address" "server.port" "leadpool.transaction.id" "leadpool.verdict"],
            "What became of a COMMIT that was not answered.";
    }
}

/// All spans and events.
///
/// ```
/// assert!(leadpool::observe::TRACES.iter().all(|row| row.target.starts_with("leadpool::")));
/// ```
pub const TRACES: &[Trace] = rows::ALL;
