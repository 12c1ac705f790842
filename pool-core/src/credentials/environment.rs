//! A password in the process's environment.

use std::env::{self, VarError};

use super::{CredentialError, CredentialProvider, CredentialRequest, Credentials, Providing};

/// The password is the value of an environment variable, read anew for each connection.
///
/// `PGPASSWORD` needs none of this: it is looked at anyway when no password is given.
///
/// # Errors
///
/// A variable that is missing, empty or not UTF-8 is a permanent error that names it.
///
/// ```
/// use leadpool::{Config, credentials::Environment};
///
/// let config = Config::builder("postgres://app@db1,db2/shop")
///     .credentials(Environment::new("SHOP_DB_PASSWORD"))
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Environment {
    variable: String,
}

impl Environment {
    /// Reads the variable of this name.
    pub fn new(variable: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
        }
    }
}

impl CredentialProvider for Environment {
    fn name(&self) -> &str {
        "the environment"
    }

    fn provide<'a>(&'a self, _: &'a CredentialRequest) -> Providing<'a> {
        let variable = &self.variable;
        let problem = match env::var(variable) {
            Ok(password) if !password.is_empty() => {
                return Box::pin(async { Ok(Credentials::password(password)) });
            }
            Ok(_) => "is empty: put the password into it",
            Err(VarError::NotPresent) => "is not set: put the password into it",
            // The error itself would hold the value.
            Err(VarError::NotUnicode(_)) => "is not UTF-8",
        };
        let error = CredentialError::permanent(format!("the variable `{variable}` {problem}"));
        Box::pin(async { Err(error.into()) })
    }
}
