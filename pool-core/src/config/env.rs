//! Settings from the environment.

use std::{collections::BTreeMap, ffi::OsString};

use super::{Config, ConfigError, Settings, conninfo, keys, knobs, service, value::Raw};

/// What leadpool's own variables begin with; the key follows, and further `__` go into tables.
const PREFIX: &str = "leadpool__";

/// What is done with a variable of libpq.
pub(super) enum Use {
    /// It is this key.
    Key(&'static str),
    /// It becomes a setting of the session, by way of `options`.
    Session(&'static str),
    /// It names a service, or says where services are described.
    Service,
    /// It is passed over, because of this, which the manual tells.
    Ignored(
        #[cfg_attr(not(test), expect(dead_code, reason = "for the manual's table"))] &'static str,
    ),
}

/// Every variable of
/// [section 34.15](https://www.postgresql.org/docs/current/libpq-envars.html).
pub(super) const VARIABLES: &[(&str, Use)] = &[
    ("PGHOST", Use::Key("host")),
    ("PGSSLNEGOTIATION", Use::Key("sslnegotiation")),
    ("PGHOSTADDR", Use::Key("hostaddr")),
    ("PGPORT", Use::Key("port")),
    ("PGDATABASE", Use::Key("dbname")),
    ("PGUSER", Use::Key("user")),
    ("PGPASSWORD", Use::Key("password")),
    ("PGPASSFILE", Use::Key("passfile")),
    ("PGREQUIREAUTH", Use::Key("require_auth")),
    ("PGCHANNELBINDING", Use::Key("channel_binding")),
    ("PGOPTIONS", Use::Key("options")),
    ("PGAPPNAME", Use::Key("application_name")),
    ("PGSSLMODE", Use::Key("sslmode")),
    ("PGREQUIRESSL", Use::Key("requiressl")),
    ("PGSSLCERT", Use::Key("sslcert")),
    ("PGSSLKEY", Use::Key("sslkey")),
    ("PGSSLCERTMODE", Use::Key("sslcertmode")),
    ("PGSSLROOTCERT", Use::Key("sslrootcert")),
    ("PGSSLCRL", Use::Key("sslcrl")),
    ("PGSSLCRLDIR", Use::Key("sslcrldir")),
    ("PGSSLSNI", Use::Key("sslsni")),
    (
        "PGSSLMINPROTOCOLVERSION",
        Use::Key("ssl_min_protocol_version"),
    ),
    (
        "PGSSLMAXPROTOCOLVERSION",
        Use::Key("ssl_max_protocol_version"),
    ),
    ("PGREQUIREPEER", Use::Key("requirepeer")),
    ("PGCONNECT_TIMEOUT", Use::Key("connect_timeout")),
    ("PGCLIENTENCODING", Use::Key("client_encoding")),
    ("PGTARGETSESSIONATTRS", Use::Key("target_session_attrs")),
    ("PGLOADBALANCEHOSTS", Use::Key("load_balance_hosts")),
    ("PGMINPROTOCOLVERSION", Use::Key("min_protocol_version")),
    ("PGMAXPROTOCOLVERSION", Use::Key("max_protocol_version")),
    ("PGDATESTYLE", Use::Session("datestyle")),
    ("PGTZ", Use::Session("timezone")),
    ("PGGEQO", Use::Session("geqo")),
    ("PGSERVICE", Use::Service),
    ("PGSERVICEFILE", Use::Service),
    ("PGSYSCONFDIR", Use::Service),
    (
        "PGGSSENCMODE",
        Use::Ignored("there is no GSSAPI here; `sslmode` says what must be encrypted"),
    ),
    ("PGGSSDELEGATION", Use::Ignored("there is no GSSAPI here")),
    ("PGGSSLIB", Use::Ignored("there is no GSSAPI here")),
    ("PGKRBSRVNAME", Use::Ignored("there is no GSSAPI here")),
    (
        "PGSSLCOMPRESSION",
        Use::Ignored("TLS has no compression any more"),
    ),
    (
        "PGLOCALEDIR",
        Use::Ignored("leadpool's errors are not translated"),
    ),
];

impl Config {
    /// Reads everything from the environment: see [`Settings::with_env`].
    ///
    /// Nothing else reads it: what [`from_url`](Self::from_url) leaves out has leadpool's defaults,
    /// whatever `PGUSER` may say.
    ///
    /// # Errors
    ///
    /// The first mistake found; it names the variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Settings::from_env().build()
    }
}

impl Settings {
    /// The settings of the environment: see [`with_env`](Self::with_env).
    #[must_use]
    pub fn from_env() -> Self {
        Self::default().with_env()
    }

