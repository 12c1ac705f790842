//! One attempt of a transaction over diesel-async.

use diesel::{
    QueryResult,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::Text,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use leadpool::{
    adapter::{
        Answers, Commit, CommitSql, Failure, NOT_OURS, Options, QUESTION, Resolver, Try, TxAttempt,
    },
    error::{Disposition, TxPhase},
};

use super::{
    Tx,
    manager::{begin, begin_nested, depth, end_nested, forget, send_rollback, tell_commit},
};
use crate::asynchronous::{
    error::{into_pool, is_lost},
    lease::Lease,
    pool::Inner,
};

/// In a transaction that has failed.
const ABORTED: &str = "25P02";

/// Makes leadpool's error of the closure's.
pub(super) type Carry<E> = fn(E, &Answers) -> leadpool::Error;

/// One attempt: checkout, BEGIN, the closure, the question for evidence, COMMIT.
///
/// # Cancel safety
///
/// Dropping the future closes the connection: the server rolls back, unless COMMIT has been sent,
/// when it does the one or the other.
pub(super) async fn attempt<T, E, F, Fut>(
    pool: &Inner,
    options: &Options,
    closure: F,
    carry: Carry<E>,
    this: Try,
) -> Result<T, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let begun = TxAttempt::begin(&pool.sub_pools, &pool.resolver, options, this);
    let (conn, attempt) = begun.await?;
    let Some(session) = pool.sub_pools.driver().sessions().get(&conn) else {
        let why = "a connection was not opened by its pool: use no pool within a pool";
        return Err(attempt.failure(leadpool::Error::user(why)));
    };
    let mut lease = Lease::new(conn, session);
    if depth(&mut lease) != Some(0) {
        return in_test(attempt, lease, closure, carry).await;
    }
    let begun = attempt
        .watch(begin(&mut lease, &options.begin_sql()))
        .await?;
    if let Err(error) = begun {
        return Err(attempt.failure(into_pool(error, &lease.session().answers)));
    }
    attempt.generation().heard();
    match run(&attempt, lease, closure, carry).await? {
        (Ok(value), lease) => commit(attempt, lease).await.map(|()| value),
        (Err(error), lease) => {
            let failure = attempt.failure(error);
            // What the server is closing is not kept.
            if failure.disposition != Disposition::WaitTopology {
                roll_back(lease);
            }
            Err(failure)
        }
    }
}

type Ran<T> = (Result<T, leadpool::Error>, Lease);

/// Runs the closure in the transaction that was begun for it; gives back what it has returned, and
/// the connection.
async fn run<T, E, F, Fut>(
    attempt: &TxAttempt<'_, Resolver>,
    mut lease: Lease,
    closure: F,
    carry: Carry<E>,
) -> Result<Ran<T>, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let session = lease.session().clone();
    let begun = depth(&mut lease);
    let (tx, slot) = Tx::lend(lease);
    let outcome = attempt.watch(closure(tx)).await?;
    let outcome = outcome.map_err(|error| carry(error, &session.answers));
    let Some(mut lease) = slot.take() else {
        let error = outcome.err().unwrap_or(leadpool::Error::Escaped);
        return Err(attempt.failure(error));
    };
    if outcome.is_ok() && depth(&mut lease) != begun {
        // One of its own is open, or the one that was begun for it is not.
        return Err(attempt.failure(leadpool::Error::EndedByClosure));
    }
    Ok((outcome, lease))
}

/// Ends the transaction; nobody waits for the answer, the next one's statements queue up behind it.
fn roll_back(mut lease: Lease) {
    if !lease.session().has_ended() && forget(&mut lease) {
        send_rollback(&mut lease);
        lease.release();
    }
}

