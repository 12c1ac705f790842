//! The pool on clusters that Patroni keeps: the real thing, with etcd.
//!
//! Where Patroni or etcd is missing, each test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod failover;
mod hosts;
mod writers;

use std::{sync::Arc, time::Duration};

use leadpool::{Event, Events, Pool, discovery::patroni::Patroni};
use leadpool_testkit::{PatroniBuilder, PatroniCluster};
use tokio::sync::{Mutex, MutexGuard};

/// One cluster at a time: three Patronis with short timeouts need the machine for themselves.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A cluster, for as long as the test runs.
pub(crate) struct Stage {
    pub(crate) servers: Arc<PatroniCluster>,
    _alone: MutexGuard<'static, ()>,
}

/// `None`, with the reason, where it can't run.
pub(crate) async fn stage(change: impl FnOnce(PatroniBuilder) -> PatroniBuilder) -> Option<Stage> {
    if let Err(missing) = PatroniCluster::available() {
        eprintln!("skipped: {missing}");
        return None;
    }
    let alone = ALONE.lock().await;
    let servers = change(PatroniCluster::builder()).start().await.unwrap();
    let leader = servers.leader().await.unwrap();
    let client = servers.connect(leader).await.unwrap();
    client
        .batch_execute("CREATE TABLE ledger (id bigint PRIMARY KEY, timeline int)")
        .await
        .unwrap();
    Some(Stage {
        servers: Arc::new(servers),
        _alone: alone,
    })
}

impl Stage {
    /// A pool that knows nothing but where Patroni answers.
    pub(crate) async fn pool(&self) -> Pool {
        let mut patroni = Patroni::new(self.servers.rest_urls()).unwrap();
        if let Some(ca) = self.servers.rest_ca_pem() {
            patroni = patroni.ca_certificate(ca).unwrap();
        }
        let pool = Pool::builder("postgres://postgres@/postgres")
            .configure(|config| config.allowed_hosts("127.0.0.0/8, 198.18.0.0/15"))
            .discovery(patroni)
            .build()
            .await
            .unwrap();
        soon("all hosts", async {
            while pool.cluster().topology().hosts().len() < self.servers.hosts() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        pool
    }

    pub(crate) fn host(&self, at: usize) -> leadpool::HostAddr {
        let addr = self.servers.addr(at).unwrap();
        leadpool::HostAddr::new(addr.ip().to_string(), addr.port())
    }
}

/// Fails a test that hangs, with a name for what hung.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 60 s"),
    }
}

/// Waits for an event.
pub(crate) async fn until(
    events: &mut Events,
    what: &str,
    found: impl Fn(&Event) -> bool,
) -> Event {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the monitor lives");
            if found(&event) {
                return event;
            }
        }
    })
    .await
}