    /// Adds what the environment of the process says. Each line counts more than those below it:
    ///
    /// 1. leadpool's own variables: `LEADPOOL__` and a key, `LEADPOOL__WRITER_SIZE=32`. They
    ///    override what is set here already, so that an operator can change what a file says.
    /// 2. What is set here already, by fields, and below them by the `url`.
    /// 3. `DATABASE_URL`, which is read only where there is no `url`, `host` or `hostaddr` yet.
    /// 4. The service of `PGSERVICE`, from `PGSERVICEFILE`, `~/.pg_service.conf` or
    ///    `$PGSYSCONFDIR/pg_service.conf`. Blocks while it reads a file.
    /// 5. libpq's variables, `PGHOST` and so on. An empty one is as one that is not set.
    ///
    /// Which variables there are: see [the manual](crate::manual::configuration).
    ///
    /// ```
    /// use leadpool::config::Settings;
    ///
    /// let mut settings = Settings::default();
    /// settings.url = Some("postgres://app@db1,db2/shop".to_owned());
    /// let config = settings.with_env().build()?;
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_env(self) -> Self {
        self.with_vars(std::env::vars_os())
    }

    /// As [`with_env`](Self::with_env), with an environment of the caller's.
    ///
    /// ```
    /// use leadpool::config::Settings;
    ///
    /// let variables = [("PGHOST", "db1,db2"), ("PGUSER", "app"), ("LEADPOOL__WRITER_SIZE", "32")];
    /// let config = Settings::default().with_vars(variables).build()?;
    /// assert_eq!(config.hosts().len(), 2);
    /// assert_eq!(config.pool().writer_size, 32);
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_vars<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        // What is no text has nothing to say to leadpool, unless its name is one of ours.
        let variables = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into().into_string().ok()?;
            Some((name, value.into()))
        });
        let env = Env(variables.collect());
        self.override_with(env.own_settings());
        let read = self.fill_from(&env);
        self.mistake = self.mistake.take().or_else(|| read.err());
        self
    }

    fn fill_from(&mut self, env: &Env) -> Result<(), ConfigError> {
        let is_host = |key: &str| ["url", "host", "hostaddr"].contains(&key);
        if !self.given().iter().any(|(key, _)| is_host(key)) {
            if let Some(url) = env.text("DATABASE_URL")? {
                self.fill("url", url, "DATABASE_URL")?;
            }
        }
        let url = self.url.as_deref().unwrap_or_default();
        let pairs = conninfo::parse(url, keys::check).unwrap_or_default();
        let mut said: Vec<String> = pairs.into_iter().map(|(key, _)| key).collect();
        said.extend(self.given().into_iter().map(|(key, _)| key.to_owned()));
        let is_said = |key: &str| {
            let is_rival = |known: &String| {
                let (a, b) = (known.as_str(), key);
                knobs::RIVALS.contains(&(a, b)) || knobs::RIVALS.contains(&(b, a))
            };
            said.iter().any(|known| known == key || is_rival(known))
        };
        let of_service = service::read(env)?;
        for (key, value) in &of_service {
            if !is_said(key) {
                self.fill(key, value.clone(), &format!("PGSERVICE: {key}"))?;
            }
        }
        let mut session = String::new();
        for (name, used) in VARIABLES {
            match used {
                Use::Key(key)
                    if !is_said(key) && !of_service.iter().any(|(known, _)| known == key) =>
                {
                    if let Some(value) = env.text(name)? {
                        self.fill(key, value, name)?;
                    }
                }
                Use::Session(setting) => {
                    if let Some(value) = env.text(name)? {
                        session.push_str(&format!(" -c {setting}={}", escape(&value)));
                    }
                }
                // To be told to encrypt is not passed over.
                Use::Ignored(_) if *name == "PGGSSENCMODE" => {
                    if env.text(name)?.as_deref() == Some("require") {
                        return Err(
                            keys::refuse("gssencmode").of_variable(|_| Some((*name).to_owned()))
                        );
                    }
                }
                Use::Key(_) | Use::Service | Use::Ignored(_) => {}
            }
        }
        self.add_options(&session);
        Ok(())
    }

    fn fill(&mut self, key: &str, value: String, variable: &str) -> Result<(), ConfigError> {
        self.variables.insert(key.to_owned(), variable.to_owned());
        let set = self.set(key, &Raw::Text(value));
        set.map_err(|error| error.of_variable(|_| Some(variable.to_owned())))
    }

    /// The server reads them from left to right, and libpq sends these after the options.
    fn add_options(&mut self, session: &str) {
        if session.is_empty() {
            return;
        }
        let url = self.url.as_deref().unwrap_or_default();
        let of_url = conninfo::parse(url, keys::check).unwrap_or_default();
        let of_url = of_url.into_iter().find(|(key, _)| key == "options");
        let options = self
            .options
            .take()
            .or_else(|| of_url.map(|(_, value)| value));
        let options = format!("{}{session}", options.unwrap_or_default());
        self.options = Some(options.trim_start().to_owned());
    }
}

