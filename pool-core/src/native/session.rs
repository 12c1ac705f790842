//! What does not change while a connection to a primary lasts, asked once for each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use deadpool_postgres::{Client, StatementCache};
use tokio_postgres::{Row, types::PgLsn};

use crate::{outcome::Incarnation, topology::Lsn, tx::IsolationLevel};

/// What a backend says of its server's life. A backend outlives none: a restart and a crash
/// recovery end all of them.
pub(super) const SESSION: &str = "\
SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) AS file, \
       pg_catalog.pg_last_wal_replay_lsn() AS replayed, \
       pg_catalog.pg_last_wal_receive_lsn() AS received, \
       pg_catalog.pg_postmaster_start_time() AS started_at, \
       pg_catalog.pg_backend_pid() AS backend, \
       pg_catalog.clock_timestamp() AS told_at, \
       pg_catalog.current_setting('default_transaction_isolation') AS default_isolation";

/// What is known of one connection.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) incarnation: Incarnation,
    pub(super) backend: i32,
    /// `default_transaction_isolation`.
    pub(super) default_isolation: String,
    /// When it said so, by the server's clock, in microseconds since 1970, and by ours.
    told_at: (i64, Instant),
}

impl Session {
    /// Reads the answer to [`SESSION`]; `None` if it can't be that of a primary.
    pub(super) fn read(row: &Row) -> Option<Self> {
        let lsn = |column| Some(Lsn::new(row.get::<_, Option<PgLsn>>(column)?.into()));
        let file: &str = row.get("file");
        Some(Self {
            incarnation: Incarnation {
                timeline: u32::from_str_radix(file.get(..8)?, 16).ok()?,
                replayed: lsn("replayed"),
                received: lsn("received"),
                started_at: microseconds(row.get("started_at")),
            },
            backend: row.get("backend"),
            default_isolation: row.get("default_isolation"),
            told_at: (microseconds(row.get("told_at")), Instant::now()),
        })
    }

    /// What the server's clock shows now, as far as ours tells; in microseconds since 1970.
    pub(super) fn server_time(&self) -> i64 {
        let (told, at) = self.told_at;
        let since = i64::try_from(at.elapsed().as_micros()).unwrap_or(i64::MAX);
        told.saturating_add(since)
    }

    /// Whether statements of a transaction see what was committed since it began, unless it asks
    /// for more.
    pub(super) fn is_read_committed(&self) -> bool {
        self.default_isolation == IsolationLevel::ReadCommitted.as_str()
    }
}

/// Since 1970.
pub(super) fn microseconds(time: SystemTime) -> i64 {
    let signed = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => signed(after),
        Err(before) => -signed(before.duration()),
    }
}

/// What is known of each open connection of a pool.
///
/// A connection is told from another by its statement cache, which the driver makes once for
/// each. As long as the weak handle is kept, no other cache has its address.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<usize, (Weak<StatementCache>, Arc<Session>)>,
    /// How many there may be before those of closed connections are looked for.
    crowd: usize,
}

impl Sessions {
    pub(super) fn get(&self, client: &Client) -> Option<Arc<Session>> {
        let known = self.lock();
        let (_, session) = known.sessions.get(&key(client))?;
        Some(session.clone())
    }

    pub(super) fn insert(&self, client: &Client, session: Arc<Session>) {
        let mut known = self.lock();
        if known.sessions.len() >= known.crowd {
            known
                .sessions
                .retain(|_, (cache, _)| cache.strong_count() > 0);
            known.crowd = (known.sessions.len() * 2).max(16);
        }
        let cache = Arc::downgrade(&client.statement_cache);
        known.sessions.insert(key(client), (cache, session));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(client: &Client) -> usize {
    Arc::as_ptr(&client.statement_cache).addr()
}
