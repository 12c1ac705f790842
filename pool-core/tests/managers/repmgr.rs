//! repmgr: its table says who is there.

use leadpool::{HostAddr, Pool, discovery::Repmgr as Source};
use leadpool_testkit::Repmgr;

use crate::{OFTEN, host, seen, write};

#[tokio::test]
async fn its_hosts_are_found_and_its_failovers_followed() {
    if let Err(missing) = Repmgr::available() {
        eprintln!("skipped: {missing}");
        return;
    }
    let servers = Repmgr::start().await.unwrap();
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute("CREATE TABLE ledger (at timestamptz DEFAULT now())")
        .await
        .unwrap();
    // One host of all, and nothing is said of repmgr.
    let all = leadpool::Config::from_url(&servers.repmgr_url()).unwrap();
    let known: &HostAddr = &all.hosts()[1];
    let url = format!("postgres://repmgr@{known}/repmgr");
    let pool = Pool::builder(&url)
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .build()
        .await
        .unwrap();
    let readers = |count: usize| {
        move |topology: &leadpool::topology::Topology| {
            topology
                .hosts()
                .iter()
                .filter(|host| host.is_reader())
                .count()
                == count
        }
    };
    seen(&pool, "both standbys", readers(2)).await;
    assert_eq!(write(&pool).await, host(servers.addr(0).unwrap()));

    let promoted = servers.failover().await.unwrap();
    assert_eq!(write(&pool).await, host(servers.addr(promoted).unwrap()));
    // The table calls the lost one inactive.
    let lost = host(servers.addr(0).unwrap());
    seen(&pool, "the departure of the lost one", |topology| {
        topology.host(&lost).is_none()
    })
    .await;
    servers.rejoin(0).await.unwrap();
    seen(&pool, "its return as a reader", readers(2)).await;

    let leaves = 3 - promoted;
    servers.unregister_standby(leaves).await.unwrap();
    seen(&pool, "the departure of the other", readers(1)).await;
    servers.register_standby(leaves).await.unwrap();
    seen(&pool, "its return", readers(2)).await;

    // Said in so many words, it is the same.
    let told = Pool::builder(&url)
        .configure(|config| config.allowed_hosts("127.0.0.0/8"))
        .discovery(Source::new())
        .build()
        .await
        .unwrap();
    seen(&told, "all hosts", readers(2)).await;
}
