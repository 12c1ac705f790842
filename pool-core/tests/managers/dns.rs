//! DNS: its records say who is there.

use leadpool::{Pool, discovery::dns::Dns};
use leadpool_testkit::{Cluster, NameServer};

use crate::{OFTEN, seen, write};

const NAME: &str = "_postgresql._tcp.pg.test";

async fn publish(names: &NameServer, servers: &Cluster, hosts: &[usize]) {
    let services: Vec<(&str, u16, u16, u16)> = hosts
        .iter()
        .map(|host| ("localhost", servers.addr(*host).unwrap().port(), 0, 0))
        .collect();
    names.set_srv(NAME, &services).await.unwrap();
}

#[tokio::test]
async fn the_hosts_of_its_records_are_followed() {
    if let Err(missing) = NameServer::available() {
        eprintln!("skipped: {missing}");
        return;
    }
    let names = NameServer::start().await.unwrap();
    let servers = Cluster::start().await.unwrap();
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute("CREATE TABLE ledger (at timestamptz DEFAULT now())")
        .await
        .unwrap();
    publish(&names, &servers, &[0, 1]).await;
    let source = Dns::srv(format!("{NAME}."))
        .unwrap()
        .name_server(names.addr())
        .allow_local();
    let pool = Pool::builder("postgres://postgres@/postgres")
        .configure(|config| {
            config
                .allowed_hosts("localhost")
                .discovery_interval(Some(OFTEN))
        })
        .discovery(source)
        .build()
        .await
        .unwrap();
    let port = |host: usize| servers.addr(host).unwrap().port();
    let reads = |host: usize| {
        let port = port(host);
        move |topology: &leadpool::topology::Topology| {
            let mut hosts = topology.hosts().iter();
            hosts.any(|host| host.addr.port() == port && host.is_reader())
        }
    };
    seen(&pool, "the standby", reads(1)).await;
    assert_eq!(write(&pool).await.port(), port(0));
    publish(&names, &servers, &[0, 1, 2]).await;
    seen(&pool, "the new standby", reads(2)).await;
    publish(&names, &servers, &[0, 2]).await;
    seen(&pool, "the departure of the first", |topology| {
        topology.hosts().len() == 2
    })
    .await;
    // Records of nobody are no reason to forget anybody.
    names.set_srv(NAME, &[]).await.unwrap();
    servers.kill(0).await.unwrap();
    servers.promote(2).await.unwrap();
    assert_eq!(write(&pool).await.port(), port(2));
}
