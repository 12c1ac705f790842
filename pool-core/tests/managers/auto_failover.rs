//! pg_auto_failover: its monitor says who is there.

use leadpool::{Pool, discovery::AutoFailover as Source};
use leadpool_testkit::AutoFailover;

use crate::{OFTEN, host, seen, write};

#[tokio::test]
async fn its_hosts_are_found_and_its_failovers_followed() {
    if let Err(missing) = AutoFailover::available() {
        eprintln!("skipped: {missing}");
        return;
    }
    let servers = AutoFailover::builder().hosts(2).start().await.unwrap();
    let primary = servers.primary().await.unwrap();
    let client = servers.connect(primary).await.unwrap();
    client
        .batch_execute("CREATE TABLE ledger (at timestamptz DEFAULT now())")
        .await
        .unwrap();
    let url = servers.url();
    let user = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@'));
    let user = user.map_or("postgres", |(user, _)| user);
    let pool = Pool::builder(&format!("postgres://{user}@/postgres"))
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .discovery(Source::new(&servers.monitor_url()).unwrap())
        .build()
        .await
        .unwrap();
    seen(&pool, "the standby", |topology| {
        topology.hosts().len() == 2 && topology.hosts().iter().any(|host| host.is_reader())
    })
    .await;
    assert_eq!(write(&pool).await, host(servers.addr(primary).unwrap()));

    let promoted = servers.switchover().await.unwrap();
    assert_eq!(write(&pool).await, host(servers.addr(promoted).unwrap()));

    // Without its monitor nothing is lost but the news.
    servers.kill_monitor().await.unwrap();
    assert_eq!(write(&pool).await, host(servers.addr(promoted).unwrap()));
    servers.start_monitor().await.unwrap();

    servers.wait_stable().await.unwrap();
    let promoted = servers.failover().await.unwrap();
    assert_eq!(write(&pool).await, host(servers.addr(promoted).unwrap()));
}
