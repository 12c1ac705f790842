//! TLS towards Patroni.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, sign::SingleCertAndKey},
};

use super::PatroniError;
use crate::tls::{self, Unusable};

const CA: &str = "ca_certificate";
const CLIENT: &str = "client_certificate";

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
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        for certificate in tls::certificates(pem).map_err(unusable(CA))? {
            roots.add(certificate).map_err(|error| {
                PatroniError::certificate(CA, "is not a usable CA certificate", error)
            })?;
        }
        self.connector = RwLock::default();
        Ok(())
    }

    /// Presents this certificate to whoever asks for one.
    pub(super) fn present(&mut self, chain: &[u8], key: &[u8]) -> Result<(), PatroniError> {
        let chain = tls::certificates(chain).map_err(unusable(CLIENT))?;
        let key = tls::key(key).map_err(|error| {
            let problem = format!("its key {}", error.problem);
            unusable(CLIENT)(Unusable { problem, ..error })
        })?;
        let client = tls::certified(chain, key).map_err(unusable(CLIENT))?;
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
        let config = ClientConfig::builder_with_provider(tls::provider())
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

async fn system_roots() -> Result<RootCertStore, PatroniError> {
    let read = tokio::task::spawn_blocking(tls::system_roots);
    let found = read.await.map_err(|error| {
        PatroniError::certificate(CA, "the system's certificates can't be read", error)
    })?;
    found.map_err(unusable(CA))
}

fn unusable(key: &'static str) -> impl Fn(Unusable) -> PatroniError {
    move |Unusable { problem, source }| PatroniError::Certificate {
        key,
        problem,
        source,
    }
}
