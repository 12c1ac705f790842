//! How libpq logs in: encrypted or not, whom it trusts, with which password or certificate.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use diesel::{PgConnection, QueryableByName, RunQueryDsl as _, sql_types::Bool};
use leadpool_diesel::{
    blocking::{Error, InteractPool},
    leadpool::credentials::{Credentials, from_fn},
};
use leadpool_testkit::{Cluster as Servers, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use crate::support::*;

/// An authority, and a folder for files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            folder: TempDir::new().unwrap(),
        }
    }

    /// A certificate and its key.
    fn sign(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self, names: &[&str]) -> ServerTls {
        let (certificate, key) = self.sign(names, |_| {});
        ServerTls::new(certificate, key).clients(self.issuer.pem())
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn root(&self) -> String {
        let path = self.put("root.crt", &self.issuer.pem());
        format!("sslrootcert={}", path.display())
    }
}

/// One server, on which the role `app` has the password `first`.
async fn start(tls: Option<ServerTls>, hba: &[&str]) -> Servers {
    let mut builder = Servers::builder().standbys(0);
    for line in hba {
        builder = builder.hba(line);
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let servers = builder.start().await.unwrap();
    sql(&servers, "CREATE ROLE app LOGIN PASSWORD 'first'").await;
    servers
}

async fn sql(servers: &Servers, statement: &str) {
    let client = servers.connect(0).await.unwrap();
    client.batch_execute(statement).await.unwrap();
}

const SCRAM: &str = "host all app 127.0.0.0/8 scram-sha-256";

fn url(servers: &Servers, login: &str, parameters: &str) -> String {
    let port = port_of(servers, 0);
    format!("postgres://{login}@127.0.0.1:{port}/postgres?{parameters}")
}

async fn open(url: &str) -> Result<bool, Error> {
    let pool = soon("a writer", InteractPool::connect(url)).await?;
    ask(&pool).await
}

/// Whether a new connection is encrypted, by the server's word.
async fn ask(pool: &InteractPool) -> Result<bool, Error> {
    let conn = soon("a connection", pool.get()).await?;
    Ok(conn.interact(is_encrypted).await.unwrap()?)
}

#[derive(QueryableByName)]
struct Encrypted {
    #[diesel(sql_type = Bool)]
    ssl: bool,
}

fn is_encrypted(conn: &mut PgConnection) -> diesel::QueryResult<bool> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(diesel::sql_query(sql).get_result::<Encrypted>(conn)?.ssl)
}

#[tokio::test]
async fn each_mode_encrypts_as_it_says() {
    let known = Authority::new("here");
    let root = known.root();
    let servers = start(Some(known.server(&["127.0.0.1"])), &[SCRAM]).await;
    for (mode, expected) in [
        ("sslmode=disable", false),
        ("sslmode=allow", false),
        ("sslmode=prefer", true),
        ("sslmode=require", true),
        (&format!("sslmode=require&{root}"), true),
        (&format!("sslmode=verify-ca&{root}"), true),
        (&format!("sslmode=verify-full&{root}"), true),
        (
            &format!("sslmode=verify-full&{root}&channel_binding=require"),
            true,
        ),
        (
            &format!("sslmode=verify-full&{root}&ssl_max_protocol_version=TLSv1.2&sslsni=0"),
            true,
        ),
    ] {
        let opened = open(&url(&servers, "app:first", mode)).await;
        assert_eq!(opened.unwrap(), expected, "{mode}");
    }
}

