//! Settings: connection strings, builder, knobs.

mod access;
mod aws;
mod builder;
mod check;
mod conninfo;
mod data;
mod duration;
mod env;
mod error;
mod from_deadpool;
mod from_tokio;
mod host_pattern;
mod keys;
mod knobs;
mod libpq;
mod limits;
mod milliseconds;
mod observe;
mod service;
mod session;
mod settings;
mod tls;
mod value;

use std::{net::IpAddr, str::FromStr, sync::Arc};

use tokio_postgres::config::ChannelBinding;

use access::Access;
pub use builder::ConfigBuilder;
use builder::{Login, Tcp};
pub use data::Settings;
#[cfg(feature = "web")]
pub(crate) use duration::read as read_duration;
pub use error::ConfigError;
pub use host_pattern::{HostPattern, InvalidPattern};
pub(crate) use libpq::hosts_of_conninfo;
pub use limits::LimitSettings;
pub(crate) use milliseconds::Milliseconds;
pub use observe::ObserveSettings;
pub(crate) use session::{ConnectHook, check_setting};
pub use session::{HookFuture, Recycling, SessionSettings};
pub use settings::{ContestedPolicy, HostSettings, MonitorSettings, PoolSettings, TxSettings};

pub use crate::tls::{
    RootCert, SslCertMode, SslMode, SslNegotiation, TlsSettings, TlsVersion, UnknownSslWord,
};
pub use crate::topology::{
    AwsEndpoint, EndpointKind, FailoverMode, InstancePattern, InvalidInstanceId,
    InvalidInstancePattern, UnknownTarget,
};
use crate::{
    routing::ReaderStrategy,
    tls::Files,
    topology::{FoundHost, HostAddr, Target},
};

/// A checked configuration.
///
/// # Connection strings
///
/// libpq's, in both forms, with several hosts:
///
/// ```
/// use leadpool::Config;
///
/// let url = Config::from_url("postgres://app:secret@db1,db2:5433/shop?connect_timeout=3")?;
/// let dsn = Config::from_url("host=db1,db2 port=5432,5433 user=app password=secret dbname=shop")?;
/// assert_eq!(url.hosts(), dsn.hosts());
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
///
/// Different from libpq:
/// - at least one host must be named;
/// - without `target_session_attrs` the writer is asked for;
/// - `connect_timeout` covers one whole attempt, login included, and can't be switched off;
/// - keepalives begin after 5 s of silence, every second, 3 times, and `tcp_user_timeout`
///   (milliseconds) is 10 s;
/// - an unknown, unsupported or repeated key is an error;
/// - in a URL, an `@` behind the hosts must be written as `%40` when there is one before them: it
///   may belong to a password that was not escaped;
/// - `require_auth` is refused with a Unix socket, and without TLS the driver's own cancel requests
///   do not work with it;
/// - `load_balance_hosts` says how readers are picked: `random` any one, `disable` the first usable
///   one in the list. Without it each in its turn. The writer is always the one that there is.
#[derive(Clone, Debug)]
pub struct Config {
    names: Vec<HostAddr>,
    hosts: Vec<(HostAddr, Option<IpAddr>)>,
    login: Login,
    access: Access,
    tcp: Tcp,
    tls: TlsSettings,
    tls_files: Option<Arc<Files>>,
    target: Target,
    host_settings: HostSettings,
    reader_strategy: Arc<dyn ReaderStrategy>,
    pool: PoolSettings,
    limits: LimitSettings,
    monitor: MonitorSettings,
    tx: TxSettings,
    observe: ObserveSettings,
    session: SessionSettings,
    on_connect: Vec<ConnectHook>,
}

impl Config {
    /// Reads a libpq connection string: a URL or a keyword/value list.
    ///
    /// # Errors
    ///
    /// The first mistake found; it names the key, never the password.
    pub fn from_url(conninfo: &str) -> Result<Self, ConfigError> {
        Self::builder(conninfo).build()
    }

    /// Reads a connection string and lets more be set. A mistake in it is told by
    /// [`ConfigBuilder::build`].
    pub fn builder(conninfo: &str) -> ConfigBuilder {
        ConfigBuilder::new(conninfo)
    }

    /// The hosts, in order.
    #[must_use]
    pub fn hosts(&self) -> &[HostAddr] {
        &self.names
    }

    /// What [`Pool::get`](crate::Pool::get) asks for.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Which hosts may join, and what is known of them beforehand.
    #[must_use]
    pub fn host_settings(&self) -> &HostSettings {
        &self.host_settings
    }

    /// What picks one of several readers.
    #[must_use]
    pub fn reader_strategy(&self) -> &dyn ReaderStrategy {
        &*self.reader_strategy
    }

    /// How large sub-pools are, and how long a checkout may take.
    #[must_use]
    pub fn pool(&self) -> &PoolSettings {
        &self.pool
    }

    /// How many connections are kept, how long they live, and how many checkouts may wait.
    #[must_use]
    pub fn limits(&self) -> &LimitSettings {
        &self.limits
    }

    /// How hosts are watched.
    #[must_use]
    pub fn monitor(&self) -> &MonitorSettings {
        &self.monitor
    }

    /// How often and how long `run_tx` tries.
    #[must_use]
    pub fn tx(&self) -> &TxSettings {
        &self.tx
    }

    /// How the pool shows itself in metrics, spans and its status.
    #[must_use]
    pub fn observe(&self) -> &ObserveSettings {
        &self.observe
    }

