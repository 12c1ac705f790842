//! Hosts found by asking others: the managers of real clusters (pg_auto_failover, repmgr), and a
//! name server.
//!
//! Where one of them is missing, its tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auto_failover;
#[cfg(feature = "dns")]
mod dns;
mod repmgr;

use std::{net::SocketAddr, time::Duration};

use leadpool::{HostAddr, Pool, topology::Topology};

/// As they come: often enough for a test.
pub(crate) const OFTEN: Duration = Duration::from_millis(200);

pub(crate) fn host(addr: SocketAddr) -> HostAddr {
    HostAddr::new(addr.ip().to_string(), addr.port())
}

/// Fails a test that hangs, with a name for what hung.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 60 s"),
    }
}

/// Waits until the monitor's picture shows something.
pub(crate) async fn seen(pool: &Pool, what: &str, found: impl Fn(&Topology) -> bool) {
    let cluster = pool.cluster();
    let waiting = async {
        while !found(&cluster.topology()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .is_err()
    {
        panic!("{what}: {:#?}", cluster.topology());
    }
}

/// Writes through the pool, and tells where.
pub(crate) async fn write(pool: &Pool) -> HostAddr {
    let written = pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO ledger DEFAULT VALUES", &[]).await?;
        let sql = "SELECT host(inet_server_addr()), inet_server_port()";
        let row = tx.query_one(sql, &[]).await?;
        let port = u16::try_from(row.get::<_, i32>(1)).unwrap_or_default();
        Ok(HostAddr::new(row.get::<_, String>(0), port))
    });
    soon("a write", written).await.unwrap()
}
