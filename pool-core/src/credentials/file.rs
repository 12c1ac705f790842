//! A file that holds one password.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::{CredentialError, CredentialProvider, CredentialRequest, Credentials, Providing};

/// The password is the content of a file, read anew for each connection: a secret that Kubernetes,
/// Docker or a Vault agent mounts and rotates.
///
/// One line break at the end is not part of it. The file's permissions are not looked at: a mounted
/// secret is mostly readable for all of its container.
///
/// # Errors
///
/// A file that is missing or empty is a transient error, since not every tool replaces files in one
/// go; what can't be read, or is not UTF-8, is a permanent one. Both name the file.
///
/// ```
/// use leadpool::{Config, credentials::PasswordFile};
///
/// let config = Config::builder("postgres://app@db1,db2/shop")
///     .credentials(PasswordFile::new("/run/secrets/shop-db/password"))
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PasswordFile {
    path: PathBuf,
}

impl PasswordFile {
    /// Reads the file at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl CredentialProvider for PasswordFile {
    fn name(&self) -> &str {
        "a password file"
    }

    fn provide<'a>(&'a self, _: &'a CredentialRequest) -> Providing<'a> {
        let path = self.path.clone();
        Box::pin(async move {
            // A file system may hang, too.
            Ok(spawn_blocking(move || read(&path)).await??)
        })
    }
}

fn read(path: &Path) -> Result<Credentials, CredentialError> {
    let told = |problem: &str| format!("{} {problem}", path.display());
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => CredentialError::transient(told("does not exist")),
        ErrorKind::InvalidData => CredentialError::permanent(told("is not UTF-8")),
        _ => CredentialError::permanent(told(&format!("can't be read: {error}"))),
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err(CredentialError::transient(told("is empty"))),
        password => Ok(Credentials::password(password)),
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn one_line_break_is_no_part_of_the_password() {
        let path = env::temp_dir().join(format!("leadpool-password-{}", std::process::id()));
        for (text, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            (" sec ret \n\n", " sec ret \n"),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), Credentials::password(password));
        }
        for (bytes, problem, permanent) in [
            (b"".as_slice(), "is empty", false),
            (b"\n", "is empty", false),
            (b"\xff", "is not UTF-8", true),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.is_permanent(), permanent);
            let text = error.to_string();
            assert!(
                text.contains(problem) && text.contains("leadpool-password"),
                "{text}"
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(!read(&path).unwrap_err().is_permanent());
        assert!(read(&env::temp_dir()).unwrap_err().is_permanent());
    }
}
