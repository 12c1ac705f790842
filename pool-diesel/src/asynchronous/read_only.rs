//! Connections that refuse to write before the server does.

use std::fmt;

use diesel::{
    QueryResult,
    connection::{CacheSize, Instrumentation},
    pg::{Pg, PgQueryBuilder},
    query_builder::{AsQuery, QueryBuilder as _, QueryFragment, QueryId},
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncConnectionCore, AsyncPgConnection,
    SimpleAsyncConnection,
};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Object, Pool, PoolError};
use crate::writes::writes;

/// A connection that refuses to write, from [`Pool::get_read_only`].
///
/// A statement that writes ends with the error that a standby would answer with
/// (`ReadOnlyTransaction`), and is not sent; so also where the writer stands in for a standby. It
/// goes by the words of the statement: what a function does that is called in it is left to the
/// server.
///
/// ```no_run
/// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl};
///
/// let mut conn = pool.reader().get_read_only().await?;
/// diesel::sql_query("SELECT 1").execute(&mut conn).await?;
/// let refused = diesel::sql_query("DELETE FROM orders").execute(&mut conn).await;
/// assert!(refused.is_err());
/// # Ok(())
/// # }
/// ```
pub struct ReadOnly(Object);

impl Pool {
    /// Takes a connection that refuses to write: see [`ReadOnly`]. Where it leads to is as this
    /// handle asks, so it is most of use on a [`reader`](Self::reader).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_read_only(&self) -> Result<ReadOnly, PoolError> {
        self.get().await.map(ReadOnly)
    }
}

fn refused(word: &str) -> DieselError {
    let why = format!(
        "`{word}` on a read-only connection: nothing was sent; take one with `pool.writer().get()`"
    );
    DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, Box::new(why))
}

fn judge(sql: &str) -> QueryResult<()> {
    match writes(sql) {
        Some(word) => Err(refused(word)),
        None => Ok(()),
    }
}

fn judge_query(query: &impl QueryFragment<Pg>) -> QueryResult<()> {
    let mut builder = PgQueryBuilder::default();
    query.to_sql(&mut builder, &Pg)?;
    judge(&builder.finish())
}

impl SimpleAsyncConnection for ReadOnly {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        judge(query)?;
        self.0.batch_execute(query).await
    }
}

impl AsyncConnectionCore for ReadOnly {
    type ExecuteFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<usize>>;
    type LoadFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<Self::Stream<'conn, 'query>>>;
    type Stream<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Stream<'conn, 'query>;
    type Row<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Row<'conn, 'query>;
    type Backend = Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Pg> + QueryId + 'query,
    {
        let query = source.as_query();
        match judge_query(&query) {
            Ok(()) => AsyncConnectionCore::load(&mut *self.0, query),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Pg> + QueryId + 'query,
    {
        match judge_query(&source) {
            Ok(()) => AsyncConnectionCore::execute_returning_count(&mut *self.0, source),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }
}

impl AsyncConnection for ReadOnly {
    type TransactionManager = AnsiTransactionManager;

    async fn establish(_: &str) -> diesel::ConnectionResult<Self> {
        let why = "a read-only connection comes from a pool: `pool.reader().get_read_only()`";
        Err(diesel::ConnectionError::BadConnection(why.to_owned()))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        AsyncConnection::transaction_state(&mut *self.0)
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        AsyncConnection::instrumentation(&mut *self.0)
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        AsyncConnection::set_instrumentation(&mut *self.0, instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        AsyncConnection::set_prepared_statement_cache_size(&mut *self.0, size);
    }
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnly").finish_non_exhaustive()
    }
}
