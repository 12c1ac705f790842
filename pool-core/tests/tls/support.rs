//! What the tests share: an authority, servers with its certificates, and files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use leadpool::{Config, Error, Pool, config::ConfigBuilder, topology::Topology};
use leadpool_testkit::{Cluster as Servers, ServerTls};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CertifiedIssuer, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Leaf {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names.
    pub(crate) fn sign(&self, names: &[&str]) -> Leaf {
        self.sign_with(names, |_| {})
    }

    pub(crate) fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        Leaf {
            certificate: params.signed_by(&key, &self.0).unwrap(),
            key,
        }
    }

    /// The list of what it has revoked.
    pub(crate) fn revocation_list(&self, serials: &[u64], year: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

impl Leaf {
    pub(crate) fn server(&self) -> ServerTls {
        ServerTls::new(self.certificate.pem(), self.key.serialize_pem())
    }
}

/// A folder with files.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file there at once, in place of the one before, for its owner only.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let new = self.path(&format!(".{name}"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, self.path(name)).unwrap();
        self.path(name)
    }
}

/// A primary and so many standbys. The role `app` has the password `secret`.
pub(crate) async fn start(tls: Option<ServerTls>, hba: &[&str], standbys: usize) -> Servers {
    let mut builder = Servers::builder()
        .standbys(standbys)
        .conf("password_encryption", "scram-sha-256");
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    for line in hba {
        builder = builder.hba(line);
    }
    let servers = builder.start().await.unwrap();
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'secret'")
        .await
        .unwrap();
    servers.wait_replayed().await.unwrap();
    servers
}

/// The URL of all hosts for `app`, by that name.
pub(crate) fn url(servers: &Servers, name: &str, parameters: &str) -> String {
    let hosts: Vec<String> = (0..servers.hosts())
        .map(|host| format!("{name}:{}", servers.addr(host).unwrap().port()))
        .collect();
    format!(
        "postgres://app:secret@{}/postgres?{parameters}",
        hosts.join(",")
    )
}

pub(crate) fn root(path: &Path) -> String {
    format!("sslrootcert={}", path.display())
}

pub(crate) async fn connect(url: &str) -> Result<Pool, Error> {
    connect_with(url, |config| config).await
}

pub(crate) async fn connect_with(
    url: &str,
    change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Result<Pool, Error> {
    let config: Config = change(Config::builder(url)).build()?;
    let cluster = soon("a writer", leadpool::Cluster::connect(config)).await?;
    Ok(Pool::new(&cluster))
}

/// Why the host lets nobody in, as the monitor sees it.
pub(crate) async fn refusal(url: &str) -> String {
    let pool = connect_with(url, |config| config.lazy(true)).await.unwrap();
    let problem = |topology: &Topology| topology.hosts()[0].problem.clone();
    seen(&pool, "a refusal", |topology| problem(topology).is_some()).await;
    let topology = pool.cluster().topology();
    assert_eq!(topology.writer, None, "{topology:?}");
    problem(&topology).unwrap()
}

/// Whether the session is encrypted, by the server's word.
pub(crate) async fn is_encrypted(client: &deadpool_postgres::Client) -> bool {
    ask(
        client,
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )
    .await
}

pub(crate) async fn ask<T>(client: &deadpool_postgres::Client, sql: &str) -> T
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Fails a test that hangs, with a name for what hung.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 20 s"),
    }
}

/// Waits until the monitor's picture shows something.
pub(crate) async fn seen(pool: &Pool, what: &str, found: impl Fn(&Topology) -> bool) {
    soon(what, async {
        while !found(&pool.cluster().topology()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
