//! Channel binding.

use rcgen::{CertificateParams, KeyPair};

use crate::support::*;

const SCRAM: &[&str] = &["host all app all scram-sha-256"];

#[tokio::test]
async fn it_works_with_every_hash_that_a_server_knows() {
    let servers = start(
        Some(Authority::new("here").sign(&["127.0.0.1"]).server()),
        SCRAM,
        0,
    )
    .await;
    let required = url(&servers, "127.0.0.1", "channel_binding=require");
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        servers
            .set_tls(0, &Leaf { certificate, key }.server())
            .await
            .unwrap();
        for version in ["TLSv1.2", "TLSv1.3"] {
            let url = format!(
                "{required}&ssl_min_protocol_version={version}&ssl_max_protocol_version={version}"
            );
            let pool = connect(&url).await.unwrap();
            let client = pool.get().await.unwrap();
            assert!(is_encrypted(&client).await);
            let spoken = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            assert_eq!(ask::<String>(&client, spoken).await, version);
        }
    }
}

#[tokio::test]
async fn every_mode_with_tls_can_require_it() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &authority.pem()));
    let servers = start(Some(authority.sign(&["127.0.0.1"]).server()), SCRAM, 0).await;
    for mode in ["allow", "prefer", "require", "verify-ca", "verify-full"] {
        let parameters = format!("sslmode={mode}&{root}&channel_binding=require");
        let pool = connect(&url(&servers, "127.0.0.1", &parameters))
            .await
            .unwrap();
        assert!(is_encrypted(&pool.get().await.unwrap()).await, "{mode}");
    }
}

#[tokio::test]
async fn without_tls_or_without_scram_it_is_refused() {
    let plain = start(None, SCRAM, 0).await;
    let refused = refusal(&url(&plain, "127.0.0.1", "channel_binding=require")).await;
    assert!(
        refused.contains("speaks no TLS") && refused.contains("channel_binding=require"),
        "{refused}"
    );

    // This one lets everybody in without a login: nothing is bound.
    let tls = Authority::new("here").sign(&["127.0.0.1"]).server();
    let trusting = start(Some(tls), &[], 0).await;
    let refused = refusal(&url(&trusting, "127.0.0.1", "channel_binding=require")).await;
    assert!(refused.contains("channel binding"), "{refused}");
}

#[tokio::test]
async fn a_certificate_that_names_no_hash_is_no_obstacle_unless_it_is_required() {
    // That of RFC 8410, section 10.3: OpenSSL does not read those that are generated here.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
         MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
         -----END PRIVATE KEY-----\n";
    let key = KeyPair::from_pem(KEY).unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let servers = start(Some(Leaf { certificate, key }.server()), SCRAM, 0).await;
    let pool = connect(&url(&servers, "127.0.0.1", "sslmode=require"))
        .await
        .unwrap();
    assert!(is_encrypted(&pool.get().await.unwrap()).await);
    let refused = refusal(&url(&servers, "127.0.0.1", "channel_binding=require")).await;
    assert!(refused.contains("channel binding"), "{refused}");
}