/// What libpq says of another certificate than the one that the monitor has seen.
async fn refusal(servers: &Servers, pool: &InteractPool, tls: &ServerTls) -> String {
    servers.set_tls(0, tls).await.unwrap();
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn certificates_of_others_and_for_others_are_refused_at_once() {
    let (known, stranger) = (Authority::new("here"), Authority::new("there"));
    let root = known.root();
    let good = known.server(&["127.0.0.1"]);
    let foreign = stranger.server(&["127.0.0.1"]).clients(known.issuer.pem());
    let misnamed = known.server(&["db9.example"]);
    let servers = start(Some(good.clone()), &[SCRAM]).await;
    for (mode, takes_misnamed) in [
        ("require", true),
        ("verify-ca", true),
        ("verify-full", false),
    ] {
        servers.set_tls(0, &good).await.unwrap();
        let url = url(&servers, "app:first", &format!("sslmode={mode}&{root}"));
        let pool = soon("a writer", InteractPool::connect(&url)).await.unwrap();
        let said = refusal(&servers, &pool, &foreign).await;
        assert!(said.contains("certificate verify failed"), "{mode}: {said}");
        assert!(!said.contains("first"), "{said}");
        if takes_misnamed {
            servers.set_tls(0, &misnamed).await.unwrap();
            assert!(ask(&pool).await.unwrap(), "{mode}");
        } else {
            let said = refusal(&servers, &pool, &misnamed).await;
            assert!(said.contains("does not match host name"), "{said}");
        }
        servers.set_tls(0, &good).await.unwrap();
        assert!(ask(&pool).await.unwrap(), "{mode}");
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let known = Authority::new("here");
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(7),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&known.issuer).unwrap().pem().unwrap();
    let list = known.put("root.crl", &list);
    let serial = |number: u64| {
        let (certificate, key) = known.sign(&["127.0.0.1"], |params| {
            params.serial_number = Some(SerialNumber::from(number));
        });
        ServerTls::new(certificate, key)
    };
    let servers = start(Some(serial(6)), &[SCRAM]).await;
    let parameters = format!(
        "sslmode=verify-full&{}&sslcrl={}",
        known.root(),
        list.display()
    );
    let url = url(&servers, "app:first", &parameters);
    let pool = soon("a writer", InteractPool::connect(&url)).await.unwrap();
    let said = refusal(&servers, &pool, &serial(7)).await;
    assert!(said.contains("certificate verify failed"), "{said}");
    servers.set_tls(0, &serial(8)).await.unwrap();
    assert!(ask(&pool).await.unwrap());
}

#[tokio::test]
async fn a_certificate_is_a_login() {
    let known = Authority::new("here");
    let hba = ["hostssl all app all cert", "host all app all reject"];
    let servers = start(Some(known.server(&["127.0.0.1"])), &hba).await;
    let (certificate, key) = known.sign(&[], |params| {
        params.distinguished_name.push(DnType::CommonName, "app");
    });
    let certificate = known.put("app.crt", &certificate);
    let key = known.put("app.key", &key);
    let parameters = format!(
        "sslmode=verify-full&{}&sslcert={}&sslkey={}",
        known.root(),
        certificate.display(),
        key.display()
    );
    assert!(open(&url(&servers, "app", &parameters)).await.unwrap());
}

/// An older libpq has no such key, and says so before any host is asked.
#[tokio::test]
async fn how_the_server_may_ask_is_kept_to_or_refused_by_its_name() {
    let servers = start(None, &[SCRAM]).await;
    let with = |methods: &str| url(&servers, "app:first", &format!("require_auth={methods}"));
    match open(&with("scram-sha-256")).await {
        Ok(_) => {
            sql(&servers, "ALTER ROLE app PASSWORD NULL").await;
            open(&with("none")).await.unwrap_err();
        }
        Err(error) => {
            let said = error.to_string();
            assert!(
                said.contains("\"require_auth\"") && said.contains("older"),
                "{said}"
            );
            assert!(!said.contains("first"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_password_that_rotates_is_asked_for_again() {
    let servers = start(None, &[SCRAM]).await;
    let (current, refused) = (Arc::new(Mutex::new("first")), Arc::new(Mutex::new(0)));
    let (known, counted) = (Arc::new(Mutex::new(None)), refused.clone());
    let now = current.clone();
    let pool = InteractPool::builder()
        .configure(move |config| {
            config.credentials(from_fn(move |request| {
                let mut known = known.lock().unwrap();
                if request.rejected.is_some() {
                    *known = None;
                    *counted.lock().unwrap() += 1;
                }
                let password = *known.get_or_insert_with(|| *now.lock().unwrap());
                async move { Ok(Credentials::password(password)) }
            }))
        })
        .connect(&url(&servers, "app", ""))
        .await
        .unwrap();
    let held = pool.get().await.unwrap();
    assert_eq!(*refused.lock().unwrap(), 0);
    sql(&servers, "ALTER ROLE app PASSWORD 'second'").await;
    *current.lock().unwrap() = "second";
    let other = soon("the other", pool.get()).await.unwrap();
    assert!(*refused.lock().unwrap() > 0);
    // What was open stays so.
    for conn in [held, other] {
        conn.interact(is_encrypted).await.unwrap().unwrap();
    }
    // Without another one the refusal stands.
    sql(&servers, "ALTER ROLE app PASSWORD 'third'").await;
    let busy = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    assert!(
        error.to_string().contains("authentication failed"),
        "{error}"
    );
    drop(busy);
}
