//! Who belongs to the cluster, by Patroni's word.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use leadpool::{Event, Target, discovery::patroni::PatroniCallback};

use crate::{soon, stage, until};

#[tokio::test]
async fn its_members_are_found_over_tls_and_those_that_leave_are_let_go() {
    let Some(stage) = stage(|builder| builder.rest_tls(true)).await else {
        return;
    };
    let pool = stage.pool().await;
    let mut events = pool.cluster().events();
    let leader = stage.servers.leader().await.unwrap();
    assert_eq!(pool.cluster().topology().writer, Some(stage.host(leader)));
    soon("a reader", async {
        drop(pool.get_as(Target::Standby).await.unwrap());
    })
    .await;
    // Patroni forgets who is silent for `ttl`.
    let leaves = (0..stage.servers.hosts()).find(|host| *host != leader);
    let leaves = leaves.unwrap();
    stage.servers.kill_host(leaves).await.unwrap();
    let gone = stage.host(leaves);
    soon("its departure", async {
        loop {
            pool.cluster().probe_now();
            if pool.cluster().topology().host(&gone).is_none() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    stage.servers.start_host(leaves).await.unwrap();
    stage.servers.wait_healthy().await.unwrap();
    pool.cluster().probe_now();
    until(
        &mut events,
        "its return",
        |event| matches!(event, Event::HostAdded { host, .. } if *host == gone),
    )
    .await;
}

#[tokio::test]
async fn its_callbacks_make_the_pool_look() {
    let callback = PatroniCallback::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", callback.local_addr());
    let code = "import sys, urllib.request as r; \
                r.urlopen(sys.argv[1], ' '.join(sys.argv[2:]).encode(), 2)";
    let argv = ["/usr/bin/python3", "-c", code, &url];
    let Some(stage) = stage(|builder| builder.callback(argv)).await else {
        return;
    };
    let pool = stage.pool().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, cluster) = (calls.clone(), pool.cluster().clone());
    let _guard = callback.run(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        cluster.probe_now();
    });
    let leader = stage.servers.leader().await.unwrap();
    let promoted = stage.servers.switchover(None).await.unwrap();
    assert_ne!(promoted, leader);
    soon("a call", async {
        while calls.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(soon("the new writer", pool.get()).await.unwrap());
    assert_eq!(pool.cluster().topology().writer, Some(stage.host(promoted)));
}
