//! A real `deadpool_postgres::Pool` that follows the writer.

use std::time::Duration;

use deadpool_postgres::GenericClient;
use leadpool::topology::Phase;

use crate::support::*;

/// Code that knows nothing of leadpool.
async fn third_party(pool: &deadpool_postgres::Pool) -> Result<u16, String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    generic(&client).await.map_err(|error| error.to_string())
}

async fn generic(client: &impl GenericClient) -> Result<u16, tokio_postgres::Error> {
    let sql = "INSERT INTO t (n) VALUES (1) RETURNING inet_server_port()";
    let port: i32 = client.query_one(sql, &[]).await?.get(0);
    Ok(u16::try_from(port).unwrap())
}

#[tokio::test]
async fn it_follows_a_switchover_and_drops_idle_connections() {
    let (servers, pool) = start().await;
    let native = pool.deadpool_pool();
    assert_eq!(
        third_party(&native).await.unwrap(),
        servers.addr(0).unwrap().port()
    );
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(native.get().await.unwrap());
    }
    drop(held);
    servers.switchover(1).await.unwrap();
    servers.heal().await.unwrap();
    soon("the new writer", async {
        let expected = servers.addr(1).unwrap().port();
        while pool
            .cluster()
            .topology()
            .writer
            .as_ref()
            .map(|host| host.port())
            != Some(expected)
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..8 {
        let found = soon("a checkout", third_party(&native)).await.unwrap();
        assert_eq!(found, servers.addr(1).unwrap().port());
    }
}

#[tokio::test]
async fn a_live_connection_to_who_is_no_writer_is_not_handed_out() {
    let (servers, pool) = start().await;
    let native = pool.deadpool_pool();
    servers.promote(1).await.unwrap();
    let promoted = servers.addr(1).unwrap().port();
    soon("a connection to the promoted host", async {
        while third_party(&native).await.ok() != Some(promoted) {}
    })
    .await;
    // The other standby takes the same timeline: nobody is the writer, yet nothing is aborted.
    servers.promote(2).await.unwrap();
    seen(&pool, "the dispute", |topology| {
        topology.phase == Phase::Contested
    })
    .await;
    assert!(native.status().available > 0);
    let waiting = tokio::time::timeout(Duration::from_millis(300), native.get());
    assert!(
        waiting.await.is_err(),
        "a former writer's connection was handed out"
    );
}

#[tokio::test]
async fn its_waiters_park_until_there_is_a_writer() {
    let (servers, pool) = start().await;
    let native = pool.deadpool_pool();
    third_party(&native).await.unwrap();
    servers.kill(0).await.unwrap();
    soon("the loss", async {
        while pool.cluster().topology().writer.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (found, promoted) =
        tokio::join!(soon("a waiter", third_party(&native)), servers.failover());
    assert_eq!(
        found.unwrap(),
        servers.addr(promoted.unwrap()).unwrap().port()
    );
}

#[tokio::test]
async fn its_queries_in_flight_on_a_frozen_primary_are_aborted() {
    let (servers, pool) = start().await;
    let native = pool.deadpool_pool();
    let client = native.get().await.unwrap();
    servers.freeze(0).await.unwrap();
    let (answer, promoted) = tokio::join!(
        soon("the query", client.simple_query("SELECT 1")),
        servers.failover()
    );
    promoted.unwrap();
    assert!(answer.is_err());
    drop(client);
    soon("a checkout", third_party(&native)).await.unwrap();
}

#[tokio::test]
async fn clients_of_the_pool_are_deadpools_own() {
    let (_servers, pool) = start().await;
    let mut client: deadpool_postgres::Client = pool.get().await.unwrap();
    generic(&client).await.unwrap();
    let tx: deadpool_postgres::Transaction<'_> = client.transaction().await.unwrap();
    generic(&tx).await.unwrap();
    tx.commit().await.unwrap();
    pool.run_tx(|tx| async move {
        generic(&*tx).await?;
        Ok(())
    })
    .await
    .unwrap();
}
