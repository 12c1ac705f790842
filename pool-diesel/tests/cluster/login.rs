//! How connections are opened: encrypted or not, over TCP or a socket, and with which password. What
//! the server answers is read along on each of these ways.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use diesel::{dsl::sql, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use leadpool_diesel::{Error, Pool, diesel_async, leadpool};
use leadpool_testkit::{Cluster as Servers, ServerTls};

use crate::support::*;

fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertifiedIssuer::self_signed(params, key).unwrap()
}

/// A transaction that loses against another one at first: how often it was tried.
async fn tried_after_a_deadlock(pool: &Pool) -> Result<u32, Error> {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let ran = pool.run_tx(move |mut tx| {
        let counted = counted.clone();
        async move {
            insert(&mut tx, 1).await?;
            match counted.fetch_add(1, Ordering::Relaxed) {
                0 => raise(&mut tx, "40P01").await.map(drop),
                _ => Ok(()),
            }
        }
    });
    ran.await?;
    Ok(count(&attempts))
}

async fn is_encrypted(conn: &mut AsyncPgConnection) -> bool {
    let ssl = "(SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
    let ssl = diesel::select(sql::<Bool>(ssl));
    ssl.get_result(conn).await.unwrap()
}

/// A statement on the connection is cancelled.
async fn is_cancelled(servers: &Servers, pool: &Pool) {
    let mut conn = pool.get().await.unwrap();
    let pid = backend(&mut conn).await;
    let (token, tls) = (conn.cancel_token(), pool.tls_connector(&conn).unwrap());
    let sleeping = diesel::sql_query("SELECT pg_sleep(60)").execute(&mut conn);
    let cancelling = async {
        let client = servers.connect(0).await.unwrap();
        let sql = "SELECT state = 'active' AND wait_event = 'PgSleep' \
                   FROM pg_stat_activity WHERE pid = $1";
        until("the statement", async || {
            let row = client.query_one(sql, &[&pid]).await.unwrap();
            row.get::<_, Option<bool>>(0) == Some(true)
        })
        .await;
        token.cancel_query(tls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(soon("its end", sleeping), cancelling);
    let error = slept.unwrap_err();
    assert!(error.to_string().contains("cancel"), "{error}");
}

#[tokio::test]
async fn with_tls_and_without() {
    let known = authority();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let leaf = params.signed_by(&key, &known).unwrap();
    let tls = ServerTls::new(leaf.pem(), key.serialize_pem());
    let servers = Servers::builder()
        .standbys(0)
        .tls(tls)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.crt");
    std::fs::write(&root, known.pem()).unwrap();
    for (mode, expected) in [
        ("disable", false),
        ("prefer", true),
        ("require", true),
        ("verify-full", true),
    ] {
        let (mode, root) = (mode.parse().unwrap(), root.clone());
        let pool = Pool::builder(&servers.url())
            .configure(|config| config.ssl_mode(mode).ssl_root_cert(root))
            .build()
            .await
            .unwrap();
        let mut conn = pool.get().await.unwrap();
        assert_eq!(is_encrypted(&mut conn).await, expected, "{mode}");
        raise(&mut conn, "40P01").await.unwrap_err();
        assert_eq!(pool.sqlstate(&conn).as_deref(), Some("40P01"), "{mode}");
        drop(conn);
        assert_eq!(tried_after_a_deadlock(&pool).await.unwrap(), 2, "{mode}");
        is_cancelled(&servers, &pool).await;
    }
}

#[tokio::test]
async fn without_tls_also_where_it_is_preferred() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    assert_eq!(tried_after_a_deadlock(&pool).await.unwrap(), 2);
    is_cancelled(&servers, &pool).await;
}

#[tokio::test]
async fn over_a_socket_of_unix() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path();
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let servers = Servers::builder()
        .standbys(0)
        .conf("unix_socket_directories", socket.display().to_string())
        .hba("local all all trust")
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let url = format!(
        "host={} port={} user=postgres dbname=postgres",
        socket.display(),
        port_of(&servers, 0)
    );
    let pool = Pool::connect(&url).await.unwrap();
    for evidence in [true, false] {
        let writing = pool.tx().evidence(evidence);
        writing
            .run(|mut tx| async move { insert(&mut tx, 1).await })
            .await
            .unwrap();
    }
    assert_eq!(rows(&servers).await, 2);
    // Nothing is read along there.
    let error = tried_after_a_deadlock(&pool).await.unwrap_err();
    assert!(
        matches!(error, Error::Diesel { sqlstate: None, .. }),
        "{error:?}"
    );
    is_cancelled(&servers, &pool).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once() {
    let servers = Servers::builder()
        .standbys(0)
        .hba("host all app 127.0.0.0/8 scram-sha-256")
        .start()
        .await
        .unwrap();
    let admin = servers.connect(0).await.unwrap();
    let now = async |statement: &str| admin.batch_execute(statement).await.unwrap();
    now("CREATE ROLE app LOGIN PASSWORD 'first'").await;
    let pool = Pool::builder(&servers.url())
        .configure(|config| config.user("app").password("first"))
        .build()
        .await
        .unwrap();
    // The monitor goes on with its connection.
    now("ALTER ROLE app PASSWORD 'second'").await;
    let refused = refusal(soon("the refusal", pool.get()).await);
    let Some(Error::Pool(error)) = Error::inside(&refused) else {
        panic!("{refused:?}");
    };
    assert!(matches!(error, leadpool::Error::Connect(_)), "{error:?}");
    assert_eq!(error.sqlstate(), Some("28P01"));
    assert!(!refused.to_string().contains("first"), "{refused}");
    now("ALTER ROLE app PASSWORD 'first'").await;
    let mut conn = soon("a connection", pool.get()).await.unwrap();
    backend(&mut conn).await;
}
