//! A connection that is closed, not returned, unless all went well.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, Postgres, pool::PoolConnection};

/// Holds a connection while something is under way on it.
///
/// sqlx returns what is dropped to its pool, and waits there for what the server still has to say,
/// which on a host that is dead or frozen it never does.
pub(crate) struct Lease {
    /// `None` only while it is being released or dropped.
    conn: Option<PoolConnection<Postgres>>,
}

impl Lease {
    pub(crate) fn new(conn: PoolConnection<Postgres>) -> Self {
        Self { conn: Some(conn) }
    }

    /// Returns it to its pool.
    pub(crate) fn release(mut self) {
        drop(self.conn.take());
    }
}

const HELD: &str = "invariant: the connection leaves only in `release` and `drop`";

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.conn.as_deref().expect(HELD)
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.conn.as_deref_mut().expect(HELD)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(conn.detach());
        }
    }
}
