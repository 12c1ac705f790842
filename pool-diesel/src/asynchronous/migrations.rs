//! Migrations, by diesel-async's wrapper for synchronous code, in a thread.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use deadpool::managed::Object as Pooled;
use diesel::{
    migration::{MigrationSource, MigrationVersion},
    pg::Pg,
};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use leadpool::{
    Target,
    adapter::{Budget, Generation, Purpose},
};
use tokio::task::spawn_blocking;

use super::{Object, Pool, sessions::Session};
use crate::migrations::{DEADLINE, MigrationError, Site, Work, drive, lock};

impl Pool {
    /// Runs the migrations that the writer does not have yet, in the order of their versions; each
    /// of them once, also when many instances of an application start together, and when the writer
    /// changes meanwhile: [how that works](crate::migrations). Says which it has run, as diesel's
    /// `run_pending_migrations`. Takes an hour at most: see
    /// [`run_migrations_within`](Self::run_migrations_within).
    ///
    /// It waits for a writer first. The migrations run in a thread of Tokio's for what blocks, on
    /// any kind of runtime. One that is written in Rust gets what it gets from diesel-async's
    /// harness, an `AsyncConnectionWrapper<Object<AsyncPgConnection>>`. The connection is closed at
    /// the end, so that settings that a migration has made reach nobody; unless it is in a
    /// transaction of a test (`begin_test_transaction`).
    ///
    /// # Errors
    ///
    /// See [`MigrationError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection. The server notices within a second (before
    /// PostgreSQL 14: at the end of the statement), ends what runs there and rolls it back; a
    /// migration without a transaction is unknown then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use leadpool_diesel::diesel_migrations::{self, EmbeddedMigrations, embed_migrations};
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");
    ///
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = leadpool_diesel::Pool::connect("postgres://app@db1,db2,db3/shop").await?;
    /// for version in pool.run_migrations(MIGRATIONS).await? {
    ///     println!("applied {version}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_migrations<S>(
        &self,
        source: S,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrationError>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        self.run_migrations_within(source, DEADLINE).await
    }

    /// As [`run_migrations`](Self::run_migrations), with a limit of its own for everything: waiting
    /// for writers (each time the checkout timeout at most), for the lock, and the migrations
    /// themselves.
    ///
    /// # Errors
    ///
    /// As [`run_migrations`](Self::run_migrations).
    ///
    /// # Cancel safety
    ///
    /// As [`run_migrations`](Self::run_migrations).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool) {
    /// use std::time::Duration;
    /// use leadpool_diesel::{
    ///     diesel_migrations::{self, EmbeddedMigrations, embed_migrations},
    ///     migrations::MigrationError,
    /// };
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");
    ///
    /// match pool.run_migrations_within(MIGRATIONS, Duration::from_secs(300)).await {
    ///     Ok(versions) => println!("{} applied", versions.len()),
    ///     Err(MigrationError::Deadline(what)) => eprintln!("come again: {what}"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    pub async fn run_migrations_within<S>(
        &self,
        source: S,
        limit: Duration,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrationError>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        let threads = Threads {
            pool: self,
            source: Arc::new(Mutex::new(source)),
        };
        drive(threads, limit).await
    }
}

/// Tokio's threads for what blocks. The migrations are locked while they run, so that a repetition
/// waits for the end of an attempt that was given up.
struct Threads<'a, S> {
    pool: &'a Pool,
    source: Arc<Mutex<S>>,
}

/// Ends a connection, and with it what is in flight in the thread, unless that has come to its end
/// and taken the session out.
struct Hold(Arc<Mutex<Option<Arc<Session>>>>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(session) = lock(&self.0).take() {
            session.end();
        }
    }
}

impl<S> Site for Threads<'_, S>
where
    S: MigrationSource<Pg> + Send + 'static,
{
    type Conn = Object;
    type Hold = Hold;

    async fn checkout(&self) -> Result<(Object, Arc<Generation>), leadpool::Error> {
        let timeout = self.pool.cluster().config().pool().checkout_timeout;
        let hand_out = |conn, generation: &Arc<Generation>| (conn, generation.clone());
        let sub_pools = &self.pool.inner.sub_pools;
        sub_pools
            .checkout(Purpose::New, Target::Primary, timeout, hand_out)
            .await
    }

    fn begin(&self, conn: Object, work: Work) -> Hold {
        let session = self.pool.inner.sub_pools.driver().sessions().get(&conn);
        let fuse = Arc::new(Mutex::new(session));
        let hold = Hold(fuse.clone());
        let source = self.source.clone();
        // It ends with the connection.
        drop(spawn_blocking(move || {
            let mut conn: AsyncConnectionWrapper<Object> = conn.into();
            let ended = work.run(&mut conn, &*lock(&source));
            if let Some(ended) = ended {
                *lock(&fuse) = None;
                ended.part(conn.into_inner(), |conn| drop(Pooled::take(conn)));
            }
        }));
        hold
    }

    fn budget(&self) -> &Budget {
        self.pool.inner.transactions.budget()
    }
}
