//! What a checkout hands out.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use deadpool::managed::Object;
use diesel::{
    Connection, ConnectionError, ConnectionResult, PgConnection, QueryResult,
    connection::{
        AnsiTransactionManager, CacheSize, ConnectionSealed, Instrumentation, LoadConnection,
        MultiConnectionHelper, SimpleConnection, TransactionManager, TransactionManagerStatus,
    },
    expression::QueryMetadata,
    migration::MigrationConnection,
    pg::{GetPgMetadataCache, Pg, PgMetadataCache, PgMetadataLookup},
    query_builder::{Query, QueryFragment, QueryId},
    query_dsl::UpdateAndFetchResults,
    result::{DatabaseErrorKind, Error},
    sql_types::TypeMetadata,
};
use leadpool::{HostAddr, adapter::Generation, failover::Report};

use super::{
    driver::{HostObject, close_ended},
    r2d2::ConnectionManager,
    read_only::{refuse_writes, sql},
    socket::Socket,
};

/// A connection from a [`Pool`](super::Pool), which goes back there when it is dropped.
///
/// It is one of diesel's connections itself, as that of diesel's `r2d2`, and dereferences to
/// [`PgConnection`]. It goes back unless it was lost, a transaction was left open on it, or its
/// thread panics; or its host was invalidated meanwhile: then it is closed.
///
/// ```no_run
/// use diesel::prelude::*;
///
/// # fn f(pool: leadpool_diesel::blocking::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let mut conn = pool.get()?;
/// diesel::sql_query("INSERT INTO visits DEFAULT VALUES").execute(&mut conn)?;
/// # Ok(())
/// # }
/// ```
pub struct PooledConnection<M = ConnectionManager<PgConnection>> {
    /// `None` only while it is being dropped.
    object: Option<HostObject>,
    /// Whether what writes is refused here.
    only_reads: bool,
    manager: PhantomData<fn() -> M>,
}

const HELD: &str = "invariant: the connection leaves only in `drop`";

impl<M> PooledConnection<M> {
    pub(super) fn new(object: HostObject, only_reads: bool) -> Self {
        Self {
            object: Some(object),
            only_reads,
            manager: PhantomData,
        }
    }

    /// The same, as the connection of another manager's pool.
    pub(super) fn into_named<N>(mut self) -> PooledConnection<N> {
        PooledConnection {
            object: self.object.take(),
            only_reads: self.only_reads,
            manager: PhantomData,
        }
    }

    /// Runs something with it as the connection of another manager's pool.
    pub(super) fn named<N, T>(&mut self, run: impl FnOnce(&mut PooledConnection<N>) -> T) -> T {
        let mut named = PooledConnection {
            object: self.object.take(),
            only_reads: self.only_reads,
            manager: PhantomData,
        };
        let ran = run(&mut named);
        self.object = named.object.take();
        ran
    }

    /// The host that it leads to.
    #[must_use]
    pub fn host(&self) -> &HostAddr {
        self.object().generation.host()
    }

    /// Closes it instead of returning it.
    #[cfg(feature = "migrations")]
    pub(super) fn close(mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }

    pub(super) fn socket(&self) -> Option<Arc<Socket>> {
        self.object().socket.clone()
    }

    /// Runs something that reports what it has seen of the host.
    fn seen<'a, T>(
        &'a mut self,
        run: impl FnOnce(&'a mut PgConnection) -> QueryResult<T>,
    ) -> QueryResult<T> {
        let session = &mut **self.object.as_mut().expect(HELD);
        let conn = session.conn.as_mut().expect(HELD);
        let ran = run(conn);
        note(&session.generation, ran.as_ref().err());
        ran
    }

    fn object(&self) -> &HostObject {
        self.object.as_ref().expect(HELD)
    }
}

/// Tells the monitor what a statement says of its host.
fn note(generation: &Generation, error: Option<&Error>) {
    match error {
        Some(Error::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
            _,
        )) => generation.report(Report::ConnectionLost),
        Some(Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)) => {
            if generation.is_writer() {
                generation.report(Report::WriteRefused);
            }
        }
        None | Some(Error::DatabaseError(..)) => generation.heard(),
        Some(_) => {}
    }
}

impl<M> Drop for PooledConnection<M> {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else {
            return;
        };
        if !object.is_reusable() {
            close_ended(&object);
            drop(Object::take(object));
        }
    }
}

