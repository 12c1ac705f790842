//! A real `sqlx::PgPool` that follows the writer.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use leadpool::{
    Target,
    adapter::{Generation, Login, SubPools},
    failover::Report,
};
use sqlx::{
    Executor as _, PgConnection, PgPool, Row as _, pool::PoolConnectionMetadata,
    postgres::PgConnectOptions,
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    PgPoolOptions, driver::Sqlx, login::connect_options, recycle::before_acquire, sockets::Sockets,
};

/// The start of a server tells it from the one that led before.
const FIRST_QUESTION: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS recovering, pg_catalog.inet_client_port() AS port, \
       (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at";

/// How often the provider of credentials is asked.
const REFRESH: Duration = Duration::from_secs(30);

/// The pool, and the task that leads it to each new writer.
pub(crate) struct Follow {
    pool: PgPool,
    task: JoinHandle<()>,
}

impl Follow {
    pub(crate) fn new(pools: &Arc<SubPools<Sqlx>>, options: &PgPoolOptions) -> Self {
        let pool = pool(pools, options);
        let outside = pool.clone();
        pools.set_outside(move || outside.num_idle() < outside.size() as usize);
        let following = follow(pools.clone(), pool.clone(), options.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by `Follow`, which aborts it"
        )]
        let task = tokio::spawn(following);
        Self { pool, task }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn close(&self) {
        // Marks it closed; awaited it would wait for what is checked out.
        drop(self.pool.close());
        self.task.abort();
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.close();
    }
}

/// Leads the pool to each new writer.
async fn follow(pools: Arc<SubPools<Sqlx>>, pool: PgPool, options: PgPoolOptions) {
    loop {
        let generation = pools.wait_for_generation(Target::Primary).await;
        let (config, host) = (generation.config(), generation.host());
        loop {
            match Login::ask(config, host, None).await {
                Ok(login) => {
                    pool.set_connect_options(connect_options(&options, config, host, &login));
                }
                Err(error) => {
                    tracing::warn!(target: "leadpool::credentials", %host, %error, "not asked");
                }
            }
            // sqlx opens connections without asking anybody.
            if timeout(REFRESH, generation.retired()).await.is_ok() {
                break;
            }
        }
    }
}

/// Makes the pool. Connections of a former writer are closed when they are about to be handed out
/// again, or come back.
fn pool(pools: &Arc<SubPools<Sqlx>>, options: &PgPoolOptions) -> PgPool {
    let cluster = pools.cluster();
    // Until it is known who is the writer, and how to log in: nobody listens there, and sqlx tries
    // again.
    let connect = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(1);
    let looking = Arc::new(Looking {
        pools: Arc::downgrade(pools),
        charge: Mutex::new(None),
    });
    let (before, after) = (looking.clone(), looking.clone());
    let theirs = options.after_connect.clone();
    let theirs_before = before_acquire(options, cluster.config());
    let theirs_after = options.after_release.clone();
    options
        .sqlx
        .clone()
        .after_connect(move |conn, meta| {
            let (looking, theirs) = (looking.clone(), theirs.clone());
            Box::pin(async move {
                looking.look(conn).await?;
                match theirs {
                    Some(theirs) => theirs(conn, meta).await,
                    None => Ok(()),
                }
            })
        })
        .before_acquire(move |conn, meta| {
            // A new one waits for the end of a pause.
            let is_of_now = before.is_of_this_writer(&meta) && !before.is_paused();
            let theirs = theirs_before.clone();
            Box::pin(async move {
                match theirs {
                    Some(theirs) if is_of_now => theirs(conn, meta).await,
                    _ => Ok(is_of_now),
                }
            })
        })
        .after_release(move |conn, meta| {
            let is_of_now = after.is_of_this_writer(&meta);
            let theirs = theirs_after.clone();
            Box::pin(async move {
                match theirs {
                    Some(theirs) if is_of_now => theirs(conn, meta).await,
                    _ => Ok(is_of_now),
                }
            })
        })
        .connect_lazy_with(connect)
}

/// What the hooks look with.
struct Looking {
    /// The hooks must not keep alive what keeps them.
    pools: Weak<SubPools<Sqlx>>,
    /// The sockets to the writer of now.
    charge: Mutex<Option<(Weak<Generation>, Arc<Sockets>)>>,
}

impl Looking {
    /// A connection to anybody but the writer of now is refused. sqlx then tries again.
    async fn look(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let pools = self.pools.upgrade().ok_or(sqlx::Error::PoolClosed)?;
        let row = conn.fetch_one(FIRST_QUESTION).await?;
        let generation = pools.wait_for_generation(Target::Primary).await;
        let host = generation.host();
        let started_at: i64 = row.try_get("started_at")?;
        if generation
            .started_at()
            .is_some_and(|known| known != started_at)
        {
            return Err(sqlx::Error::Protocol(format!(
                "this is not {host}, which is the writer now"
            )));
        }
        if row.try_get("recovering")? {
            generation.report(Report::RoleChanged);
            return Err(sqlx::Error::Protocol(format!("{host} is in recovery")));
        }
        let port: Option<i32> = row.try_get("port")?;
        if let (Some(sockets), Some(Ok(port))) =
            (self.charge(&pools, &generation), port.map(u16::try_from))
        {
            sockets.take_charge(port).await;
        }
        Ok(())
    }

    fn charge(&self, pools: &SubPools<Sqlx>, generation: &Arc<Generation>) -> Option<Arc<Sockets>> {
        let switch = pools.driver().switch.as_ref()?;
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        match &*charge {
            Some((of, sockets)) if of.as_ptr() == Arc::as_ptr(generation) => Some(sockets.clone()),
            _ => {
                let sockets = switch.sockets(generation);
                *charge = Some((Arc::downgrade(generation), sockets.clone()));
                Some(sockets)
            }
        }
    }

    fn is_paused(&self) -> bool {
        let pools = self.pools.upgrade();
        pools.is_some_and(|pools| pools.is_paused())
    }

    fn is_of_this_writer(&self, meta: &PoolConnectionMetadata) -> bool {
        let pools = self.pools.upgrade();
        let created = Instant::now().checked_sub(meta.age);
        match (pools, created) {
            (Some(pools), Some(created)) => pools.is_of_this_writer(created),
            _ => false,
        }
    }
}