/// The same in a transaction that was begun for a test (`begin_test_transaction`) and is never
/// committed: as a savepoint of it, as diesel's own `transaction` would be.
async fn in_test<T, E, F, Fut>(
    attempt: TxAttempt<'_, Resolver>,
    mut lease: Lease,
    closure: F,
    carry: Carry<E>,
) -> Result<T, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let session = lease.session().clone();
    let failed = |error| attempt.failure(into_pool(error, &session.answers));
    attempt
        .watch(begin_nested(&mut lease))
        .await?
        .map_err(failed)?;
    let (outcome, mut lease) = run(&attempt, lease, closure, carry).await?;
    let ended = attempt
        .watch(end_nested(&mut lease, outcome.is_ok()))
        .await?;
    match (outcome, ended) {
        (Ok(_), Err(error)) => {
            let error = into_pool(error, &session.answers);
            Err(attempt.failure(match error.sqlstate() {
                Some(ABORTED) => leadpool::Error::RolledBack,
                _ => error,
            }))
        }
        (outcome, ended) => {
            if ended.is_ok() {
                lease.release();
            }
            outcome.map_err(|error| attempt.failure(error))
        }
    }
}

/// Finds out what the transaction wrote, and commits it.
async fn commit(mut attempt: TxAttempt<'_, Resolver>, mut lease: Lease) -> Result<(), Failure> {
    if attempt.needs_evidence() {
        let asked = attempt.watch(ask(&mut lease)).await?;
        let answers = &lease.session().answers;
        let noted = match asked.map_err(|error| into_pool(error, answers)) {
            Ok(answer) => attempt.note_evidence(Ok(&answer)),
            Err(error) => attempt.note_evidence(Err(error)),
        };
        if let Err(failure) = noted {
            roll_back(lease);
            return Err(failure);
        }
    }
    if !forget(&mut lease) {
        return Err(attempt.failure(leadpool::Error::EndedByClosure));
    }
    let sql = attempt.commit_sql_unread();
    attempt.commit(send_commit(lease, sql)).await
}

/// Sends COMMIT and what stands before it as one message.
async fn send_commit(mut lease: Lease, sql: CommitSql) -> Commit {
    let session = lease.session().clone();
    let before = session.answers.commits();
    tell_commit(&mut lease);
    let sent = lease.batch_execute(&sql.text).await;
    // The COMMIT tag counts, whatever comes behind it.
    let is_committed = session.answers.commits() != before;
    let error = match sent {
        Ok(()) if !session.answers.are_noted() => {
            lease.release();
            return Commit::Done;
        }
        Ok(()) => {
            lease.release();
            // A tag of ROLLBACK can't be: what stands before COMMIT fails in its place.
            return match is_committed {
                true => Commit::Done,
                false => Commit::Refused(leadpool::Error::RolledBack),
            };
        }
        Err(_) if is_committed => return Commit::Done,
        Err(error) => error,
    };
    if is_lost(&error) {
        return Commit::Lost(Some(error.into()));
    }
    let is_not_ours = error.to_string().contains(NOT_OURS);
    let error = into_pool(error, &session.answers);
    let Some(code) = error.sqlstate() else {
        // Without an answer of the server's nothing is known.
        return Commit::Lost(Some(error.into()));
    };
    // The server has ended the transaction; a connection it is closing is not kept.
    match Disposition::of_sqlstate(code, TxPhase::CommitInFlight) {
        Disposition::Resolve => return Commit::Lost(Some(error.into())),
        Disposition::WaitTopology => {}
        _ => roll_back(lease),
    }
    match is_not_ours {
        true => Commit::NotOurs,
        false => Commit::Refused(error),
    }
}

/// What is asked for evidence, in diesel's terms: so that it is prepared once a connection.
#[derive(QueryId)]
struct Question;

impl Query for Question {
    type SqlType = Text;
}

impl QueryFragment<Pg> for Question {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        pass.push_sql(QUESTION);
        Ok(())
    }
}

async fn ask(conn: &mut AsyncPgConnection) -> QueryResult<String> {
    Question.get_result(conn).await
}
