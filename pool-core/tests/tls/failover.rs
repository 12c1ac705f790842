//! Following the leader over TLS.

use crate::support::*;

#[tokio::test]
async fn a_failover_over_tls_is_followed() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &authority.pem()));
    let tls = authority.sign(&["127.0.0.1"]).server();
    let hba = [
        "hostssl all app all scram-sha-256",
        "host all app all reject",
    ];
    let servers = start(Some(tls), &hba, 2).await;
    let parameters = format!("sslmode=verify-full&{root}&channel_binding=require");
    let pool = connect(&url(&servers, "127.0.0.1", &parameters))
        .await
        .unwrap();
    let client = pool.get().await.unwrap();
    let port = "SELECT inet_server_port()";
    let before: i32 = ask(&client, port).await;
    drop(client);

    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let client = soon("the new writer", pool.get()).await.unwrap();
    let after: i32 = ask(&client, port).await;
    assert_ne!(after, before);
    assert_eq!(after, i32::from(servers.addr(promoted).unwrap().port()));
    assert!(is_encrypted(&client).await);
    assert!(is_encrypted(&soon("a reader", pool.reader()).await.unwrap()).await);

    let committed = soon(
        "a transaction",
        pool.run_tx(|tx| async move {
            tx.execute("CREATE TABLE t AS SELECT 1", &[]).await?;
            Ok(())
        }),
    );
    committed.await.unwrap();
}
