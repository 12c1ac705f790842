//! Every `sslmode`, with servers that speak TLS and such that do not.

use leadpool_testkit::Cluster as Servers;

use crate::support::*;

/// How an attempt ends: encrypted or not, or refused for that.
#[derive(Clone, Copy, Debug)]
enum End {
    Encrypted,
    Plain,
    Refused(&'static str),
}
use End::{Encrypted, Plain, Refused};

async fn expect(servers: &Servers, parameters: &str, end: End) {
    let url = url(servers, "127.0.0.1", parameters);
    match end {
        Encrypted | Plain => {
            let pool = connect(&url).await;
            let pool = pool.unwrap_or_else(|error| panic!("{parameters}: {error}"));
            let client = pool.get().await.unwrap();
            let encrypted = is_encrypted(&client).await;
            assert_eq!(encrypted, matches!(end, Encrypted), "{parameters}");
        }
        Refused(reason) => {
            let refusal = refusal(&url).await;
            assert!(refusal.contains(reason), "{parameters}: {refusal}");
        }
    }
}

#[tokio::test]
async fn each_mode_with_a_server_that_speaks_tls() {
    let authority = Authority::new("here");
    let leaf = authority.sign(&["127.0.0.1"]);
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &authority.pem()));
    let servers = start(Some(leaf.server()), &[], 0).await;
    for (parameters, end) in [
        ("", Encrypted),
        ("sslmode=disable", Plain),
        ("sslmode=allow", Plain),
        ("sslmode=prefer", Encrypted),
        ("sslmode=require", Encrypted),
        ("sslmode=require&sslsni=0", Encrypted),
        (
            "sslmode=require&ssl_max_protocol_version=TLSv1.2",
            Encrypted,
        ),
        (
            "sslmode=require&ssl_min_protocol_version=tlsv1.3",
            Encrypted,
        ),
    ] {
        expect(&servers, parameters, end).await;
    }
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        expect(&servers, &format!("sslmode={mode}&{root}"), Encrypted).await;
    }
}

#[tokio::test]
async fn each_mode_with_a_server_that_speaks_none() {
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &Authority::new("here").pem()));
    let servers = start(None, &[], 0).await;
    for mode in ["disable", "allow", "prefer"] {
        expect(&servers, &format!("sslmode={mode}"), Plain).await;
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let parameters = format!("sslmode={mode}&{root}");
        expect(&servers, &parameters, Refused("speaks no TLS")).await;
        let name = format!("`sslmode={mode}`");
        let refusal = refusal(&url(&servers, "127.0.0.1", &parameters)).await;
        assert!(refusal.contains(&name), "{refusal}");
    }
}

#[tokio::test]
async fn where_both_ways_are_allowed_the_other_one_is_tried() {
    let authority = Authority::new("here");
    let leaf = authority.sign(&["127.0.0.1"]);
    let only_tls = start(
        Some(leaf.server()),
        &[
            "hostssl all app all scram-sha-256",
            "host all app all reject",
        ],
        0,
    )
    .await;
    expect(&only_tls, "sslmode=allow", Encrypted).await;
    expect(&only_tls, "sslmode=prefer", Encrypted).await;
    expect(&only_tls, "sslmode=disable", Refused("no encryption")).await;

    let only_plain = start(
        Some(leaf.server()),
        &[
            "hostnossl all app all scram-sha-256",
            "host all app all reject",
        ],
        0,
    )
    .await;
    expect(&only_plain, "sslmode=allow", Plain).await;
    expect(&only_plain, "sslmode=prefer", Plain).await;
    expect(&only_plain, "sslmode=require", Refused("SSL encryption")).await;
}

#[tokio::test]
async fn a_handshake_that_fails_is_no_obstacle_to_prefer_and_one_to_require() {
    let folder = Folder::new();
    let foreign = root(&folder.put("root.crt", &Authority::new("there").pem()));
    let leaf = Authority::new("here").sign(&["127.0.0.1"]);
    let servers = start(Some(leaf.server()), &[], 0).await;
    expect(&servers, &format!("sslmode=prefer&{foreign}"), Plain).await;
    expect(
        &servers,
        &format!("sslmode=require&{foreign}"),
        Refused("not trusted"),
    )
    .await;
}

/// libpq would try again without TLS here, and be let in.
#[tokio::test]
async fn after_a_wrong_password_the_other_way_is_not_tried() {
    let leaf = Authority::new("here").sign(&["127.0.0.1"]);
    let hba = [
        "hostssl all app all scram-sha-256",
        "hostnossl all app all trust",
    ];
    let servers = start(Some(leaf.server()), &hba, 0).await;
    let url = url(&servers, "127.0.0.1", "sslmode=prefer").replace("secret", "wrong");
    let refusal = refusal(&url).await;
    assert!(
        refusal.contains("password authentication failed"),
        "{refusal}"
    );
    assert!(!refusal.contains("wrong"), "{refusal}");
}

#[tokio::test]
async fn queries_are_cancelled_over_tls() {
    let authority = Authority::new("here");
    let leaf = authority.sign(&["127.0.0.1"]);
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &authority.pem()));
    let servers = start(Some(leaf.server()), &[], 0).await;
    for mode in ["disable", "prefer", "verify-full"] {
        let url = url(&servers, "127.0.0.1", &format!("sslmode={mode}&{root}"));
        let pool = connect(&url).await.unwrap();
        let client = pool.get().await.unwrap();
        let pid: i32 = ask(&client, "SELECT pg_backend_pid()").await;
        let admin = servers.connect(0).await.unwrap();
        let running = "SELECT count(*) FROM pg_stat_activity \
                       WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'";
        let sleeping = client.simple_query("SELECT pg_sleep(3600)");
        let cancelling = async {
            while admin
                .query_one(running, &[&pid])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 0
            {}
            let token = client.cancel_token();
            token.cancel_query(pool.tls_connector()).await.unwrap();
        };
        let (slept, ()) = soon("the end of the query", async {
            tokio::join!(sleeping, cancelling)
        })
        .await;
        assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014", "{mode}");
    }
}

#[tokio::test]
async fn a_socket_of_unix_needs_no_tls() {
    let folder = Folder::new();
    let socket = folder.path("");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let root = root(&folder.put("root.crt", &Authority::new("here").pem()));
    let servers = Servers::builder()
        .standbys(0)
        .conf("unix_socket_directories", socket.display().to_string())
        .hba("local all all trust")
        .start()
        .await
        .unwrap();
    let port = servers.addr(0).unwrap().port();
    let conninfo = format!(
        "host={} port={port} user=postgres dbname=postgres sslmode=verify-full {root}",
        socket.display()
    );
    let pool = connect(&conninfo).await.unwrap();
    let client = pool.get().await.unwrap();
    assert!(!is_encrypted(&client).await);
}
