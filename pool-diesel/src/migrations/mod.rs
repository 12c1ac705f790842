//! `diesel_migrations`, run once, on whoever is the writer: `run_migrations` of
#![cfg_attr(feature = "async", doc = "[`Pool`](crate::Pool::run_migrations)")]
#![cfg_attr(all(feature = "async", feature = "blocking"), doc = "and")]
#![cfg_attr(
    feature = "blocking",
    doc = "[`blocking::Pool`](crate::blocking::Pool::run_migrations)."
)]
//!
//! # The lock
//!
//! diesel takes none: of two instances that start together, one fails, or both run what has no
//! transaction. These take an advisory lock, with the number 7810756212754968428 (the bytes of
//! "leadpool"), for as long as they are at it. diesel's own harness, and `diesel migration run`,
//! know nothing of it: who runs those beside an application takes it by hand
//! (`SELECT pg_advisory_lock(7810756212754968428)`). It is a lock of the session: behind a pooler
//! that lends sessions for a transaction (PgBouncer's transaction pooling) it locks nothing.
//!
//! Who waits for it asks again and again, with pauses of up to half a second. To wait on the server
//! would hold a snapshot, and `CREATE INDEX CONCURRENTLY` waits for all of these.
//!
//! # When the writer changes
//!
//! When the host is given up, or the connection lost, it begins again on the writer of then, with
//! the lock taken anew. Under it, diesel's table says what has been applied there: a migration in a
//! transaction is entered in the same one. That is also how a COMMIT without an answer is found
//! out. If that happened on the same host, the session that was lost is ended first, if it still
//! holds the lock. What was applied on a writer can still be lost with it, if its standbys are not
//! synchronous; then it is applied again.
//!
//! # What runs in no transaction
//!
//! A migration with `run_in_transaction = false` in its `metadata.toml` is marked in a table of its
//! own, `__leadpool_begun_migrations`, before it runs, and entered in diesel's, in place of the
//! mark, behind it. One that was cut off keeps its mark, and ends this call and all later ones with
//! [`MigrationError::Unknown`], until [somebody has looked](UnknownMigration). After a failover
//! without the mark, nothing of the migration has reached the new writer, and it is run there. One
//! that the server answered with an error is told, and run again the next time, as by diesel.
//! diesel's own harness knows nothing of the marks.
//!
//! # On a connection of one's own
//!
//! `conn.run_pending_migrations(MIGRATIONS)` and all else of [`MigrationHarness`] goes on working on
//! a pooled connection (with diesel-async in [`AsyncMigrationHarness`]), and does what it does on
//! diesel's: without the above, and with the connection's settings changed for whoever gets it next.
//!
//! [`MigrationHarness`]: diesel_migrations::MigrationHarness
//! [`AsyncMigrationHarness`]: https://docs.rs/diesel-async/0.9/diesel_async/struct.AsyncMigrationHarness.html

mod drive;
mod error;
mod runner;
mod work;

use std::time::Duration;

pub(crate) use drive::{Site, drive};
pub use error::{MigrationDeadline, MigrationError, MigrationPhase, UnknownMigration};
pub(crate) use work::{Work, lock};

/// How long migrations may take without a word about it: building an index takes its time, and so
/// does waiting for who builds it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60 * 60);
