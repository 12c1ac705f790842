//! With which role and password a connection is opened.

use tokio::time::timeout;

use crate::{
    config::Config,
    credentials::{CredentialError, CredentialRequest, Credentials},
    topology::HostAddr,
};

/// How much of the connect timeout a provider may use: less than all, so that its silence is not
/// taken for the host's.
const SHARE: f64 = 0.9;

/// How to log in on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// `None`: as the configuration says.
    credentials: Option<Credentials>,
}

impl Login {
    /// Asks the configuration's provider, if there is one: for the first time, or because the host
    /// `rejected` what it has said before. It is given up after most of the connect timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the provider's.
    pub(crate) async fn ask(
        config: &Config,
        host: &HostAddr,
        rejected: Option<Self>,
    ) -> Result<Self, CredentialError> {
        let Some(provider) = config.provider() else {
            return Ok(Self { credentials: None });
        };
        let named = |error| CredentialError::of(provider.name(), host, error);
        let user = match config.user() {
            Some(user) => user.to_owned(),
            // As the driver does.
            None => whoami::username().map_err(|error| {
                let why = format!("nobody says who logs in, set `user`: {error}");
                named(CredentialError::permanent(why).into())
            })?,
        };
        let dbname = config.dbname().unwrap_or(&user).to_owned();
        let mut request = CredentialRequest::new(host.clone(), user, dbname);
        request.rejected = rejected.and_then(|login| login.credentials);
        let limit = config.pool().connect_timeout.mul_f64(SHARE);
        match timeout(limit, provider.provide(&request)).await {
            Ok(provided) => Ok(Self {
                credentials: Some(provided.map_err(named)?),
            }),
            Err(_) => Err(named(format!("no answer within {limit:.1?}").into())),
        }
    }

    /// Whether there is a provider that could be asked for another.
    pub(crate) fn is_provided(&self) -> bool {
        self.credentials.is_some()
    }

    /// Tells the driver.
    pub(crate) fn fill_in(&self, driver: &mut tokio_postgres::Config) {
        let Some(Credentials { user, password, .. }) = &self.credentials else {
            return;
        };
        if let Some(user) = user {
            driver.user(user);
        }
        if let Some(password) = password {
            driver.password(password.expose());
        }
    }
}