    /// The name under which metrics, spans and the status show the pool: see
    /// [`ObserveSettings::pool_name`].
    #[must_use]
    pub fn pool_name(&self) -> &str {
        let application = self.login.application_name.as_deref();
        let name = self.observe.pool_name.as_deref().or(application);
        name.filter(|name| !name.is_empty()).unwrap_or("leadpool")
    }

    /// How connections are encrypted.
    #[must_use]
    pub fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    /// Whether they are: the mode that counts, with libpq's defaults put in.
    #[must_use]
    pub fn ssl_mode(&self) -> SslMode {
        self.tls.mode()
    }

    /// What TLS is made of; `None` where it is switched off.
    pub(crate) fn tls_files(&self) -> Option<&Arc<Files>> {
        self.tls_files.as_ref()
    }

    pub(crate) fn requires_channel_binding(&self) -> bool {
        self.login.channel_binding == Some(ChannelBinding::Require)
    }

    /// What every connection of a pool begins with, and how it is left to the next user.
    #[must_use]
    pub fn session(&self) -> &SessionSettings {
        &self.session
    }

    /// What the application does on every new connection of a pool, in order.
    pub(crate) fn on_connect(&self) -> &[ConnectHook] {
        &self.on_connect
    }

    /// Whether a host may be given credentials by this configuration.
    pub(crate) fn allows(&self, host: &HostAddr) -> bool {
        self.names.contains(host)
            || self
                .host_settings
                .allowed_hosts
                .iter()
                .any(|pattern| pattern.matches(host))
    }

    /// Adds what the configuration says of a host; it counts more than what a discovery says.
    pub(crate) fn complete(&self, host: &mut FoundHost) {
        let settings = &self.host_settings;
        let zone = settings.zones.iter().find(|(addr, _)| *addr == host.addr);
        if let Some((_, zone)) = zone {
            host.zone = Some(zone.clone());
        }
        let weight = settings.weights.iter().find(|(addr, _)| *addr == host.addr);
        if let Some((_, weight)) = weight {
            host.weight = Some(*weight);
        }
    }

    /// Adds what is meant for the application's connections only, as options of the start-up
    /// message: they cost no round trip, and are what `RESET` goes back to.
    pub(crate) fn prepare_sessions(&self, driver: &mut tokio_postgres::Config) {
        if let Some(limit) = self.pool.statement_timeout {
            let given = driver.get_options().unwrap_or_default();
            let limit = Milliseconds::from(limit);
            driver.options(format!("{given} -c statement_timeout={limit}").trim_start());
        }
        if let Some(options) = self.session.options(driver.get_options()) {
            driver.options(options);
        }
    }

    /// The driver's configuration for one host, but for encryption. Roles are judged by leadpool,
    /// so the driver takes what it finds.
    pub(crate) fn driver_config(&self, host: &HostAddr) -> tokio_postgres::Config {
        let mut driver = tokio_postgres::Config::new();
        if host.is_socket() {
            driver.host_path(host.name());
        } else {
            driver.host(host.name());
        }
        driver.port(host.port());
        let address = self.hosts.iter().find(|(known, _)| known == host);
        if let Some(address) = address.and_then(|(_, address)| *address) {
            driver.hostaddr(address);
        }
        let Login {
            user,
            password,
            dbname,
            options,
            application_name,
            channel_binding,
        } = &self.login;
        if let Some(user) = user {
            driver.user(user);
        }
        if let Some(password) = password {
            driver.password(password.expose());
        }
        if let Some(dbname) = dbname {
            driver.dbname(dbname);
        }
        if let Some(options) = options {
            driver.options(options);
        }
        if let Some(name) = application_name {
            driver.application_name(name);
        }
        if let Some(binding) = channel_binding {
            driver.channel_binding(*binding);
        }
        if self.tls.ssl_negotiation == SslNegotiation::Direct {
            driver.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
        }
        driver
            .connect_timeout(self.pool.connect_timeout)
            .keepalives(self.tcp.keepalives)
            .keepalives_idle(self.tcp.keepalives_idle)
            .keepalives_interval(self.tcp.keepalives_interval)
            .keepalives_retries(self.tcp.keepalives_retries)
            .tcp_user_timeout(self.tcp.user_timeout);
        driver
    }
}

impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(conninfo: &str) -> Result<Self, Self::Err> {
        Self::from_url(conninfo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_everything() {
        let text = "host=db1 hostaddr=10.0.0.1 port=7 user='a b' password='p\\'w' dbname=shop \
                    options='-c work_mem=64kB' application_name=till connect_timeout=3 \
                    keepalives_idle=9 tcp_user_timeout=1500";
        let config = Config::from_url(text).unwrap();
        let driver = config.driver_config(&config.hosts()[0]);
        assert_eq!(driver.get_hostaddrs(), [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(driver.get_ports(), [7]);
        assert_eq!(driver.get_user(), Some("a b"));
        assert_eq!(driver.get_password(), Some(b"p'w".as_slice()));
        assert_eq!(driver.get_dbname(), Some("shop"));
        assert_eq!(driver.get_options(), Some("-c work_mem=64kB"));
        assert_eq!(driver.get_application_name(), Some("till"));
        let seconds = std::time::Duration::from_secs;
        assert_eq!(driver.get_connect_timeout(), Some(&seconds(3)));
        assert_eq!(driver.get_keepalives_idle(), seconds(9));
        assert_eq!(
            driver.get_tcp_user_timeout(),
            Some(&std::time::Duration::from_millis(1500))
        );
    }
}
