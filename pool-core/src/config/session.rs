//! What a session begins with, and how it is left to the next user.

use std::{error::Error as StdError, fmt, pin::Pin, sync::Arc};

use deadpool_postgres::RecyclingMethod;
use tokio_postgres::Client;

use super::{ConfigBuilder, ConfigError};

/// What every connection of a pool begins with, and what is done to one before it is handed out
/// again.
///
/// ```
/// use leadpool::{Config, config::Recycling};
///
/// let config = Config::builder("postgres://app@db1,db2/shop")
///     .session_setting("search_path", "shop, public")
///     .session_setting("lock_timeout", "2s")
///     .recycling(Recycling::Clean)
///     .build()?;
/// assert_eq!(config.session().settings.len(), 2);
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionSettings {
    /// Server settings of every connection of the pools, by name.
    ///
    /// They travel with the start-up message, as
    /// [`options`](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS)
    /// do, so they cost no round trip, and a `RESET` leads back to them. They count more than `options` of the connection
    /// string, which count more than `ALTER ROLE .. SET`. The monitor's connections have none of
    /// them. A name is letters, digits, `_`, `$`, and dots between parts; `client_encoding` can't
    /// be set. Default: none.
    pub settings: Vec<(String, String)>,
    /// What is done to a connection that was used before, when it is about to be handed out again.
    ///
    /// All but [`Recycling::Fast`] take a round trip at each checkout, and
    /// [`connect_timeout`](super::PoolSettings::connect_timeout) at most: a connection that needs
    /// longer is closed, and another taken. Which dirt is seen by the next user under which policy:
    /// see [the manual](crate::manual::session). Default [`Recycling::Fast`], as in
    /// deadpool-postgres.
    pub recycling: Recycling,
    /// How many events a [`Listener`](crate::Listener) holds for a slow reader before it drops
    /// what comes, and says so.
    ///
    /// A notification has 8000 bytes at most. Minimum 1. Default 1024.
    pub listener_capacity: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            recycling: Recycling::Fast,
            listener_capacity: 1024,
        }
    }
}

/// The values may be secrets of the application.
impl fmt::Debug for SessionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.iter().map(|(name, _)| name).collect();
        f.debug_struct("SessionSettings")
            .field("settings", &names)
            .field("recycling", &self.recycling)
            .field("listener_capacity", &self.listener_capacity)
            .finish()
    }
}

/// What is done to a used connection before it is handed out again: the policies of
/// deadpool-postgres under its names.
///
/// Every one but [`Fast`](Self::Fast) also ends a transaction that was left open, which those of
/// deadpool-postgres do not: an open one is rolled back, a failed one closes the connection.
///
/// ```
/// use leadpool::config::Recycling;
///
/// let policy = Recycling::from(deadpool_postgres::RecyclingMethod::Clean);
/// assert_eq!(policy, Recycling::Clean);
/// ```
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Recycling {
    /// Nothing is asked: who finds the connection open gets it as it was left, for no round trip.
    #[default]
    Fast,
    /// Everything is undone but prepared statements, which the driver goes on using: cursors,
    /// roles, settings, LISTEN, advisory locks, temporary tables, sequences.
    Clean,
    /// The server is asked whether it is there.
    Verified,
    /// These statements are sent, in one message.
    ///
    /// `DISCARD ALL` and `DEALLOCATE ALL` are refused: they take away statements that the driver
    /// goes on using.
    Own(String),
}

impl Recycling {
    /// What is sent; `None` if nothing is.
    pub(crate) fn sql(&self) -> Option<&str> {
        match self {
            Self::Fast => None,
            Self::Verified => Some(""),
            Self::Clean => RecyclingMethod::Clean.query(),
            Self::Own(sql) => Some(sql),
        }
    }
}

/// The statements may hold secrets of the application.
impl fmt::Debug for Recycling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "Fast",
            Self::Clean => "Clean",
            Self::Verified => "Verified",
            Self::Own(_) => "Own(..)",
        })
    }
}

impl From<RecyclingMethod> for Recycling {
    fn from(method: RecyclingMethod) -> Self {
        match method {
            RecyclingMethod::Fast => Self::Fast,
            RecyclingMethod::Verified => Self::Verified,
            RecyclingMethod::Clean => Self::Clean,
            RecyclingMethod::Custom(sql) => Self::Own(sql),
        }
    }
}

/// What a hook of [`ConfigBuilder::on_connect`] returns.
pub type HookFuture<'a> =
    Pin<Box<dyn Future<Output = Result<(), Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

type HookFn = dyn for<'a> Fn(&'a mut Client) -> HookFuture<'a> + Send + Sync;

/// What an application does on every new connection.
#[derive(Clone)]
pub(crate) struct ConnectHook(Arc<HookFn>);

impl ConnectHook {
    pub(crate) fn run<'a>(&self, client: &'a mut Client) -> HookFuture<'a> {
        (self.0)(client)
    }
}

impl fmt::Debug for ConnectHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectHook").finish_non_exhaustive()
    }
}

