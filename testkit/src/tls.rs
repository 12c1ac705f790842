//! TLS of the servers.

use std::{fmt, fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{Cluster, Error, process::RunAs};

/// The certificate of a server, and whose clients' it accepts. All of it in PEM.
///
/// ```
/// use leadpool_testkit::ServerTls;
///
/// # let (certificate, key, ca) = ("", "", "");
/// let tls = ServerTls::new(certificate, key).clients(ca);
/// assert!(format!("{tls:?}").starts_with("ServerTls"));
/// ```
#[derive(Clone)]
pub struct ServerTls {
    certificate: String,
    key: String,
    clients: Option<String>,
}

impl ServerTls {
    /// A certificate, with its intermediates, and its key.
    pub fn new(certificate: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            clients: None,
        }
    }

    /// The CA that clients' certificates must be issued by; without it none is asked for.
    #[must_use]
    pub fn clients(mut self, ca: impl Into<String>) -> Self {
        self.clients = Some(ca.into());
        self
    }

    /// The lines of `postgresql.conf`.
    pub(crate) fn conf(&self) -> String {
        let mut lines = "ssl = on\n".to_owned();
        if self.clients.is_some() {
            lines.push_str("ssl_ca_file = 'root.crt'\n");
        }
        lines
    }

    /// Writes the files that PostgreSQL looks for in its data folder.
    pub(crate) fn write(&self, data_dir: &Path, run_as: &RunAs) -> Result<(), Error> {
        let mut files = vec![("server.crt", &self.certificate), ("server.key", &self.key)];
        files.extend(self.clients.iter().map(|ca| ("root.crt", ca)));
        for (name, text) in files {
            let path = data_dir.join(name);
            let failed = || Error::io(path.display().to_string());
            fs::write(&path, text).map_err(failed())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed())?;
            run_as.give(&path)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Gives a host of a cluster with TLS another certificate; new connections get to see it from
    /// here on. It accepts clients of the same CA as before, unless another one is given.
    ///
    /// # Errors
    ///
    /// What the server says.
    ///
    /// # Cancel safety
    ///
    /// The certificate may be there or not.
    pub async fn set_tls(&self, host: usize, tls: &ServerTls) -> Result<(), Error> {
        let host = self.host(host)?;
        tls.write(&host.data_dir, &host.run_as)?;
        let loaded = "SELECT pg_conf_load_time()::text";
        let before = host.ask(loaded).await?;
        host.execute("SELECT pg_reload_conf()").await?;
        // A new session has what the postmaster has.
        host.until("the new certificate to be loaded", || async {
            Ok(host.ask(loaded).await? != before)
        })
        .await
    }
}
