//! A `sqlx::PgPool` for each host, behind leadpool's seam.

use std::{
    future::poll_fn,
    io, iter,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use leadpool::{
    Config, PoolCounts,
    adapter::{Driver, Generation, GetError, Login, Stamp},
    credentials::CredentialError,
    error::{Disposition, TxPhase},
    failover::Report,
};
use sqlx::{
    Executor as _, PgConnection, PgPool, Postgres, Row as _, pool::PoolConnection,
    postgres::PgPoolOptions as SqlxOptions,
};
use tokio::{
    sync::{Notify, SemaphorePermit},
    time::timeout,
};

use crate::{
    PgPoolOptions,
    error::disposition,
    login::{connect_options, is_refused_login},
    recycle::before_acquire,
    sockets::{Sockets, Switch},
};

/// Asked once for each connection, in one round trip and without leaving a statement behind. The
/// port is that of the socket on this side, unless something in between has changed it.
const FIRST_QUESTION: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS recovering, pg_catalog.inet_client_port() AS port";

/// How often who waits to open a connection looks whether one has come back.
const GLANCE: Duration = Duration::from_millis(5);

/// sqlx, one pool a host.
pub(crate) struct Sqlx {
    options: PgPoolOptions,
    pub(crate) switch: Option<Switch>,
    /// Those that it has opened. Whoever keeps one keeps its generation from ending.
    opened: Mutex<Vec<Weak<HostPool>>>,
}

impl Sqlx {
    pub(crate) fn new(options: PgPoolOptions, switch: Option<Switch>) -> Self {
        Self {
            options,
            switch,
            opened: Mutex::default(),
        }
    }

    /// A connection of this generation was found to be lost: likely not the only one, and nothing
    /// tells sqlx of those that are idle. So they are tested, in the background.
    pub(crate) fn test_idle(&self, generation: &Arc<Generation>) {
        let of_it = |pool: &Arc<HostPool>| Arc::ptr_eq(&pool.generation, generation);
        let pool = self
            .lock_opened()
            .iter()
            .filter_map(Weak::upgrade)
            .find(of_it);
        if let Some(pool) = pool {
            // sqlx asks each that comes back whether it lives, and closes it if not.
            drop(take_idle(&pool.pool));
        }
    }

    fn lock_opened(&self) -> std::sync::MutexGuard<'_, Vec<Weak<HostPool>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that are idle.
fn take_idle(pool: &PgPool) -> Vec<PoolConnection<Postgres>> {
    let most = pool.options().get_max_connections() as usize;
    iter::from_fn(|| pool.try_acquire()).take(most).collect()
}

/// The pool of one host.
pub(crate) struct HostPool {
    pool: PgPool,
    generation: Arc<Generation>,
    refusals: Arc<Refusals>,
    checks_idle: bool,
    options: PgPoolOptions,
    /// Where those stand who are about to queue up in sqlx's pool.
    front: tokio::sync::Mutex<()>,
    /// How many wait, without a connection being opened for them.
    waiting: AtomicUsize,
    /// What connections are opened with.
    login: Mutex<Option<Login>>,
}

impl HostPool {
    /// Waits for sqlx to give a connection; but no longer than the generation lasts, and not for
    /// another one if the first was refused.
    async fn while_open(
        &self,
        getting: impl Future<Output = Result<PoolConnection<Postgres>, sqlx::Error>>,
    ) -> Result<PoolConnection<Postgres>, GetError<sqlx::Error>> {
        let got = tokio::select! {
            biased;
            () = self.generation.retired() => return Err(GetError::Closed),
            () = self.refusals.refused.notified() => Err(self.refusals.take()),
            got = getting => got,
        };
        got.map_err(|error| match error {
            sqlx::Error::PoolClosed => GetError::Closed,
            error => GetError::Connect(error),
        })
    }
}

impl HostPool {
    /// Admits a connection to be opened, and asks how to log in (`asks`), unless sqlx is going to
    /// give or to wait for one that is open: then `None`.
    async fn admission(&self, asks: bool) -> Result<Option<SemaphorePermit<'_>>, sqlx::Error> {
        let is_open = || {
            self.pool.num_idle() > 0
                || self.pool.size() >= self.pool.options().get_max_connections()
        };
        if is_open() {
            return Ok(None);
        }
        let mut preparing = pin!(async {
            let admitted = self.generation.admission().await;
            if asks {
                self.log_in().await?;
            }
            Ok(Some(admitted))
        });
        loop {
            // sqlx tells nobody of a connection that comes back.
            match timeout(GLANCE, preparing.as_mut()).await {
                Ok(prepared) => return prepared,
                Err(_) if is_open() => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// Asks for the credentials of the next connection.
    async fn log_in(&self) -> Result<(), sqlx::Error> {
        let asked = Login::ask(self.generation.config(), self.generation.host(), None);
        self.set_login(asked.await.map_err(into_configuration)?);
        Ok(())
    }

    /// The host has refused those of the last one: asks for others, and says whether there are any.
    async fn log_in_otherwise(&self) -> Result<bool, sqlx::Error> {
        let (config, host) = (self.generation.config(), self.generation.host());
        let rejected = self.lock_login().clone();
        let Some(rejected) = rejected.filter(Login::is_provided) else {
            return Ok(false);
        };
        let asked = Login::ask(config, host, Some(&rejected)).await;
        let other = asked.map_err(into_configuration)?;
        let is_other = other != rejected;
        self.set_login(other);
        Ok(is_other)
    }

    fn set_login(&self, login: Login) {
        let mut last = self.lock_login();
        if last.as_ref() != Some(&login) {
            let (config, host) = (self.generation.config(), self.generation.host());
            let connect = connect_options(&self.options, config, host, &login);
            self.pool.set_connect_options(connect);
            *last = Some(login);
        }
    }

    fn lock_login(&self) -> std::sync::MutexGuard<'_, Option<Login>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn into_configuration(error: CredentialError) -> sqlx::Error {
    sqlx::Error::Configuration(Box::new(error))
}

/// One of those who are counted.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections that were opened and refused, told to those who wait for one: sqlx would go on
/// trying.
#[derive(Default)]
struct Refusals {
    refused: Notify,
    why: Mutex<Option<String>>,
}

impl Driver for Sqlx {
    type Pool = Arc<HostPool>;
    type Conn = PoolConnection<Postgres>;
    type Error = sqlx::Error;

    fn open(&self, generation: &Arc<Generation>, _: usize) -> Arc<HostPool> {
        let refusals = Arc::new(Refusals::default());
        let sockets = self
            .switch
            .as_ref()
            .map(|switch| switch.sockets(generation));
        let checked = Checked {
            generation: generation.clone(),
            refusals: refusals.clone(),
            sockets,
        };
        let (config, host) = (generation.config(), generation.host());
        let pool = self
            .pool_options(checked, config)
            .connect_lazy_with(connect_options(
                &self.options,
                config,
                host,
                &Login::configured(config, host),
            ));
        let pool = Arc::new(HostPool {
            pool,
            options: self.options.clone(),
            front: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            login: Mutex::default(),
            generation: generation.clone(),
            refusals,
            checks_idle: self.options.checks_idle(),
        });
        let mut opened = self.lock_opened();
        opened.retain(|pool| pool.strong_count() > 0);
        opened.push(Arc::downgrade(&pool));
        drop(opened);
        pool
    }

    fn try_get(pool: &Arc<HostPool>) -> Option<PoolConnection<Postgres>> {
        // sqlx checks nothing here.
        if pool.checks_idle {
            return None;
        }
        pool.pool.try_acquire()
    }

    async fn get(pool: &Arc<HostPool>) -> Result<PoolConnection<Postgres>, GetError<sqlx::Error>> {
        let waiting = Waiting::new(&pool.waiting);
        pool.while_open(async {
            let mut waiting = Some(waiting);
            let mut is_asked = false;
            loop {
                let got = {
                    // So that those behind don't overtake while credentials are asked for.
                    let front = pool.front.lock().await;
                    let _admitted = pool.admission(!is_asked).await?;
                    if _admitted.is_some() {
                        drop(waiting.take());
                    }
                    let mut acquiring = pin!(pool.pool.acquire());
                    let first = poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx))).await;
                    drop(front);
                    match first {
                        Poll::Ready(got) => got,
                        Poll::Pending => acquiring.await,
                    }
                };
                match got {
                    // The deadline is the caller's, and may be a later one.
                    Err(sqlx::Error::PoolTimedOut) => {}
                    Err(error) if !is_asked && is_refused_login(&error) => {
                        is_asked = true;
                        if !pool.log_in_otherwise().await? {
                            return Err(error);
                        }
                    }
                    got => return got,
                }
            }
        })
        .await
    }

    async fn add(pool: &Arc<HostPool>) -> Result<(), GetError<sqlx::Error>> {
        let adding = async {
            let _admitted = pool.generation.admission().await;
            pool.log_in().await?;
            let mut acquiring = pin!(pool.pool.acquire());
            let first = {
                // What is idle is held for the blink of an eye, so that sqlx opens another.
                let idle = take_idle(&pool.pool);
                let first = poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx))).await;
                drop(idle);
                first
            };
            match first {
                Poll::Ready(got) => got,
                Poll::Pending => acquiring.await,
            }
        };
        pool.while_open(adding).await.map(drop)
    }

    fn close(pool: &Arc<HostPool>) {
        // What is idle goes now: closing alone would keep it while something is checked out.
        while let Some(conn) = pool.pool.try_acquire() {
            drop(conn.detach());
        }
        // Marks it closed and wakes the waiters; awaited it would wait for what is checked out.
        drop(pool.pool.close());
    }

    fn discard(conn: PoolConnection<Postgres>) {
        drop(conn.detach());
    }

    /// sqlx can't: all sub-pools have one size.
    fn grow(_: &Arc<HostPool>, _: usize) {}

    /// sqlx ends lives by itself.
    fn stamp(_: &PoolConnection<Postgres>) -> Option<Stamp> {
        None
    }

    /// sqlx ends lives by itself.
    fn retain(_: &Arc<HostPool>, _: &mut dyn FnMut(Stamp) -> bool) {}

    fn counts(pool: &Arc<HostPool>) -> PoolCounts {
        let mut counts = PoolCounts::default();
        counts.max_size = pool.pool.options().get_max_connections() as usize;
        counts.size = pool.pool.size() as usize;
        counts.idle = pool.pool.num_idle().min(counts.size);
        counts.waiting = pool.waiting.load(Ordering::Relaxed);
        counts
    }

    fn is_curable(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(_) => disposition(error, TxPhase::NotSent) != Disposition::Fail,
            sqlx::Error::Configuration(source) => source
                .downcast_ref::<CredentialError>()
                .is_some_and(|error| !error.is_permanent()),
            sqlx::Error::Tls(_) => false,
            // What rustls says of a handshake.
            sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            _ => true,
        }
    }
}

