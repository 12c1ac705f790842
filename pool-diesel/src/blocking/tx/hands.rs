//! The part of a transaction that blocks, for the thread in which it does.

use std::{borrow::Cow, num::NonZeroU32};

use diesel::{
    Connection as _, PgConnection, QueryResult, RunQueryDsl,
    connection::{
        AnsiTransactionManager, InstrumentationEvent, SimpleConnection as _,
        TransactionManager as _,
    },
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::Error as DieselError,
    sql_types,
};
use leadpool::adapter::{Commit, QUESTION};
use tokio::sync::oneshot;

use crate::blocking::{
    PoolTransactionManager, PooledConnection,
    error::{into_pool, refused},
    session::{depth, is_lost, roll_back},
    socket::Fuse,
};

/// Who has a thread, and the closure.
pub(super) trait Hands: Send + Sync + 'static {
    /// Does a job when those before it are done. If there is nobody to do it, it is dropped.
    fn take(&self, job: Job);
}

/// The closure's end, with its value put aside.
pub(super) type Closure<'a> = dyn FnMut(&mut PooledConnection) -> Result<(), leadpool::Error> + 'a;

/// Something that blocks: BEGIN, the closure, the question for evidence. Whoever waits for the reply
/// may give it up, and shut the connection down.
pub(super) struct Job {
    pub(super) lease: PooledConnection,
    pub(super) begin: Cow<'static, str>,
    /// Whether to ask for evidence in the end.
    pub(super) asks: bool,
    pub(super) fuse: Fuse,
    pub(super) reply: oneshot::Sender<Worked>,
}

/// How the closure and what is around it ended.
pub(super) enum Worked {
    /// It is ready for COMMIT, with the answer to the question for evidence.
    Ready {
        lease: PooledConnection,
        answer: Option<Result<String, leadpool::Error>>,
    },
    /// It ran inside a transaction of somebody else's, which is not ours to end: a test's.
    Nested,
    Failed(leadpool::Error),
}

impl Job {
    pub(super) fn run(self, closure: &mut Closure<'_>) {
        let Self {
            mut lease,
            begin,
            asks,
            fuse,
            reply,
        } = self;
        if reply.is_closed() {
            return;
        }
        // Somebody else's goes on when what was nested in it has failed.
        let is_ours = depth(&mut lease).is_none();
        let done = work(&mut lease, &begin, asks, closure);
        fuse.take_out();
        match done {
            // Whoever has given it up has shut the connection down, which is closed then.
            Done::Ready(answer) => drop(reply.send(Worked::Ready { lease, answer })),
            Done::Nested => drop(reply.send(Worked::Nested)),
            Done::Failed(error) => {
                // Before it is rolled back, so that nobody waits for that.
                drop(reply.send(Worked::Failed(error)));
                if is_ours {
                    roll_back(&mut lease);
                }
            }
        }
    }
}

enum Done {
    Ready(Option<Result<String, leadpool::Error>>),
    Nested,
    Failed(leadpool::Error),
}

fn work(conn: &mut PooledConnection, begin: &str, asks: bool, closure: &mut Closure<'_>) -> Done {
    if depth(conn).is_some() {
        return nested(conn, closure);
    }
    if let Err(error) = AnsiTransactionManager::begin_transaction_sql(&mut **conn, begin) {
        return Done::Failed(into_pool(error));
    }
    if let Err(error) = closure(conn) {
        return Done::Failed(error);
    }
    match depth(conn) {
        Some((1, false)) => Done::Ready(asks.then(|| {
            let answer: QueryResult<String> = Question.get_result(&mut **conn);
            answer.map_err(into_pool)
        })),
        // A statement has failed, and the closure returned `Ok` all the same.
        Some((1, true)) => Done::Failed(leadpool::Error::RolledBack),
        _ if is_lost(conn) => Done::Failed(into_pool(DieselError::BrokenTransactionManager)),
        _ => Done::Failed(leadpool::Error::EndedByClosure),
    }
}

/// In a savepoint.
fn nested(conn: &mut PooledConnection, closure: &mut Closure<'_>) -> Done {
    enum Ended {
        Closure(leadpool::Error),
        Savepoint(DieselError),
    }
    impl From<DieselError> for Ended {
        fn from(error: DieselError) -> Self {
            Self::Savepoint(error)
        }
    }
    let ended =
        PoolTransactionManager::transaction(conn, |conn| closure(conn).map_err(Ended::Closure));
    match ended {
        Ok(()) => Done::Nested,
        Err(Ended::Closure(error)) => Done::Failed(error),
        Err(Ended::Savepoint(error)) => Done::Failed(into_pool(error)),
    }
}

/// What COMMIT stands behind in leadpool's message, whose row diesel would drop.
const SIGN: &str = "SHOW leadpool.transaction";
/// The same for a driver that drops rows: fails, with words of our own, outside of our transaction.
const GUARD: &str = "\
SELECT nullif(pg_catalog.concat('leadpool.transaction: ', \
pg_catalog.current_setting('leadpool.transaction', true)), \
'leadpool.transaction: ours')::pg_catalog.int4";
const NOT_OURS: &str = "\"leadpool.transaction: ";

/// Sends COMMIT, with `is_asked` if evidence was asked for, so that the transaction is known to be
/// ours. Not by the hands: whoever called `run_tx` can be told what became of it also while this
/// hangs.
pub(super) fn commit(
    mut lease: PooledConnection,
    sql: &str,
    is_asked: bool,
    fuse: Fuse,
    reply: oneshot::Sender<Commit>,
) {
    // Nobody has waited for it to begin.
    if reply.is_closed() {
        return;
    }
    let ended = send_commit(&mut lease, sql, is_asked);
    fuse.take_out();
    match depth(&mut lease) {
        // So that it is there for whoever comes next.
        None => {
            drop(lease);
            drop(reply.send(ended));
        }
        Some(_) => {
            drop(reply.send(ended));
            roll_back(&mut lease);
        }
    }
}

/// diesel sees by libpq's status that the transaction has ended, and counts its depth anew; the
/// application's instrumentation is told here.
fn send_commit(conn: &mut PgConnection, sql: &str, is_asked: bool) -> Commit {
    let event = InstrumentationEvent::commit_transaction(NonZeroU32::MIN);
    conn.instrumentation().on_connection_event(event);
    let sent = match is_asked {
        true => conn.batch_execute(sql),
        false => conn.batch_execute(&sql.replacen(SIGN, GUARD, 1)),
    };
    match sent {
        Ok(()) => Commit::Done,
        Err(error) if is_lost(conn) => Commit::Lost(Some(error.into())),
        Err(DieselError::DatabaseError(_, error)) if error.message().contains(NOT_OURS) => {
            Commit::NotOurs
        }
        Err(error) => Commit::Refused(refused(error)),
    }
}

/// leadpool's question, as a statement that diesel prepares once for each connection.
struct Question;

impl QueryFragment<Pg> for Question {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        pass.push_sql(QUESTION);
        Ok(())
    }
}

impl QueryId for Question {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Question {
    type SqlType = sql_types::Text;
}

impl<C> RunQueryDsl<C> for Question {}