impl ConfigBuilder {
    /// Adds to [`SessionSettings::settings`]. Of two with one name the later counts.
    pub fn session_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        let settings = &mut self.session.settings;
        settings.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        settings.push((name, value));
        self
    }

    /// Does something on every new connection of the pools, before anybody gets it: several hooks
    /// one after the other, in the order in which they were added.
    ///
    /// They run after the host's role has been checked, within the connect timeout, and on writers
    /// and readers alike. If one fails, or does not end in time, the connection is closed. An
    /// error of the server that waiting may cure is waited out, like one at login; any other ends
    /// the checkout with [`Error::Connect`](crate::Error::Connect), which holds it.
    ///
    /// What is no more than a setting should be a [`session_setting`](Self::session_setting): it
    /// costs no round trip, and [`Recycling::Clean`] leads back to it, while it undoes what a hook
    /// has set.
    ///
    /// ```
    /// use leadpool::Config;
    ///
    /// let config = Config::builder("postgres://app@db1,db2/shop")
    ///     .on_connect(|client| {
    ///         Box::pin(async move {
    ///             client.batch_execute("CREATE TEMP TABLE cart (item bigint)").await?;
    ///             Ok(())
    ///         })
    ///     })
    ///     .build()?;
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    pub fn on_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut Client) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.on_connect.push(ConnectHook(Arc::new(hook)));
        self
    }
}

/// What PostgreSQL takes as a setting's name, and what the driver can live with.
pub(crate) fn check_setting(key: &str, name: &str, value: &str) -> Result<(), ConfigError> {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
    };
    if !name.split('.').all(is_part) {
        return Err(ConfigError::invalid(
            key,
            format!(
                "{name:?} is no name of a setting: letters, digits, _ and $, with dots between parts"
            ),
        ));
    }
    if name.eq_ignore_ascii_case("client_encoding") {
        return Err(ConfigError::invalid(
            key,
            "client_encoding stays UTF8, which is what Rust's strings are",
        ));
    }
    if value.contains('\0') {
        return Err(ConfigError::invalid(
            key,
            format!("the value of {name} contains a NUL character"),
        ));
    }
    Ok(())
}

impl SessionSettings {
    /// The start-up message's `options` with these settings behind those of the connection
    /// string. White space separates arguments there unless a backslash stands before it
    /// ([PostgreSQL documentation, section 34.1.2](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS)).
    pub(crate) fn options(&self, before: Option<&str>) -> Option<String> {
        if self.settings.is_empty() {
            return None;
        }
        let mut options = before.unwrap_or_default().to_owned();
        for (name, value) in &self.settings {
            if !options.is_empty() {
                options.push(' ');
            }
            options.push_str("-c ");
            options.push_str(name);
            options.push('=');
            for c in value.chars() {
                // The server's `isspace`, which knows no others.
                if c == '\\' || matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') {
                    options.push('\\');
                }
                options.push(c);
            }
        }
        Some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn settings_become_options() {
        let text = "host=db1 options='-c work_mem=64kB'";
        let config = Config::builder(text)
            .session_setting("search_path", "a b, \"c\\d\"")
            .session_setting("app.tenant", "1")
            .session_setting("App.Tenant", "")
            .build()
            .unwrap();
        let options = config.session().options(Some("-c work_mem=64kB")).unwrap();
        assert_eq!(
            options,
            "-c work_mem=64kB -c search_path=a\\ b,\\ \"c\\\\d\" -c App.Tenant="
        );
        assert!(!format!("{config:?}").contains("a b"));
        assert_eq!(SessionSettings::default().options(Some("-c a=1")), None);
    }

    #[test]
    fn mistakes_name_the_key() {
        let names = [
            "",
            ".",
            "a.",
            ".a",
            "a b",
            "a=b",
            "1a",
            "a-b",
            "ä",
            "client_encoding",
        ];
        for name in names {
            let builder = Config::builder("host=db1").session_setting(name, "x");
            let error = builder.build().unwrap_err();
            assert_eq!(error.key(), "session_setting", "{name}: {error}");
        }
        let builder = Config::builder("host=db1").session_setting("a", "x\0secret");
        let error = builder.build().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        for sql in ["", " ", "discard  all", "RESET ALL;\nDEALLOCATE\nALL", "\0"] {
            let policy = Recycling::Own(sql.into());
            let builder = Config::builder("host=db1").recycling(policy);
            let error = builder.build().unwrap_err();
            assert_eq!(error.key(), "recycling", "{sql}: {error}");
        }
    }

    #[test]
    fn policies_are_read_by_serde() {
        for (json, policy) in [
            ("\"fast\"", Recycling::Fast),
            ("\"clean\"", Recycling::Clean),
            ("\"verified\"", Recycling::Verified),
            (
                "{\"own\":\"RESET ALL\"}",
                Recycling::Own("RESET ALL".into()),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Recycling>(json).unwrap(), policy);
            assert_eq!(serde_json::to_string(&policy).unwrap(), json);
        }
    }
}
