//! Tokens of AWS IAM as passwords.
//!
//! [IAM database authentication](https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html).

mod cache;
mod token;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
};
use aws_types::SdkConfig;

use self::{
    cache::{Cache, Fresh, Key},
    token::Signing,
};
use super::{
    CredentialError, CredentialProvider, CredentialRequest, Credentials, Providing, Secret,
};
use crate::topology::{AwsEndpoint, HostAddr};

/// How long a token is used: it is valid for [15 minutes](token::VALID), and one of them is left
/// for clocks that differ, and for the way.
const KEPT: Duration = Duration::from_secs(14 * 60);

/// Logs in to Aurora, RDS and RDS Proxy with tokens of AWS IAM (feature `aws-iam`).
///
/// A token is made for each host, port, region and role. It is signed here, without a request to
/// AWS, with credentials from whatever `aws-config` finds, or any other
/// [`ProvideCredentials`]. It is used for 14 minutes of the 15 that it is valid, and never beyond
/// the end of the credentials that signed it. While one is being made, others wait for the same.
/// Open connections outlive their token; only new ones need another.
///
/// The region is that of the host's name, unless it is [set](Self::region); for names that tell
/// none it is that of the `SdkConfig`. A name of one's own (a CNAME) needs
/// [`endpoint`](Self::endpoint), since AWS accepts only tokens for its own names.
///
/// Tokens go over TLS only: `sslmode` must be `require` or more.
///
/// # Errors
///
/// Credentials that could not be fetched are a transient error; that there are none, or a region
/// that nobody tells, is a permanent one.
///
/// ```no_run
/// # async fn f(sdk: aws_types::SdkConfig) -> Result<(), Box<dyn std::error::Error>> {
/// use leadpool::{Config, credentials::AwsIam};
///
/// // let sdk = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
/// let url = "postgres://app@shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com/shop?sslmode=verify-full";
/// let config = Config::builder(url).credentials(AwsIam::from_sdk_config(&sdk)?).build()?;
/// # Ok(())
/// # }
/// ```
pub struct AwsIam {
    provider: SharedCredentialsProvider,
    /// Set by the application.
    region: Option<String>,
    /// Where neither the application nor the host's name says one.
    default_region: Option<String>,
    endpoint: Option<HostAddr>,
    cache: Cache,
    /// The time of day; tests have their own.
    now: fn() -> SystemTime,
}

impl AwsIam {
    /// Signs with the credentials of this provider.
    pub fn new(provider: impl ProvideCredentials + 'static) -> Self {
        Self {
            provider: SharedCredentialsProvider::new(provider),
            region: None,
            default_region: None,
            endpoint: None,
            cache: Cache::default(),
            now: SystemTime::now,
        }
    }

    /// Signs with the credentials of what `aws-config` has loaded.
    ///
    /// # Errors
    ///
    /// It has no provider of credentials.
    pub fn from_sdk_config(config: &SdkConfig) -> Result<Self, CredentialError> {
        let provider = config.credentials_provider().ok_or_else(|| {
            CredentialError::permanent(
                "the SdkConfig has no provider of credentials: load it with aws-config, or set one",
            )
        })?;
        let mut iam = Self::new(provider);
        iam.default_region = config.region().map(|region| region.as_ref().to_owned());
        Ok(iam)
    }

    /// The region of the hosts, whatever their names say.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Makes all tokens for this endpoint of AWS, under whatever name it is dialled.
    #[must_use]
    pub fn endpoint(mut self, endpoint: HostAddr) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    fn key(&self, request: &CredentialRequest) -> Result<Key, CredentialError> {
        let host = self.endpoint.as_ref().unwrap_or(&request.host);
        let of_name = || {
            let endpoint = AwsEndpoint::recognize(host.name())?;
            endpoint.region().map(str::to_owned)
        };
        let region = self.region.clone().or_else(of_name);
        let region = region.or_else(|| self.default_region.clone());
        let region = region.ok_or_else(|| {
            CredentialError::permanent(
                "neither the host's name nor the SDK tells the region: set it with \
                 `AwsIam::region`",
            )
        })?;
        Ok(Key {
            host: host.clone(),
            user: request.user.clone(),
            region,
        })
    }

    /// Fetches credentials and signs a token with them.
    async fn fetch(&self, key: &Key) -> Result<Fresh, CredentialError> {
        let identity = self.provider.provide_credentials().await;
        let identity = identity.map_err(refused)?;
        let now = (self.now)();
        let kept = match identity.expiry() {
            Some(end) => KEPT.min(end.duration_since(now).unwrap_or_default()),
            None => KEPT,
        };
        if kept.is_zero() {
            return Err(CredentialError::transient(
                "the credentials of AWS that would sign it have expired",
            ));
        }
        let token = Signing::for_database(&key.region)
            .token(&key.host, &key.user, identity, now)
            .map_err(CredentialError::permanent)?;
        Ok(Fresh {
            token: Secret::new(token),
            kept,
        })
    }
}

impl CredentialProvider for AwsIam {
    fn name(&self) -> &str {
        "AWS IAM"
    }

    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
        Box::pin(async {
            let key = self.key(request)?;
            let rejected = request.rejected.as_ref();
            let rejected = rejected.and_then(|rejected| rejected.password.as_ref());
            let fetch = || self.fetch(&key);
            let token = self.cache.get(&key, rejected, fetch).await?;
            Ok(Credentials::from(token))
        })
    }

    fn needs_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for AwsIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsIam")
            .field("region", &self.region)
            .field("default_region", &self.default_region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Whether the SDK may have credentials later.
fn refused(error: CredentialsError) -> CredentialError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            CredentialError::permanent(error)
        }
        _ => CredentialError::transient(error),
    }
}

#[cfg(test)]
mod tests;
