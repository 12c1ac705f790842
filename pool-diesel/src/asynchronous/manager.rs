//! diesel-async's own manager, with connections that follow the writer: for pools of other kinds.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use diesel::{
    ConnectionResult, QueryResult,
    connection::{Instrumentation, InstrumentationEvent},
    result::Error,
};
use diesel_async::{
    AsyncConnection as _,
    pooled_connection::{AsyncDieselConnectionManager, PoolableConnection as _, RecyclingMethod},
};
use leadpool::{
    Cluster, Target,
    adapter::{Stamp, SubPools},
};
use tokio::time::timeout;

use super::{
    AsyncPgConnection, driver,
    driver::DieselAsync,
    follow::connect,
    opening::{refused, take_session},
    recycle::Cleaning,
    sessions::Session,
};

/// Makes it.
pub(super) fn manager(cluster: &Cluster) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    let following = Arc::new(Following {
        pools: SubPools::new(cluster, DieselAsync::default()),
        cleaning: Cleaning::of(cluster.config()),
        open: Mutex::default(),
    });
    let outside = Arc::downgrade(&following);
    following.pools.set_outside(move || {
        let following = outside.upgrade();
        following.is_some_and(|following| !following.lock().is_empty())
    });
    let (opening, checking) = (following.clone(), following);
    let mut config = driver::manager_config();
    config.custom_setup = Box::new(move |_| {
        let following = opening.clone();
        Box::pin(async move { following.open().await })
    });
    config.recycling_method = RecyclingMethod::CustomFunction(Box::new(move |conn| {
        let following = checking.clone();
        Box::pin(async move { following.check(conn).await })
    }));
    driver::manager(config)
}

/// What the connections of one manager have in common.
struct Following {
    pools: Arc<SubPools<DieselAsync>>,
    cleaning: Option<Cleaning>,
    /// The connections that are open. A pool does not say which of them are in use.
    open: Mutex<Vec<Arc<Session>>>,
}

impl Following {
    /// Pools have limits of their own for a checkout, but not all for what they open beside.
    async fn open(&self) -> ConnectionResult<AsyncPgConnection> {
        let limit = self.pools.cluster().config().pool().checkout_timeout;
        match timeout(limit, connect(&self.pools)).await {
            Ok(opened) => opened.map(|opened| self.mark(opened)),
            Err(_) => match self
                .pools
                .cluster()
                .wait_for(Target::Primary, Duration::ZERO)
                .await
            {
                Err(leadpool::Error::NoHost(mut seen)) => {
                    seen.waited = limit;
                    Err(refused(leadpool::Error::NoHost(seen)))
                }
                _ => Err(refused(format!("no connection within {limit:.1?}"))),
            },
        }
    }

    /// Has the connection carry what is known of it.
    fn mark(&self, mut opened: AsyncPgConnection) -> AsyncPgConnection {
        if let Some((session, applications)) = take_session(&mut opened) {
            self.lock().push(session.clone());
            opened.set_instrumentation(Marked {
                session,
                opened: Instant::now(),
                applications,
            });
        }
        opened
    }

    /// A connection is about to be handed out again. What is said to be wrong with it is told to
    /// nobody: the pool closes it and goes on.
    async fn check(&self, conn: &mut AsyncPgConnection) -> QueryResult<()> {
        self.pools.note_outside();
        if let Some(why) = self.refuses(conn) {
            return Err(Error::QueryBuilderError(why.into()));
        }
        match &self.cleaning {
            Some(cleaning) => cleaning.clean(conn).await,
            None => Ok(()),
        }
    }

    fn refuses(&self, conn: &mut AsyncPgConnection) -> Option<&'static str> {
        // Some pools ask that themselves, but when a connection comes back; others take the answer
        // for its contrary.
        if conn.is_broken() {
            return Some("it has ended, or is in a transaction");
        }
        if self.pools.is_paused() {
            // A new one waits for the end of the pause.
            return Some("paused");
        }
        let marked: Option<&mut Marked> = conn.instrumentation().downcast_mut();
        let is_former = match &marked {
            Some(marked) => is_former(&marked.session),
            // The application has set an instrumentation of its own. It is of this writer if all
            // that are left are.
            None => self.lock().iter().any(|session| is_former(session)),
        };
        if is_former {
            return Some("opened under a former writer");
        }
        let stamp = marked.map(|marked| Stamp::new(marked.opened, None));
        stamp
            .is_some_and(|stamp| self.pools.is_too_old(&stamp))
            .then_some("open for too long")
    }

    /// Without those that have ended.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|session| !session.has_ended());
        open
    }
}

fn is_former(session: &Session) -> bool {
    session
        .generation()
        .is_none_or(|generation| generation.is_retired() || !generation.is_writer())
}

/// What a connection is recognised by: there is no other place in it. The application's
/// instrumentation is told everything.
struct Marked {
    session: Arc<Session>,
    opened: Instant,
    applications: Option<Box<dyn Instrumentation>>,
}

impl Instrumentation for Marked {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let Some(applications) = &mut self.applications {
            applications.on_connection_event(event);
        }
    }
}
