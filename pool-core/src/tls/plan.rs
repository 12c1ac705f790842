//! Which files there are to read, and what is made of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::Resumption,
    pki_types::CertificateRevocationListDer,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::{
    FileProblem, RootCert, SslCertMode, SslMode, TlsSettings, TlsVersion,
    files::read,
    pem::{self, Unusable, provider},
    verifier::{Trusted, Verifier},
};

/// The protocol's name in TLS ([PostgreSQL documentation, section
/// 53.2.11](https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL)).
pub(super) const ALPN: &[u8] = b"postgresql";

/// The settings with libpq's defaults put in, and without what does not matter.
#[derive(Debug)]
pub(crate) struct Plan {
    roots: Option<Roots>,
    client: Option<Client>,
    crl: Option<PathBuf>,
    crl_dir: Option<PathBuf>,
    names: bool,
    sni: bool,
    versions: Vec<&'static SupportedProtocolVersion>,
}

#[derive(Debug)]
enum Roots {
    System(Arc<RootCertStore>),
    File(PathBuf),
}

#[derive(Debug)]
struct Client {
    cert: PathBuf,
    key: PathBuf,
}

impl Plan {
    /// Looks for libpq's default files in this home.
    pub(crate) fn new(settings: &TlsSettings, home: Option<&Path>) -> Result<Self, FileProblem> {
        let home = home.map(|home| home.join(".postgresql"));
        let default = |name: &str| {
            let path = home.as_ref()?.join(name);
            path.exists().then_some(path)
        };
        let roots = match &settings.ssl_root_cert {
            Some(RootCert::System) => Some(Roots::System(system_roots()?)),
            Some(RootCert::File(path)) => Some(Roots::File(path.clone())),
            None => default("root.crt").map(Roots::File),
        };
        if roots.is_none() && settings.mode() >= SslMode::VerifyCa {
            return Err(FileProblem::new(
                "sslrootcert",
                format!(
                    "`sslmode={}` needs to know whom to trust: give a file of CA certificates, or \
                     `system`",
                    settings.mode()
                ),
            ));
        }
        let has_lists = settings.ssl_crl.is_some() || settings.ssl_crl_dir.is_some();
        let (crl, crl_dir) = match &roots {
            // Without roots nothing is checked.
            None => (None, None),
            Some(_) if has_lists => (settings.ssl_crl.clone(), settings.ssl_crl_dir.clone()),
            Some(_) => (default("root.crl"), None),
        };
        let wants_key = |name: &str| {
            settings
                .ssl_key
                .clone()
                .or_else(|| Some(home.as_ref()?.join(name)))
        };
        let cert = match settings.ssl_cert_mode {
            SslCertMode::Disable => None,
            _ => settings
                .ssl_cert
                .clone()
                .or_else(|| default("postgresql.crt")),
        };
        let client = match (cert, wants_key("postgresql.key")) {
            (Some(cert), Some(key)) => Some(Client { cert, key }),
            (Some(_), None) => {
                return Err(FileProblem::new(
                    "sslkey",
                    "give the key that belongs to `sslcert`",
                ));
            }
            (None, _) if settings.ssl_cert_mode == SslCertMode::Require => {
                return Err(FileProblem::new(
                    "sslcert",
                    "`sslcertmode=require` needs a client certificate",
                ));
            }
            (None, _) => None,
        };
        let spoken = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
        let versions = spoken.into_iter().filter(|(version, _)| {
            *version >= settings.ssl_min_protocol_version
                && settings
                    .ssl_max_protocol_version
                    .is_none_or(|newest| *version <= newest)
        });
        Ok(Self {
            roots,
            client,
            crl,
            crl_dir,
            names: settings.mode() == SslMode::VerifyFull,
            sni: settings.ssl_sni,
            versions: versions.map(|(_, version)| version).collect(),
        })
    }

    /// The file that says whom to trust, if there is one.
    pub(crate) fn root_file(&self) -> Option<&Path> {
        match &self.roots {
            Some(Roots::File(path)) => Some(path),
            Some(Roots::System(_)) | None => None,
        }
    }

    /// The revocation lists in which certificates are looked for: a file, and a folder of such.
    pub(crate) fn lists(&self) -> (Option<&Path>, Option<&Path>) {
        (self.crl.as_deref(), self.crl_dir.as_deref())
    }

    /// The client certificate and its key.
    pub(crate) fn client_files(&self) -> Option<(PathBuf, PathBuf)> {
        let Client { cert, key } = self.client.as_ref()?;
        Some((cert.clone(), key.clone()))
    }

