//! One connection as the pool of its host keeps it.

use std::{sync::Arc, time::Instant};

use diesel::{
    PgConnection,
    connection::{AnsiTransactionManager, TransactionManager as _},
};
use leadpool::{adapter::Generation, failover::Report};

use super::{r2d2::CustomizeConnection, socket::Socket};

/// diesel's connection, and what belongs to it.
pub(super) struct Session {
    /// `None` while another thread has it, and in `drop`.
    pub(super) conn: Option<PgConnection>,
    pub(super) socket: Option<Arc<Socket>>,
    pub(super) generation: Arc<Generation>,
    pub(super) customizer: Option<Arc<Customizer>>,
    /// When it was last taken.
    pub(super) taken: Option<Instant>,
}

pub(super) type Customizer = dyn CustomizeConnection<PgConnection, super::r2d2::Error>;

const HELD: &str = "invariant: another thread has the connection only while the pool waits for it";

impl Session {
    pub(super) fn conn(&self) -> &PgConnection {
        self.conn.as_ref().expect(HELD)
    }

    pub(super) fn conn_mut(&mut self) -> &mut PgConnection {
        self.conn.as_mut().expect(HELD)
    }

    /// Whether the server has ended it, as far as the kernel knows.
    pub(super) fn is_ended(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.is_ended())
    }

    /// Whether it may go back to the pool: no transaction is open, and it has not been lost. Tells
    /// the monitor if it has.
    pub(super) fn is_reusable(&mut self) -> bool {
        let Some(conn) = self.conn.as_mut() else {
            return false;
        };
        if is_lost(conn) {
            self.generation.report(Report::ConnectionLost);
            return false;
        }
        if self.socket.as_ref().is_some_and(|socket| socket.is_shut()) {
            return false;
        }
        !AnsiTransactionManager::is_broken_transaction_manager(conn) && !std::thread::panicking()
    }
}

/// Whether the connection is gone, as its last statement has found. libpq says so by a transaction
/// status of its own ([PostgreSQL documentation, section
/// 34.2](https://www.postgresql.org/docs/current/libpq-status.html)), of which diesel makes the
/// error state of its transaction manager.
pub(super) fn is_lost(conn: &mut PgConnection) -> bool {
    AnsiTransactionManager::transaction_manager_status_mut(conn)
        .transaction_depth()
        .is_err()
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (Some(conn), Some(customizer)) = (self.conn.take(), &self.customizer) {
            customizer.on_release(conn);
        }
    }
}

/// How many transactions are open inside each other, and whether a statement in them has failed.
pub(super) fn depth(conn: &mut PgConnection) -> Option<(u32, bool)> {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    let status = status.transaction_state().ok()?.in_transaction.as_ref()?;
    let has_failed = status.requires_rollback_maybe_up_to_top_level;
    Some((status.transaction_depth.get(), has_failed))
}

/// Ends a transaction, if that is to be had.
pub(super) fn roll_back(conn: &mut PgConnection) {
    if depth(conn).is_some() {
        // One in which it fails is closed instead of returned.
        let _ = AnsiTransactionManager::rollback_transaction(conn);
    }
}
