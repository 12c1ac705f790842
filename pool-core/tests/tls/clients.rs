//! Client certificates.

use rcgen::DnType;

use crate::support::*;

struct Files {
    folder: Folder,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: Folder::new(),
            authority: Authority::new("here"),
        }
    }

    /// The parameters of a client certificate of that authority for that role.
    fn client(&self, authority: &Authority, role: &str) -> String {
        let leaf = authority.sign_with(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, role);
        });
        format!(
            "sslcert={}&sslkey={}",
            self.folder
                .put(&format!("{role}.crt"), &leaf.certificate.pem())
                .display(),
            self.folder
                .put(&format!("{role}.key"), &leaf.key.serialize_pem())
                .display(),
        )
    }

    fn full(&self) -> String {
        let root = root(&self.folder.put("root.crt", &self.authority.pem()));
        format!("sslmode=verify-full&{root}")
    }
}

#[tokio::test]
async fn a_certificate_is_a_login() {
    let files = Files::new();
    let tls = files
        .authority
        .sign(&["127.0.0.1"])
        .server()
        .clients(files.authority.pem());
    let servers = start(
        Some(tls),
        &["hostssl all app all cert", "host all app all reject"],
        0,
    )
    .await;
    let full = files.full();
    let with = |client: &str| {
        url(&servers, "127.0.0.1", &format!("{full}&{client}")).replace(":secret", "")
    };

    let app = files.client(&files.authority, "app");
    let pool = connect(&with(&app)).await.unwrap();
    let client = pool.get().await.unwrap();
    let subject = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(ask::<String>(&client, subject).await.contains("CN=app"));

    let other = files.client(&files.authority, "other");
    let refused = refusal(&with(&other)).await;
    assert!(
        refused.contains("certificate authentication failed"),
        "{refused}"
    );

    for without in ["", "sslcertmode=disable"] {
        let refused = refusal(&with(without)).await;
        assert!(
            refused.contains("requires a valid client certificate"),
            "{refused}"
        );
    }
    // Given, and switched off.
    let refused = refusal(&with(&format!("{app}&sslcertmode=disable"))).await;
    assert!(
        refused.contains("requires a valid client certificate"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_certificate_and_a_password_may_both_be_wanted() {
    let files = Files::new();
    let tls = files
        .authority
        .sign(&["127.0.0.1"])
        .server()
        .clients(files.authority.pem());
    let line = "hostssl all app all scram-sha-256 clientcert=verify-full";
    let servers = start(Some(tls), &[line, "host all app all reject"], 0).await;
    let client = files.client(&files.authority, "app");
    let url = url(
        &servers,
        "127.0.0.1",
        &format!("{}&{client}&sslcertmode=require", files.full()),
    );
    let pool = connect(&url).await.unwrap();
    assert!(is_encrypted(&pool.get().await.unwrap()).await);
    let refused = refusal(&url.replace("secret", "wrong")).await;
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_refused_by_the_server() {
    let files = Files::new();
    let tls = files
        .authority
        .sign(&["127.0.0.1"])
        .server()
        .clients(files.authority.pem());
    let servers = start(Some(tls), &["hostssl all app all cert"], 0).await;
    let foreign = files.client(&Authority::new("there"), "app");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let parameters = format!(
            "{}&{foreign}&ssl_min_protocol_version={version}&ssl_max_protocol_version={version}",
            files.full()
        );
        let url = url(&servers, "127.0.0.1", &parameters);
        let pool = connect_with(&url, |config| config.lazy(true))
            .await
            .unwrap();
        // Where the server closes before we have written all, its reason may be lost once.
        seen(&pool, "the reason", |topology| {
            let problem = topology.hosts()[0].problem.as_deref();
            problem.is_some_and(|problem| problem.contains("does not accept our certificate"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_none_is_told_of_if_it_must() {
    let files = Files::new();
    let servers = start(Some(files.authority.sign(&["127.0.0.1"]).server()), &[], 0).await;
    let client = files.client(&files.authority, "app");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let parameters = format!(
            "{}&{client}&ssl_min_protocol_version={version}&ssl_max_protocol_version={version}",
            files.full()
        );
        connect(&url(&servers, "127.0.0.1", &parameters))
            .await
            .unwrap();
        let parameters = format!("{parameters}&sslcertmode=require");
        let refused = refusal(&url(&servers, "127.0.0.1", &parameters)).await;
        assert!(
            refused.contains("asks for no client certificate"),
            "{refused}"
        );
    }
}
