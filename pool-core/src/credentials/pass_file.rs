//! libpq's password file.
//!
//! [PostgreSQL documentation, section 34.16](https://www.postgresql.org/docs/current/libpq-pgpass.html).

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::spawn_blocking;

use super::{
    CredentialError, CredentialProvider, CredentialRequest, Credentials, Providing, Secret,
};
use crate::{topology::HostAddr, traces::rows};

/// libpq's default directory of Unix sockets: such hosts are looked up as `localhost`.
const SOCKETS: [&str; 2] = ["/tmp", "/var/run/postgresql"];

/// Passwords are those of libpq's password file, by host, port, database and role; the file is read
/// anew for each connection.
///
/// Each line is `host:port:database:role:password`. The first four are texts or `*`, which stands
/// for all; the first line that fits counts, so special ones go first. `\` stands before a `:` or
/// `\` that is meant as such. Lines that begin with `#` are comments. A host that no line is for is
/// logged in to without a password.
///
/// The file must be readable by its owner alone (0600).
///
/// Without a provider, and without a password in the configuration, the file that the environment
/// variable `PGPASSFILE` names is used, else `~/.pgpass`, as far as there is one; a file that
/// others may read is ignored then, with a warning.
///
/// # Errors
///
/// A named file that is missing is a transient error. One that others may read, or that can't be
/// read, is a permanent one. Both name the file.
///
/// ```
/// use leadpool::Config;
///
/// let config = Config::from_url("postgres://app@db1,db2/shop?passfile=/etc/shop/pgpass")?;
/// // or
/// let config = Config::builder("postgres://app@db1,db2/shop").passfile("/etc/shop/pgpass").build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PassFile {
    /// `None`: as the environment says, and nothing is missed if there is none.
    path: Option<PathBuf>,
    /// Whether somebody has been warned already.
    warned: Arc<AtomicBool>,
}

impl PassFile {
    /// Reads the file at this path, which must be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            warned: Arc::default(),
        }
    }

    fn find(&self, entry: &Entry) -> Result<Option<Secret>, CredentialError> {
        let Some(path) = &self.path else {
            return Ok(by_default().and_then(|path| self.find_by_default(&path, entry)));
        };
        match read(path) {
            Ok(text) => Ok(find(&text, entry)),
            Err(Problem::Missing) => Err(CredentialError::transient(format!(
                "`passfile` {} does not exist",
                path.display()
            ))),
            Err(Problem::Unusable(why)) => Err(CredentialError::permanent(format!(
                "`passfile` {} {why}",
                path.display()
            ))),
        }
    }

    /// The same in a file that the configuration does not name: it may be missing, or unusable.
    fn find_by_default(&self, path: &Path, entry: &Entry) -> Option<Secret> {
        match read(path) {
            Ok(text) => find(&text, entry),
            Err(Problem::Missing) => None,
            Err(Problem::Unusable(why)) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::event!(
                        name: rows::PASS_FILE_IGNORED.name,
                        target: rows::PASS_FILE_IGNORED.target,
                        rows::PASS_FILE_IGNORED.level,
                        { file.path = %path.display(), leadpool.problem = why },
                        "the password file is ignored"
                    );
                }
                None
            }
        }
    }
}

impl CredentialProvider for PassFile {
    fn name(&self) -> &str {
        "the password file"
    }

    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
        let (file, entry) = (self.clone(), Entry::of(request));
        Box::pin(async move {
            // A file system may hang, too: home directories are mostly far away.
            let password = spawn_blocking(move || file.find(&entry)).await??;
            Ok(password.map_or_else(Credentials::none, Credentials::from))
        })
    }
}

/// The file that `PGPASSFILE` names, else that of the user's home.
fn by_default() -> Option<PathBuf> {
    let named = env::var_os("PGPASSFILE").filter(|path| !path.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let (home, file) = match cfg!(windows) {
            true => ("APPDATA", "postgresql/pgpass.conf"),
            false => ("HOME", ".pgpass"),
        };
        Some(Path::new(&env::var_os(home)?).join(file))
    })
}

/// Why a file says nothing.
enum Problem {
    Missing,
    Unusable(String),
}

fn read(path: &Path) -> Result<String, Problem> {
    let unusable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Problem::Missing,
        _ => Problem::Unusable(format!("can't be read: {error}")),
    };
    let metadata = fs::metadata(path).map_err(unusable)?;
    if !metadata.is_file() {
        return Err(Problem::Unusable("is no plain file".to_owned()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Problem::Unusable(format!(
                "may be read by others (its mode is {mode:04o}): make it 0600"
            )));
        }
    }
    fs::read_to_string(path).map_err(unusable)
}

/// What a line must fit.
#[derive(Debug)]
struct Entry {
    fields: [String; 4],
}

impl Entry {
    fn of(request: &CredentialRequest) -> Self {
        Self {
            fields: [
                host_name(&request.host).to_owned(),
                request.host.port().to_string(),
                request.dbname.clone(),
                request.user.clone(),
            ],
        }
    }
}

fn host_name(host: &HostAddr) -> &str {
    match SOCKETS.contains(&host.name()) {
        true => "localhost",
        false => host.name(),
    }
}

/// The password of the first line that fits. An empty one is none, and ends the search, too.
fn find(text: &str, entry: &Entry) -> Option<Secret> {
    let lines = text.split('\n').filter(|line| !line.starts_with('#'));
    let mut fitting = lines.filter_map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut fields = Fields(Some(line));
        for (at, wanted) in entry.fields.iter().enumerate() {
            let field = fields.next()?;
            // Host names are kept in lower case here.
            let fits = match at {
                0 => field.text.eq_ignore_ascii_case(wanted),
                _ => field.text == *wanted,
            };
            if !fits && !field.is_wildcard {
                return None;
            }
        }
        Some(fields.next()?.text)
    });
    fitting
        .next()
        .filter(|password| !password.is_empty())
        .map(Secret::new)
}

/// One field of a line, without its backslashes.
struct Field {
    text: String,
    is_wildcard: bool,
}

/// What is left of a line.
struct Fields<'a>(Option<&'a str>);

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let line = self.0.take()?;
        let mut text = String::new();
        let mut chars = line.char_indices();
        let mut end = line.len();
        while let Some((at, c)) = chars.next() {
            match c {
                ':' => {
                    self.0 = Some(&line[at + 1..]);
                    end = at;
                    break;
                }
                '\\' => text.push(chars.next().map_or('\\', |(_, escaped)| escaped)),
                c => text.push(c),
            }
        }
        Some(Field {
            is_wildcard: &line[..end] == "*",
            text,
        })
    }
}

#[cfg(test)]
mod tests;
