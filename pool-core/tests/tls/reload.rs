//! Files that change while the pool runs.

use std::sync::{Arc, Mutex};

use leadpool::{Error, Pool};
use rcgen::DnType;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::*;

/// New connections, whatever is idle.
async fn fresh(pool: &Pool) -> Result<Vec<deadpool_postgres::Client>, Error> {
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(soon("a connection", pool.get()).await?);
    }
    Ok(clients)
}

#[tokio::test]
async fn a_new_authority_is_trusted_once_its_file_is_there() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = Folder::new();
    let root_crt = root(&folder.put("root.crt", &old.pem()));
    let servers = start(Some(old.sign(&["127.0.0.1"]).server()), &[], 0).await;
    let url = url(
        &servers,
        "127.0.0.1",
        &format!("sslmode=verify-full&{root_crt}"),
    );
    let pool = connect(&url).await.unwrap();
    let held = pool.get().await.unwrap();

    servers
        .set_tls(0, &new.sign(&["127.0.0.1"]).server())
        .await
        .unwrap();
    let error = soon("a refusal", pool.get()).await.unwrap_err();
    assert!(error.to_string().contains("not trusted"), "{error}");
    folder.put("root.crt", &(old.pem() + &new.pem()));
    let client = pool.get().await.unwrap();
    assert!(is_encrypted(&client).await);
    // What was open stays open.
    assert!(is_encrypted(&held).await);
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// The lines with this text; other tests may be at work in this process.
    fn lines(&self, text: &str) -> Vec<String> {
        let log = self.0.lock().unwrap();
        let log = String::from_utf8_lossy(&log);
        log.lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_and_a_broken_one_is_told_of_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    // The look at the files happens in another thread.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let authority = Authority::new("here");
    let folder = Folder::new();
    let client = |organization: &str| {
        authority.sign_with(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, "app");
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        })
    };
    let first = client("first");
    let root_crt = root(&folder.put("root.crt", &authority.pem()));
    let parameters = format!(
        "sslmode=verify-full&{root_crt}&sslcert={}&sslkey={}",
        folder.put("app.crt", &first.certificate.pem()).display(),
        folder.put("app.key", &first.key.serialize_pem()).display(),
    );
    let tls = authority
        .sign(&["127.0.0.1"])
        .server()
        .clients(authority.pem());
    let servers = start(Some(tls), &["hostssl all app all cert"], 0).await;
    let pool = connect(&url(&servers, "127.0.0.1", &parameters))
        .await
        .unwrap();
    let subject = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let held = pool.get().await.unwrap();
    assert!(ask::<String>(&held, subject).await.contains("O=first"));

    // Half of a renewal: the certificate without its key. What was there before goes on.
    let second = client("second");
    folder.put("app.crt", &second.certificate.pem());
    for client in fresh(&pool).await.unwrap() {
        assert!(ask::<String>(&client, subject).await.contains("O=first"));
        drop(deadpool_postgres::Object::take(client));
    }
    let path = folder.path("app.key").display().to_string();
    let told = log.lines(&path);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("WARN") && told[0].contains("sslkey"),
        "{told:?}"
    );

    folder.put("app.key", &second.key.serialize_pem());
    for client in fresh(&pool).await.unwrap() {
        assert!(ask::<String>(&client, subject).await.contains("O=second"));
        drop(deadpool_postgres::Object::take(client));
    }

    // Nonsense, and none at all.
    folder.put("app.key", "nonsense");
    std::fs::remove_file(folder.path("root.crt")).unwrap();
    for client in fresh(&pool).await.unwrap() {
        assert!(ask::<String>(&client, subject).await.contains("O=second"));
    }
    let secret = second.key.serialize_pem();
    let secret = secret.lines().nth(1).unwrap();
    assert!(log.lines(&secret[..20]).is_empty());
}