impl<M> Deref for PooledConnection<M> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.object().conn()
    }
}

impl<M> DerefMut for PooledConnection<M> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.object.as_mut().expect(HELD).conn_mut()
    }
}

impl<M> fmt::Debug for PooledConnection<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection")
            .field("host", self.host())
            .finish_non_exhaustive()
    }
}

impl<M> SimpleConnection for PooledConnection<M> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        if self.only_reads {
            refuse_writes(query)?;
        }
        self.seen(|conn| conn.batch_execute(query))
    }
}

impl<M> ConnectionSealed for PooledConnection<M> {}

impl<M: 'static> Connection for PooledConnection<M> {
    type Backend = Pg;
    type TransactionManager = PoolTransactionManager;

    fn establish(_: &str) -> ConnectionResult<Self> {
        Err(ConnectionError::BadConnection(
            "a pooled connection comes from its pool: use `Pool::get`".to_owned(),
        ))
    }

    fn begin_test_transaction(&mut self) -> QueryResult<()> {
        (**self).begin_test_transaction()
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<Pg> + QueryId,
    {
        if self.only_reads {
            refuse_writes(&sql(source)?)?;
        }
        self.seen(|conn| conn.execute_returning_count(source))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        (**self).transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        (**self).instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        (**self).set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        (**self).set_prepared_statement_cache_size(size);
    }
}

impl<M: 'static, B> LoadConnection<B> for PooledConnection<M>
where
    PgConnection: LoadConnection<B, Backend = Pg>,
{
    type Cursor<'conn, 'query> = <PgConnection as LoadConnection<B>>::Cursor<'conn, 'query>;
    type Row<'conn, 'query> = <PgConnection as LoadConnection<B>>::Row<'conn, 'query>;

    fn load<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<Pg> + QueryId + 'query,
        Pg: QueryMetadata<T::SqlType>,
    {
        if self.only_reads {
            refuse_writes(&sql(&source)?)?;
        }
        self.seen(|conn| LoadConnection::<B>::load(conn, source))
    }
}

/// diesel's own, behind a pooled connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PoolTransactionManager;

impl<M: 'static> TransactionManager<PooledConnection<M>> for PoolTransactionManager {
    type TransactionStateData = AnsiTransactionManager;

    fn begin_transaction(conn: &mut PooledConnection<M>) -> QueryResult<()> {
        conn.seen(AnsiTransactionManager::begin_transaction)
    }

    fn rollback_transaction(conn: &mut PooledConnection<M>) -> QueryResult<()> {
        conn.seen(AnsiTransactionManager::rollback_transaction)
    }

    fn commit_transaction(conn: &mut PooledConnection<M>) -> QueryResult<()> {
        conn.seen(AnsiTransactionManager::commit_transaction)
    }

    fn transaction_manager_status_mut(
        conn: &mut PooledConnection<M>,
    ) -> &mut TransactionManagerStatus {
        AnsiTransactionManager::transaction_manager_status_mut(&mut **conn)
    }
}

impl<M: 'static> MigrationConnection for PooledConnection<M> {
    fn setup(&mut self) -> QueryResult<usize> {
        (**self).setup()
    }
}

impl<M: 'static, Changes, Output> UpdateAndFetchResults<Changes, Output> for PooledConnection<M>
where
    PgConnection: UpdateAndFetchResults<Changes, Output>,
{
    fn update_and_fetch(&mut self, changeset: Changes) -> QueryResult<Output> {
        self.seen(|conn| conn.update_and_fetch(changeset))
    }
}

impl<M> GetPgMetadataCache for PooledConnection<M> {
    fn get_metadata_cache(&mut self) -> &mut PgMetadataCache {
        (**self).get_metadata_cache()
    }
}

impl<M: 'static> MultiConnectionHelper for PooledConnection<M> {
    fn to_any<'a>(
        lookup: &mut <Pg as TypeMetadata>::MetadataLookup,
    ) -> &mut (dyn std::any::Any + 'a) {
        lookup.as_any()
    }

    fn from_any(
        lookup: &mut dyn std::any::Any,
    ) -> Option<&mut <Pg as TypeMetadata>::MetadataLookup> {
        lookup
            .downcast_mut::<Self>()
            .map(|conn| conn as &mut dyn PgMetadataLookup)
    }
}
