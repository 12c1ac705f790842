//! `&Pool` as sqlx's `Executor` and `Acquire`.

use async_stream::try_stream;
use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream};
use leadpool::failover::Report;
use sqlx::{
    Acquire, Either, Execute, Executor, PgConnection, Postgres, SqlStr, Transaction,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::{
    Pool,
    repeat::{Repeats, Sending, is_lost, look},
    statement::Statement,
};

type Step = Either<PgQueryResult, PgRow>;

impl Pool {
    /// Runs a statement on a connection of its own. When its host is invalidated it ends at once.
    /// It is sent again only where it is known not to have happened, or can't have written.
    fn stream(&self, statement: Statement) -> BoxStream<'static, Result<Step, sqlx::Error>> {
        let pool = self.clone();
        Box::pin(try_stream! {
            let mut repeats = Repeats::new(pool.inner().transactions.budget());
            loop {
                let (mut conn, generation) = pool.checkout().await?;
                let sending = Sending::new(generation.clone(), statement.is_atomic(), pool.may_run_twice());
                let mut is_answered = false;
                let ended = {
                    let mut steps = (&mut *conn).fetch_many(statement.clone());
                    loop {
                        let step = tokio::select! {
                            biased;
                            step = steps.next() => step,
                            () = sending.aborted() => break Err(sending.cut_off(is_answered)),
                        };
                        match step {
                            Some(Ok(step)) => {
                                if !is_answered {
                                    sending.heard();
                                }
                                is_answered = true;
                                yield step;
                            }
                            Some(Err(error)) => break Ok(Some(error)),
                            None => break Ok(None),
                        }
                    }
                };
                let verdict = match ended {
                    Ok(None) => return,
                    Ok(Some(error)) => {
                        if is_lost(&error) {
                            drop(conn.detach());
                            pool.inner().sub_pools.driver().test_idle(&generation);
                        }
                        sending.failed(error, is_answered).await
                    }
                    Err(verdict) => {
                        // Returned, it would be waited for.
                        drop(conn.detach());
                        verdict
                    }
                };
                if !verdict.may_repeat || !repeats.may_repeat() {
                    Err(verdict.error)?;
                }
            }
        })
    }

    /// Asks something that runs nothing, so that it can be asked again.
    async fn ask<T>(
        self,
        ask: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let mut repeats = Repeats::new(self.inner().transactions.budget());
        loop {
            let (mut conn, generation) = self.checkout().await?;
            let asked = tokio::select! {
                biased;
                asked = ask(&mut conn) => Some(asked),
                () = generation.aborted() => None,
            };
            match asked {
                Some(Err(error)) if is_lost(&error) => {
                    drop(conn.detach());
                    self.inner().sub_pools.driver().test_idle(&generation);
                    if !repeats.may_repeat() {
                        return Err(error);
                    }
                    look(&generation, Report::ConnectionLost).await;
                }
                Some(asked) => return asked,
                None => drop(conn.detach()),
            }
        }
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        match Statement::of(query) {
            Ok(statement) => self.stream(statement),
            Err(error) => Box::pin(futures_util::stream::once(async { Err(error) })),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let mut steps = self.fetch_many(query);
        Box::pin(async move {
            // To the end: a deferred constraint may fail behind the row.
            let mut first = None;
            while let Some(step) = steps.try_next().await? {
                if let Either::Right(row) = step {
                    first.get_or_insert(row);
                }
            }
            Ok(first)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let (pool, parameters) = (self.clone(), parameters.to_vec());
        Box::pin(pool.ask(move |conn| {
            let (sql, parameters) = (sql.clone(), parameters.clone());
            Box::pin(async move { conn.prepare_with(sql, &parameters).await })
        }))
    }

    // Wanted whenever somebody in the build has sqlx's feature `macros`.
    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx_core::describe::Describe<Postgres>, sqlx::Error>> {
        let pool = self.clone();
        Box::pin(pool.ask(move |conn| {
            let sql = sql.clone();
            Box::pin(async move { conn.describe(sql).await })
        }))
    }
}

impl<'a> Acquire<'a> for &'_ Pool {
    type Database = Postgres;
    type Connection = PoolConnection<Postgres>;

    fn acquire(self) -> BoxFuture<'a, Result<PoolConnection<Postgres>, sqlx::Error>> {
        Box::pin(Pool::acquire(self))
    }

    fn begin(self) -> BoxFuture<'a, Result<Transaction<'a, Postgres>, sqlx::Error>> {
        let pool = self.clone();
        Box::pin(async move { Pool::begin(&pool).await })
    }
}
