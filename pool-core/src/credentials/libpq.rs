//! Where libpq looks for a password that the connection string does not have.

use std::env;

use super::{CredentialProvider, CredentialRequest, Credentials, PassFile, Providing};

/// `PGPASSWORD`, else the password file that `PGPASSFILE` names, else the user's own; each looked
/// at anew for each connection. None of them has to be there
/// ([PostgreSQL documentation, section 34.15](https://www.postgresql.org/docs/current/libpq-envars.html)).
#[derive(Debug, Default)]
pub(crate) struct LikeLibpq {
    file: PassFile,
}

impl CredentialProvider for LikeLibpq {
    fn name(&self) -> &str {
        "PGPASSWORD or the password file"
    }

    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
        match env::var("PGPASSWORD") {
            Ok(password) if !password.is_empty() => {
                Box::pin(async { Ok(Credentials::password(password)) })
            }
            _ => self.file.provide(request),
        }
    }
}
