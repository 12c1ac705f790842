//! Sources of hosts that change their mind, exaggerate, fail and panic.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use leadpool::{
    HostAddr, Pool,
    discovery::{Discovering, Discovery, View},
};
use leadpool_testkit::Cluster as Servers;

use crate::{capture::Capture, support::*};

/// A source that the test changes.
#[derive(Clone, Debug, Default)]
struct Told {
    hosts: Arc<Mutex<Vec<HostAddr>>>,
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Discovery for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async {
            assert!(!self.panics.swap(false, Ordering::Relaxed), "on purpose");
            if self.fails.load(Ordering::Relaxed) {
                return Err("out of order".into());
            }
            Ok(self.hosts.lock().unwrap().iter().cloned().collect())
        })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }
}

fn host(servers: &Servers, at: usize) -> HostAddr {
    let addr = servers.addr(at).unwrap();
    HostAddr::new(addr.ip().to_string(), addr.port())
}

async fn event(seen: &Capture, name: &str) {
    let labels = [("pool", "sources"), ("event", name)];
    soon(name, async {
        while seen.value("leadpool_events_total", &labels) == 0.0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) async fn play(seen: &Capture) {
    let servers = Servers::start().await.unwrap();
    let foreign = Servers::builder()
        .standbys(0)
        .fresh_initdb(true)
        .start()
        .await
        .unwrap();
    let told = Told::default();
    let tell = |hosts: &[HostAddr]| *told.hosts.lock().unwrap() = hosts.to_vec();
    let (one, two, three) = (host(&servers, 0), host(&servers, 1), host(&servers, 2));
    tell(&[one.clone(), two.clone()]);
    let url = format!("{}?application_name=sources", servers.url());
    let pool = Pool::builder(&url)
        .discovery(told.clone())
        .configure(|config| config.allowed_hosts(&host(&foreign, 0).to_string()))
        .build()
        .await
        .unwrap();
    assert_eq!(pool.status().pool, "sources", "named by application_name");
    event(seen, "host_removed").await;
    tell(&[one.clone(), two.clone(), three.clone()]);
    event(seen, "host_added").await;
    tell(&[one.clone(), two.clone(), HostAddr::new("192.0.2.1", 5432)]);
    event(seen, "host_not_allowed").await;
    tell(&[two.clone(), three]);
    event(seen, "discovery_contradicted").await;
    tell(&[one, two, host(&foreign, 0)]);
    event(seen, "foreign_host").await;
    told.fails.store(true, Ordering::Relaxed);
    event(seen, "discovery_failed").await;
    let failed = [("pool", "sources"), ("outcome", "failed")];
    assert!(seen.value("leadpool_discoveries_total", &failed) > 0.0);
    told.panics.store(true, Ordering::Relaxed);
    event(seen, "task_restarted").await;
    #[cfg(feature = "patroni")]
    a_callback_that_panics(seen).await;
}

#[cfg(feature = "patroni")]
async fn a_callback_that_panics(seen: &Capture) {
    use leadpool::discovery::patroni::PatroniCallback;
    use tokio::io::AsyncWriteExt as _;

    let callbacks = PatroniCallback::bind("127.0.0.1:0").await.unwrap();
    let addr = callbacks.local_addr();
    let _guard = callbacks.run(|| panic!("on purpose"));
    let body = "on_role_change primary batman";
    let length = body.len();
    let call = format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(call.as_bytes()).await.unwrap();
    soon("the panic", async {
        while !seen
            .lines()
            .iter()
            .any(|line| line.name == "leadpool.callback_panicked")
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
