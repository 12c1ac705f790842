//! What happens when the primary is lost.

use leadpool::Error;

use crate::support::*;

#[tokio::test]
async fn writes_go_to_the_primary_and_reads_to_standbys() {
    let (servers, pool) = start().await;
    let writer = pool.get().await.unwrap();
    assert_eq!(port(&writer).await, servers.addr(0).unwrap().port());
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(port(&pool.reader().await.unwrap()).await);
    }
    readers.sort();
    readers.dedup();
    let mut standbys = vec![
        servers.addr(1).unwrap().port(),
        servers.addr(2).unwrap().port(),
    ];
    standbys.sort();
    assert_eq!(readers, standbys, "in turn");
}

#[tokio::test]
async fn a_transaction_survives_the_kill_of_its_primary() {
    let (servers, pool) = start().await;
    let id: i64 = pool
        .run_tx(|tx| async move {
            let row = tx
                .query_one("INSERT INTO t (n) VALUES (1) RETURNING id", &[])
                .await?;
            Ok(row.get(0))
        })
        .await
        .unwrap();
    assert_eq!(id, 1);
    servers.wait_replayed().await.unwrap();
    servers.kill(0).await.unwrap();
    let writing = pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (2)", &[]).await?;
        Ok(())
    });
    let (written, promoted) = tokio::join!(soon("the write", writing), servers.failover());
    written.unwrap();
    let promoted = promoted.unwrap();
    assert_eq!(
        pool.cluster()
            .topology()
            .writer
            .as_ref()
            .map(|host| host.port()),
        Some(servers.addr(promoted).unwrap().port())
    );
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn a_query_in_flight_on_a_frozen_primary_ends_when_a_newer_one_is_seen() {
    let (servers, pool) = start().await;
    let client = pool.get().await.unwrap();
    servers.freeze(0).await.unwrap();
    let query = client.simple_query("SELECT 1");
    let (answer, promoted) = tokio::join!(soon("the query", query), servers.failover());
    promoted.unwrap();
    assert!(answer.unwrap_err().is_closed());
    // And nobody gets a connection to the frozen host again.
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert_eq!(
        port(&client).await,
        servers.addr(servers.primary()).unwrap().port()
    );
}

#[tokio::test]
async fn all_hosts_down_says_what_was_seen() {
    let error = connect_with("postgres://u@127.0.0.1:1,127.0.0.1:2/x", |config| {
        config.startup_timeout(std::time::Duration::from_millis(400))
    })
    .await
    .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NoHost(_)), "{text}");
    assert!(
        text.contains("127.0.0.1:1") && text.contains("127.0.0.1:2"),
        "{text}"
    );
    assert!(text.contains("connection refused"), "{text}");
}
