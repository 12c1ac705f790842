//! A provider made of a closure.

use std::{error::Error as StdError, fmt};

use super::{CredentialProvider, CredentialRequest, Credentials, Providing};

/// Makes a provider of an async closure or function.
///
/// It is called for each new connection: what is fetched over the network is best kept by the
/// closure until it expires. Errors as in [`CredentialProvider::provide`].
///
/// ```
/// use leadpool::{Config, credentials::{CredentialError, CredentialRequest, Credentials, from_fn}};
///
/// async fn from_vault(role: &str) -> Result<String, std::io::Error> {
///     Ok(format!("the password of {role}"))
/// }
///
/// let config = Config::builder("postgres://app@db1,db2/shop")
///     .credentials(from_fn(|request: CredentialRequest| async move {
///         let password = from_vault(&request.user).await?;
///         Ok(Credentials::password(password))
///     }))
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
pub fn from_fn<F, Fut>(function: F) -> FromFn<F>
where
    F: Fn(CredentialRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    FromFn { function }
}

/// What [`from_fn`] makes.
///
/// ```
/// use leadpool::credentials::{Credentials, from_fn};
///
/// let provider = from_fn(|_| async { Ok(Credentials::none()) });
/// assert_eq!(format!("{provider:?}"), "FromFn");
/// ```
#[derive(Clone)]
pub struct FromFn<F> {
    function: F,
}

impl<F, Fut> CredentialProvider for FromFn<F>
where
    F: Fn(CredentialRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    fn name(&self) -> &str {
        "the application"
    }

    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
        Box::pin((self.function)(request.clone()))
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}
