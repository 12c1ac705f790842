//! From a configuration of tokio-postgres.

use tokio_postgres::config::{
    ChannelBinding, Host, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs,
};

use super::{Config, ConfigBuilder, ConfigError, keys};

impl Config {
    /// Takes over what a configuration of tokio-postgres says, with leadpool's defaults for
    /// everything else.
    ///
    /// What it has from [`tokio_postgres::Config::new`] counts as not said: for instance `Any` of
    /// `target_session_attrs`, so that the writer is asked for, and keepalives after two hours.
    /// A host must be named. `connect_timeout` bounds a whole attempt here, login included.
    ///
    /// ```
    /// use leadpool::{Config, tokio_postgres};
    ///
    /// let driver: tokio_postgres::Config = "host=db1,db2 user=app dbname=shop".parse()?;
    /// let config = Config::from_tokio_postgres(&driver)?.build()?;
    /// assert_eq!(config.hosts().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A value has no counterpart; the error names libpq's key for it.
    pub fn from_tokio_postgres(
        config: &tokio_postgres::Config,
    ) -> Result<ConfigBuilder, ConfigError> {
        let unset = tokio_postgres::Config::new();
        let mut said = Said::default();
        said.text("user", config.get_user());
        if let Some(password) = config.get_password() {
            let password = std::str::from_utf8(password)
                .map_err(|_| ConfigError::invalid("password", "is not UTF-8"))?;
            said.text("password", Some(password));
        }
        said.text("dbname", config.get_dbname());
        said.text("options", config.get_options());
        said.text("application_name", config.get_application_name());
        let hosts = config.get_hosts().iter().map(host_name);
        said.list("host", hosts.collect::<Result<_, _>>()?)?;
        said.list(
            "hostaddr",
            config
                .get_hostaddrs()
                .iter()
                .map(ToString::to_string)
                .collect(),
        )?;
        said.list(
            "port",
            config.get_ports().iter().map(ToString::to_string).collect(),
        )?;
        if config.get_ssl_mode() != unset.get_ssl_mode() {
            said.text("sslmode", Some(ssl_mode(config.get_ssl_mode())?));
        }
        if config.get_ssl_negotiation() != unset.get_ssl_negotiation() {
            said.text(
                "sslnegotiation",
                Some(ssl_negotiation(config.get_ssl_negotiation())?),
            );
        }
        if config.get_target_session_attrs() != unset.get_target_session_attrs() {
            said.text(
                "target_session_attrs",
                Some(target(config.get_target_session_attrs())?),
            );
        }
        if config.get_channel_binding() != unset.get_channel_binding() {
            said.text(
                "channel_binding",
                Some(channel_binding(config.get_channel_binding())?),
            );
        }
        if config.get_load_balance_hosts() != unset.get_load_balance_hosts() {
            said.text(
                "load_balance_hosts",
                Some(load_balance_hosts(config.get_load_balance_hosts())?),
            );
        }
        let mut builder = said.builder()?;
        if let Some(timeout) = config.get_connect_timeout() {
            builder = builder.connect_timeout(*timeout);
        }
        let tcp = &mut builder.tcp;
        tcp.keepalives = config.get_keepalives();
        if config.get_keepalives_idle() != unset.get_keepalives_idle() {
            tcp.keepalives_idle = config.get_keepalives_idle();
        }
        tcp.keepalives_interval = config
            .get_keepalives_interval()
            .unwrap_or(tcp.keepalives_interval);
        tcp.keepalives_retries = config
            .get_keepalives_retries()
            .unwrap_or(tcp.keepalives_retries);
        tcp.user_timeout = config
            .get_tcp_user_timeout()
            .copied()
            .unwrap_or(tcp.user_timeout);
        Ok(builder)
    }
}

/// libpq's keys that something was said of.
#[derive(Default)]
pub(super) struct Said(Vec<(String, String)>);

impl Said {
    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        self.0
            .extend(value.map(|value| (key.to_owned(), value.to_owned())));
    }

    pub(super) fn list(&mut self, key: &str, items: Vec<String>) -> Result<(), ConfigError> {
        if items.iter().any(|item| item.contains(',')) {
            return Err(ConfigError::invalid(key, "a name can't hold a comma"));
        }
        if !items.is_empty() {
            self.text(key, Some(&items.join(",")));
        }
        Ok(())
    }

    /// What is said here counts more than the pairs of a connection string.
    pub(super) fn over(mut self, pairs: Vec<(String, String)>) -> Self {
        for (key, value) in pairs {
            if !self.0.iter().any(|(known, _)| *known == key) {
                self.0.push((key, value));
            }
        }
        self
    }

    pub(super) fn builder(self) -> Result<ConfigBuilder, ConfigError> {
        let mut builder = ConfigBuilder::new("");
        for (key, value) in &self.0 {
            keys::check(key)?;
            if value.contains('\0') {
                return Err(ConfigError::invalid(key, "can't hold a zero byte"));
            }
        }
        builder.read_pairs(self.0)?;
        Ok(builder)
    }
}

fn host_name(host: &Host) -> Result<String, ConfigError> {
    match host {
        Host::Tcp(name) => Ok(name.clone()),
        #[cfg(unix)]
        Host::Unix(path) => match path.to_str() {
            Some(path) => Ok(path.to_owned()),
            None => Err(ConfigError::invalid(
                "host",
                "the path of a socket is not UTF-8",
            )),
        },
    }
}

/// A value of an enum that may grow, and that leadpool does not know yet.
fn newer(key: &str) -> ConfigError {
    ConfigError::invalid(
        key,
        "is a value that this version of leadpool does not know",
    )
}

pub(super) fn ssl_mode(mode: SslMode) -> Result<&'static str, ConfigError> {
    match mode {
        SslMode::Disable => Ok("disable"),
        SslMode::Prefer => Ok("prefer"),
        SslMode::Require => Ok("require"),
        _ => Err(newer("sslmode")),
    }
}

fn ssl_negotiation(negotiation: SslNegotiation) -> Result<&'static str, ConfigError> {
    match negotiation {
        SslNegotiation::Postgres => Ok("postgres"),
        SslNegotiation::Direct => Ok("direct"),
        _ => Err(newer("sslnegotiation")),
    }
}

pub(super) fn target(target: TargetSessionAttrs) -> Result<&'static str, ConfigError> {
    match target {
        TargetSessionAttrs::Any => Ok("any"),
        TargetSessionAttrs::ReadWrite => Ok("read-write"),
        TargetSessionAttrs::ReadOnly => Ok("read-only"),
        _ => Err(newer("target_session_attrs")),
    }
}

pub(super) fn channel_binding(binding: ChannelBinding) -> Result<&'static str, ConfigError> {
    match binding {
        ChannelBinding::Disable => Ok("disable"),
        ChannelBinding::Prefer => Ok("prefer"),
        ChannelBinding::Require => Ok("require"),
        _ => Err(newer("channel_binding")),
    }
}

pub(super) fn load_balance_hosts(how: LoadBalanceHosts) -> Result<&'static str, ConfigError> {
    match how {
        LoadBalanceHosts::Disable => Ok("disable"),
        LoadBalanceHosts::Random => Ok("random"),
        _ => Err(newer("load_balance_hosts")),
    }
}
