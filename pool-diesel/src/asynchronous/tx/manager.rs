//! diesel's transaction manager, kept in step with what is sent beside it.
//!
//! It counts how deep transactions are nested, since the inner ones are savepoints, and takes a
//! connection for broken that comes back with a count.

use std::num::NonZeroU32;

use diesel::{
    QueryResult,
    connection::{InstrumentationEvent as Event, StrQueryHelper, TransactionManagerStatus},
};
use diesel_async::{
    AnsiTransactionManager as Manager, AsyncConnection as _, AsyncPgConnection,
    SimpleAsyncConnection as _, TransactionManager as _,
};
use futures_util::FutureExt as _;

/// How deep the transactions on it are nested; `None` if diesel has lost count.
pub(super) fn depth(conn: &mut AsyncPgConnection) -> Option<u32> {
    let status = Manager::transaction_manager_status_mut(conn);
    let depth = status.transaction_depth().ok()?;
    Some(depth.map_or(0, u32::from))
}

/// Begins a transaction with statements of leadpool's.
pub(super) async fn begin(conn: &mut AsyncPgConnection, sql: &str) -> QueryResult<()> {
    Manager::begin_transaction_sql(conn, sql).await
}

/// Begins a savepoint: within a transaction of a test, which is never committed.
pub(super) async fn begin_nested(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    Manager::begin_transaction(conn).await
}

/// Ends a savepoint.
pub(super) async fn end_nested(conn: &mut AsyncPgConnection, keeps: bool) -> QueryResult<()> {
    match keeps {
        true => Manager::commit_transaction(conn).await,
        false => Manager::rollback_transaction(conn).await,
    }
}

/// Has it forget the transaction, whose end is sent beside it. Says whether the connection can go
/// on being used: not if a nested `BEGIN`, `COMMIT` or `ROLLBACK` was dropped before its answer.
pub(super) fn forget(conn: &mut AsyncPgConnection) -> bool {
    *Manager::transaction_manager_status_mut(conn) = TransactionManagerStatus::default();
    !Manager::is_broken_transaction_manager(conn)
}

/// Sends ROLLBACK, whose answer nobody waits for: what comes next queues up behind it. The
/// application's instrumentation is told as if it had been answered.
pub(super) fn send_rollback(conn: &mut AsyncPgConnection) {
    const SQL: &str = "ROLLBACK";

    tell(conn, Event::rollback_transaction(NonZeroU32::MIN));
    // It is sent in the first poll.
    if conn.batch_execute(SQL).now_or_never().is_none() {
        tell(conn, Event::finish_query(&StrQueryHelper::new(SQL), None));
    }
}

/// Tells the application's instrumentation of an end that diesel does not see.
pub(super) fn tell_commit(conn: &mut AsyncPgConnection) {
    tell(conn, Event::commit_transaction(NonZeroU32::MIN));
}

fn tell(conn: &mut AsyncPgConnection, event: Event<'_>) {
    conn.instrumentation().on_connection_event(event);
}