    /// The files that it is made of, as they are now.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.crl.iter().cloned().collect();
        if let Some(Roots::File(path)) = &self.roots {
            paths.push(path.clone());
        }
        if let Some(Client { cert, key }) = &self.client {
            paths.extend([cert.clone(), key.clone()]);
        }
        if let Some(dir) = &self.crl_dir {
            paths.push(dir.clone());
            // Who can't be listed is told of when it is read.
            paths.extend(files_in(dir).unwrap_or_default());
        }
        paths
    }

    /// Whether there is anything that may change.
    pub(super) fn has_files(&self) -> bool {
        let has_root = matches!(self.roots, Some(Roots::File(_)));
        has_root || self.client.is_some() || self.crl.is_some() || self.crl_dir.is_some()
    }

    /// Reads them all.
    pub(super) fn read(&self) -> Result<ClientConfig, FileProblem> {
        let provider = provider();
        let verifier = Verifier {
            trusted: self.trusted()?,
            names: self.names,
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .map_err(|error| FileProblem::new("ssl_min_protocol_version", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.certified()? {
            Some(certified) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => config.with_no_client_auth(),
        };
        config.enable_sni = self.sni;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL resumes no sessions.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn trusted(&self) -> Result<Option<Trusted>, FileProblem> {
        const KEY: &str = "sslrootcert";
        let (roots, certificates) = match &self.roots {
            None => return Ok(None),
            Some(Roots::System(roots)) => (roots.clone(), Vec::new()),
            Some(Roots::File(path)) => {
                let unusable = |error: Unusable| FileProblem::of(KEY, path, &error.problem);
                let certificates = pem::certificates(&read(KEY, path)?).map_err(unusable)?;
                let mut roots = RootCertStore::empty();
                for certificate in &certificates {
                    roots.add(certificate.clone()).map_err(|error| {
                        let problem = format!("holds a certificate that can't be used: {error}");
                        FileProblem::of(KEY, path, &problem)
                    })?;
                }
                (Arc::new(roots), certificates)
            }
        };
        let (revoked, key) = self.revoked()?;
        Trusted::new(roots, certificates, revoked)
            .map(Some)
            .map_err(|error| FileProblem::new(key, format!("can't be used: {error}")))
    }

    /// All revocation lists, and the key to complain about if they can't be used.
    fn revoked(
        &self,
    ) -> Result<(Vec<CertificateRevocationListDer<'static>>, &'static str), FileProblem> {
        const FILE: &str = "sslcrl";
        const DIR: &str = "sslcrldir";
        let mut lists = Vec::new();
        if let Some(path) = &self.crl {
            lists = pem::revocation_lists(&read(FILE, path)?)
                .map_err(|error| FileProblem::of(FILE, path, &error.problem))?;
            if lists.is_empty() {
                let problem = "holds no revocation list: expected PEM, -----BEGIN X509 CRL-----";
                return Err(FileProblem::of(FILE, path, problem));
            }
        }
        let Some(dir) = &self.crl_dir else {
            return Ok((lists, FILE));
        };
        let before = lists.len();
        for path in files_in(dir).map_err(|error| FileProblem::of_io(DIR, dir, &error))? {
            let more = pem::revocation_lists(&read(DIR, &path)?)
                .map_err(|error| FileProblem::of(DIR, &path, &error.problem))?;
            lists.extend(more);
        }
        if lists.len() == before {
            return Err(FileProblem::of(DIR, dir, "holds no revocation list in PEM"));
        }
        Ok((lists, DIR))
    }

    fn certified(&self) -> Result<Option<CertifiedKey>, FileProblem> {
        const CERT: &str = "sslcert";
        const KEY: &str = "sslkey";
        let Some(Client { cert, key }) = &self.client else {
            return Ok(None);
        };
        let chain = pem::certificates(&read(CERT, cert)?)
            .map_err(|error| FileProblem::of(CERT, cert, &error.problem))?;
        let of_key = |problem: &str| FileProblem::of(KEY, key, problem);
        let text = read(KEY, key)?;
        check_private(key).map_err(|problem| of_key(&problem))?;
        let parsed = pem::key(&text).map_err(|error| of_key(&error.problem))?;
        match pem::certified(chain, parsed) {
            Ok(certified) => Ok(Some(certified)),
            Err(error) => Err(of_key(&format!(
                "can't be used with the certificate in `{}`: it {}",
                cert.display(),
                error.problem
            ))),
        }
    }
}

fn system_roots() -> Result<Arc<RootCertStore>, FileProblem> {
    pem::system_roots()
        .map(Arc::new)
        .map_err(|error| FileProblem::new("sslrootcert", error.problem))
}

/// The files in a folder, but for hidden ones; in order, so that two looks can be compared.
fn files_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// libpq's rule: a key that others can read is no secret any more. Root's may be read by a group,
/// which is how systems share them among services.
#[cfg(unix)]
fn check_private(key: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = fs::metadata(key).map_err(|error| error.to_string())?;
    let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    match metadata.mode() & others {
        0 => Ok(()),
        _ => Err(
            "can be read or changed by others than its owner: `chmod 0600` it (0640 will do if it \
             belongs to root)"
                .to_owned(),
        ),
    }
}

#[cfg(not(unix))]
fn check_private(_: &Path) -> Result<(), String> {
    Ok(())
}