impl Sqlx {
    /// sqlx's options, with our own look at each new connection before the application's.
    fn pool_options(&self, checked: Checked, config: &Config) -> SqlxOptions {
        let checked = Arc::new(checked);
        let theirs = self.options.after_connect.clone();
        // leadpool keeps up the least number.
        let mut options = self.options.sqlx.clone().min_connections(0);
        if let Some(before) = before_acquire(&self.options, config) {
            options = options.before_acquire(move |conn, meta| before(conn, meta));
        }
        if let Some(theirs) = self.options.after_release.clone() {
            options = options.after_release(move |conn, meta| theirs(conn, meta));
        }
        options.after_connect(move |conn, meta| {
            let (checked, theirs) = (checked.clone(), theirs.clone());
            Box::pin(async move {
                checked.look(conn).await?;
                match theirs {
                    Some(theirs) => theirs(conn, meta).await,
                    None => Ok(()),
                }
            })
        })
    }
}

/// What a new connection is looked at with. It also keeps the generation for as long as one of its
/// connections is open.
struct Checked {
    generation: Arc<Generation>,
    refusals: Arc<Refusals>,
    sockets: Option<Arc<Sockets>>,
}

impl Checked {
    /// A standby where the writer should be is refused, before anybody gets the connection.
    async fn look(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let generation = &self.generation;
        let row = conn.fetch_one(FIRST_QUESTION).await?;
        match (row.try_get("recovering")?, generation.is_writer()) {
            (true, true) => {
                generation.report(Report::RoleChanged);
                return Err(self.refuse("is in recovery"));
            }
            // A standby that was promoted a moment ago: good to know early.
            (false, false) => generation.report(Report::RoleChanged),
            _ => {}
        }
        generation.heard();
        generation.note_opened();
        if generation.is_retired() {
            return Err(self.refuse("was invalidated while connecting"));
        }
        let port: Option<i32> = row.try_get("port")?;
        if let (Some(sockets), Some(Ok(port))) = (&self.sockets, port.map(u16::try_from)) {
            sockets.take_charge(port).await;
        }
        Ok(())
    }

    fn refuse(&self, why: &str) -> sqlx::Error {
        let why = format!("{} {why}", self.generation.host());
        self.generation.note_failure(why.clone());
        *self.refusals.lock() = Some(why.clone());
        self.refusals.refused.notify_waiters();
        sqlx::Error::Protocol(why)
    }
}

impl Refusals {
    fn take(&self) -> sqlx::Error {
        let why = self.lock().clone();
        sqlx::Error::Protocol(why.unwrap_or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
