//! TLS towards Patroni.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        sign::{CertifiedKey, SingleCertAndKey},
    },
};

use super::PatroniError;
use crate::error::BoxError;

/// Whom to trust, and who we are.
#[derive(Default)]
pub(super) struct Tls {
    roots: Option<RootCertStore>,
    client: Option<Arc<SingleCertAndKey>>,
    /// Made at first use.
    connector: RwLock<Option<TlsConnector>>,
}

impl Tls {
    /// Trusts these certificates, and no longer those of the system.
    pub(super) fn trust(&mut self, pem: &[u8]) -> Result<(), PatroniError> {
        const KEY: &str = "ca_certificate";
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        for certificate in certificates(KEY, pem)? {
            roots.add(certificate).map_err(|error| {
                PatroniError::certificate(KEY, "is not a usable CA certificate", error)
            })?;
        }
        self.connector = RwLock::default();
        Ok(())
    }

    /// Presents this certificate to whoever asks for one.
    pub(super) fn present(&mut self, chain: &[u8], key: &[u8]) -> Result<(), PatroniError> {
        const KEY: &str = "client_certificate";
        let chain = certificates(KEY, chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| PatroniError::certificate(KEY, "its key is not PEM", error))?;
        let client = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| PatroniError::certificate(KEY, "is not usable", error))?;
        self.client = Some(Arc::new(SingleCertAndKey::from(client)));
        self.connector = RwLock::default();
        Ok(())
    }

    pub(super) fn has_client_certificate(&self) -> bool {
        self.client.is_some()
    }

    pub(super) async fn connector(&self) -> Result<TlsConnector, PatroniError> {
        let made = self.connector.read();
        if let Some(connector) = &*made.unwrap_or_else(PoisonError::into_inner) {
            return Ok(connector.clone());
        }
        let roots = match &self.roots {
            Some(roots) => roots.clone(),
            None => system_roots().await?,
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| PatroniError::certificate("tls", "is not usable", error))?
            .with_root_certificates(roots);
        let config = match &self.client {
            Some(client) => config.with_client_cert_resolver(client.clone()),
            None => config.with_no_client_auth(),
        };
        let connector = TlsConnector::from(Arc::new(config));
        let mut made = self
            .connector
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *made = Some(connector.clone());
        Ok(connector)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A company's own CA is where Patroni's certificates come from, and it is the system's store
/// that has such a CA: a list of the public ones, compiled in, would not help.
async fn system_roots() -> Result<RootCertStore, PatroniError> {
    const KEY: &str = "ca_certificate";
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let found = read.await.map_err(|error| {
        PatroniError::certificate(KEY, "the system's certificates can't be read", error)
    })?;
    let mut roots = RootCertStore::empty();
    // Systems keep certificates that no library understands.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(PatroniError::Certificate {
            key: KEY,
            problem: "the system has no CA certificates: give the one of Patroni".to_owned(),
            source: found.errors.into_iter().next().map(BoxError::from),
        });
    }
    Ok(roots)
}

fn certificates(
    key: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, PatroniError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| PatroniError::certificate(key, "is not PEM", error))?;
    if certificates.is_empty() {
        return Err(PatroniError::Certificate {
            key,
            problem: "holds no certificate: expected PEM, -----BEGIN CERTIFICATE-----".to_owned(),
            source: None,
        });
    }
    Ok(certificates)
}
