//! Migrations, in the thread that calls, or in one of Tokio's.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use diesel::{
    migration::{MigrationSource, MigrationVersion},
    pg::Pg,
};
use leadpool::{
    Target,
    adapter::{Budget, Generation, Purpose},
};
use tokio::task::spawn_blocking;
use tracing::{Instrument as _, Span};

use super::{
    InteractPool, Pool, PooledConnection,
    inner::Inner,
    socket::{Fuse, Kill},
};
use crate::migrations::{DEADLINE, MigrationError, Site, Work, drive, lock};

impl<M: 'static> Pool<M> {
    /// Runs the migrations that the writer does not have yet, in the order of their versions; each
    /// of them once, also when many instances of an application start together, and when the writer
    /// changes meanwhile: [how that works](crate::migrations). Says which it has run, as diesel's
    /// `run_pending_migrations`. Takes an hour at most: see
    /// [`run_migrations_within`](Self::run_migrations_within).
    ///
    /// It waits for a writer first. The migrations run in the caller's thread, on a
    /// [`PooledConnection`]. That is closed at the end, so that settings that a migration has made
    /// reach nobody; unless it is in a [test transaction](super::r2d2::TestCustomizer). When the
    /// host is given up, what is in flight ends as far as that [can be had](super).
    ///
    /// # Errors
    ///
    /// See [`MigrationError`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use leadpool_diesel::diesel_migrations::{self, EmbeddedMigrations, embed_migrations};
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");
    ///
    /// # fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = leadpool_diesel::blocking::Pool::connect("postgres://app@db1,db2,db3/shop")?;
    /// for version in pool.run_migrations(MIGRATIONS)? {
    ///     println!("applied {version}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_migrations(
        &self,
        source: impl MigrationSource<Pg>,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrationError> {
        self.run_migrations_within(source, DEADLINE)
    }

    /// As [`run_migrations`](Self::run_migrations), with a limit of its own for everything: waiting
    /// for writers (each time the connection timeout at most), for the lock, and the migrations
    /// themselves, as far as what is in flight [can be ended](super).
    ///
    /// # Errors
    ///
    /// As [`run_migrations`](Self::run_migrations).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(pool: leadpool_diesel::blocking::Pool) {
    /// use std::time::Duration;
    /// use leadpool_diesel::{
    ///     diesel_migrations::{self, EmbeddedMigrations, embed_migrations},
    ///     migrations::MigrationError,
    /// };
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");
    ///
    /// match pool.run_migrations_within(MIGRATIONS, Duration::from_secs(300)) {
    ///     Ok(versions) => println!("{} applied", versions.len()),
    ///     Err(MigrationError::Deadline(what)) => eprintln!("come again: {what}"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn run_migrations_within(
        &self,
        source: impl MigrationSource<Pg>,
        limit: Duration,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrationError> {
        let Ok(runtime) = self.shared.runtime() else {
            return Err(MigrationError::Pool(leadpool::Error::Closed));
        };
        let (jobs, inbox) = mpsc::channel::<Job>();
        let driven = drive(
            Here {
                inner: self.shared.inner.clone(),
                caller: jobs,
            },
            limit,
        );
        let ended = runtime.begin(driven.instrument(Span::current()));
        // Until that has come to its end.
        while let Ok(mut job) = inbox.recv() {
            let conn = &mut job.conn;
            let ended = conn.named(|conn: &mut PooledConnection<M>| job.work.run(conn, &source));
            if let Some(ended) = ended {
                job.fuse.take_out();
                ended.part(job.conn, PooledConnection::close);
            }
        }
        ended().unwrap_or(Err(MigrationError::Pool(leadpool::Error::Closed)))
    }
}

impl InteractPool {
    /// Runs the migrations that the writer does not have yet: as [`Pool::run_migrations`], in a
    /// thread of Tokio's, on a [`PgConnection`](diesel::PgConnection).
    ///
    /// # Errors
    ///
    /// See [`MigrationError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future shuts down the connection, as far as that [can be had](super). The
    /// server notices within a second (before PostgreSQL 14: at the end of the statement), ends
    /// what runs there and rolls it back; a migration without a transaction is unknown then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use leadpool_diesel::{
    ///     blocking::InteractPool,
    ///     diesel_migrations::{self, EmbeddedMigrations, embed_migrations},
    /// };
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");
    ///
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = InteractPool::connect("postgres://app@db1,db2,db3/shop").await?;
    /// pool.run_migrations(MIGRATIONS).await?;
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

    /// As [`run_migrations`](Self::run_migrations), with a limit of its own for everything: as
    /// [`Pool::run_migrations_within`].
    ///
    /// # Errors
    ///
    /// As [`run_migrations`](Self::run_migrations).
    ///
    /// # Cancel safety
    ///
    /// As [`run_migrations`](Self::run_migrations).
    pub async fn run_migrations_within<S>(
        &self,
        source: S,
        limit: Duration,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrationError>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        let threads = Threads {
            inner: self.inner.clone(),
            source: Arc::new(Mutex::new(source)),
        };
        drive(threads, limit).await
    }
}

impl Inner {
    /// A connection to the writer, and the generation that it belongs to.
    async fn writer(&self) -> Result<(PooledConnection, Arc<Generation>), leadpool::Error> {
        let hand_out = |object, generation: &Arc<Generation>| {
            let conn = PooledConnection::new(object, false);
            (conn, generation.clone())
        };
        let got = self
            .sub_pools
            .checkout(Purpose::New, Target::Primary, self.timeout, hand_out);
        got.await
    }
}

/// The thread that called.
struct Here {
    inner: Arc<Inner>,
    caller: mpsc::Sender<Job>,
}

struct Job {
    conn: PooledConnection,
    work: Work,
    fuse: Fuse,
}

impl Site for Here {
    type Conn = PooledConnection;
    type Hold = Kill;

    async fn checkout(&self) -> Result<(PooledConnection, Arc<Generation>), leadpool::Error> {
        self.inner.writer().await
    }

    fn begin(&self, conn: PooledConnection, work: Work) -> Kill {
        let kill = Kill::new(conn.socket());
        let fuse = kill.fuse();
        // Or its thread panics.
        drop(self.caller.send(Job { conn, work, fuse }));
        kill
    }

    fn budget(&self) -> &Budget {
        self.inner.transactions.budget()
    }
}

/// Tokio's threads for what blocks. The migrations are locked while they run, so that a repetition
/// waits for the end of an attempt that was given up.
struct Threads<S> {
    inner: Arc<Inner>,
    source: Arc<Mutex<S>>,
}

impl<S> Site for Threads<S>
where
    S: MigrationSource<Pg> + Send + 'static,
{
    type Conn = PooledConnection;
    type Hold = Kill;

    async fn checkout(&self) -> Result<(PooledConnection, Arc<Generation>), leadpool::Error> {
        self.inner.writer().await
    }

    fn begin(&self, mut conn: PooledConnection, work: Work) -> Kill {
        let kill = Kill::new(conn.socket());
        let fuse = kill.fuse();
        let source = self.source.clone();
        // It ends with the connection.
        drop(spawn_blocking(move || {
            let ended = work.run(&mut *conn, &*lock(&source));
            if let Some(ended) = ended {
                fuse.take_out();
                ended.part(conn, PooledConnection::close);
            }
        }));
        kill
    }

    fn budget(&self) -> &Budget {
        self.inner.transactions.budget()
    }
}