/// A space or a backslash within one of the server's command-line options.
fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for c in value.chars() {
        if c == '\\' || c.is_whitespace() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The variables.
pub(super) struct Env(BTreeMap<String, OsString>);

impl Env {
    /// What a variable says; nothing if it is empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.0.get(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) if text.contains('\0') => {
                    Err(ConfigError::invalid(name, "can't hold a zero byte"))
                }
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(ConfigError::invalid(name, "is not UTF-8")),
            },
        }
    }

    /// What leadpool's own variables say.
    fn own_settings(&self) -> Settings {
        let mut settings = Settings::default();
        let mut entries: Vec<(String, (String, Raw))> = Vec::new();
        for (name, value) in &self.0 {
            let lower = name.to_ascii_lowercase();
            let Some(path) = lower.strip_prefix(PREFIX) else {
                continue;
            };
            let Some(value) = value.to_str() else {
                let mistake = ConfigError::invalid(name, "is not UTF-8");
                settings.mistake.get_or_insert(mistake);
                continue;
            };
            let value = Raw::Text(value.to_owned());
            match path.split_once("__") {
                None => entries.push((path.to_owned(), (name.clone(), value))),
                Some((key, inner)) => {
                    let inner = (inner.to_owned(), value);
                    let table = entries.iter_mut().find_map(|(known, (_, raw))| match raw {
                        Raw::Map(pairs) if known == key => Some(pairs),
                        _ => None,
                    });
                    match table {
                        Some(pairs) => pairs.push(inner),
                        None => {
                            let entry = (name.clone(), Raw::Map(vec![inner]));
                            entries.push((key.to_owned(), entry));
                        }
                    }
                }
            }
        }
        for (key, (name, raw)) in entries {
            settings.variables.insert(key.clone(), name.clone());
            if let Err(mistake) = settings.set(&key, &raw) {
                let mistake = mistake.of_variable(|_| Some(name.clone()));
                settings.mistake.get_or_insert(mistake);
            }
        }
        settings
    }
}
