//! A connection while a transaction is open on it.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;

use super::{Object, sessions::Session};

/// Holds a connection while a transaction is open on it. Unless it is released in good order, the
/// connection is closed instead of returned, so that nobody inherits the transaction.
pub(super) struct Lease {
    /// `None` only while it is being released or dropped.
    conn: Option<Object>,
    session: Arc<Session>,
}

impl Lease {
    pub(super) fn new(conn: Object, session: Arc<Session>) -> Self {
        Self {
            conn: Some(conn),
            session,
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Returns it to its pool.
    pub(super) fn release(mut self) {
        drop(self.conn.take());
    }
}

const HELD: &str = "invariant: the connection leaves only in `release` and `drop`";

impl Deref for Lease {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.conn.as_deref().expect(HELD)
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.conn.as_deref_mut().expect(HELD)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.session.end();
            drop(Object::take(conn));
        }
    }
}
