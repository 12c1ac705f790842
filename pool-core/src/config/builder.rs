//! Setting what the connection string can't say.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio_postgres::config::ChannelBinding;

use super::{
    AwsEndpoint, Config, ConfigError, ContestedPolicy, EndpointKind, FailoverMode, HostPattern,
    HostSettings, InstancePattern, LimitSettings, MonitorSettings, ObserveSettings, PoolSettings,
    Recycling, SessionSettings, SslMode, TlsSettings, TxSettings, access::Access, check,
    knobs::every_knob, session, tls,
};
use crate::{
    credentials::Secret,
    outcome::{Proof, TokenTable},
    routing::{ReaderStrategy, RoundRobin},
    topology::{HostAddr, Target},
};

/// Collects settings and checks them together.
///
/// ```
/// use std::time::Duration;
/// use leadpool::Config;
///
/// let config = Config::builder("postgres://app@db1,db2/shop")
///     .password("not shown")
///     .writer_size(32)
///     .checkout_timeout(Duration::from_secs(10))
///     .build()?;
/// assert!(!format!("{config:?}").contains("not shown"));
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConfigBuilder {
    /// The first mistake in the connection string.
    pub(super) mistake: Option<ConfigError>,
    pub(super) hosts: Vec<(HostAddr, Option<IpAddr>)>,
    pub(super) login: Login,
    pub(super) access: Access,
    pub(super) tcp: Tcp,
    pub(super) tls: TlsSettings,
    /// `None`: as the endpoint suggests.
    pub(super) target: Option<Target>,
    pub(super) reader_strategy: Option<Arc<dyn ReaderStrategy>>,
    pub(super) hosts_by_discovery: bool,
    pub(super) host_settings: HostSettings,
    pub(super) pool: PoolSettings,
    pub(super) limits: LimitSettings,
    pub(super) monitor: MonitorSettings,
    pub(super) tx: TxSettings,
    pub(super) observe: ObserveSettings,
    pub(super) session: SessionSettings,
    pub(super) on_connect: Vec<session::ConnectHook>,
}

/// Who logs in where.
#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) dbname: Option<String>,
    pub(super) options: Option<String>,
    pub(super) application_name: Option<String>,
    pub(super) channel_binding: Option<ChannelBinding>,
}

/// How silent networks are noticed. The defaults differ from libpq's on purpose: there a
/// connection that was cut off is noticed after two hours.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    pub(super) keepalives: bool,
    pub(super) keepalives_idle: Duration,
    pub(super) keepalives_interval: Duration,
    pub(super) keepalives_retries: u32,
    pub(super) user_timeout: Duration,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            keepalives: true,
            keepalives_idle: Duration::from_secs(5),
            keepalives_interval: Duration::from_secs(1),
            keepalives_retries: 3,
            user_timeout: Duration::from_secs(10),
        }
    }
}

macro_rules! setters {
    (
        libpq { $($libpq:tt)* }
        settings { $($group:ident: $settings:ident { $($name:ident: $type:ty),* $(,)? })* }
        own { $($own:tt)* }
    ) => {
        /// Setters of the fields of settings structs.
        impl ConfigBuilder {
            $($(
                #[doc = concat!("Sets [`", stringify!($settings), "::", stringify!($name), "`].")]
                pub fn $name(mut self, value: $type) -> Self {
                    self.$group.$name = value;
                    self
                }
            )*)*
        }
    };
}
every_knob!(setters);

impl ConfigBuilder {
    pub(super) fn new(conninfo: &str) -> Self {
        let mut builder = Self {
            mistake: None,
            hosts: Vec::new(),
            login: Login::default(),
            access: Access::default(),
            tcp: Tcp::default(),
            tls: TlsSettings::default(),
            target: None,
            reader_strategy: None,
            hosts_by_discovery: false,
            host_settings: HostSettings::default(),
            pool: PoolSettings::default(),
            limits: LimitSettings::default(),
            monitor: MonitorSettings::default(),
            tx: TxSettings::default(),
            observe: ObserveSettings::default(),
            session: SessionSettings::default(),
            on_connect: Vec::new(),
        };
        builder.mistake = builder.read(conninfo).err();
        builder
    }

    /// Sets [`TxSettings::token_table`], by its name: `name` or `schema.name`.
    pub fn token_table(mut self, name: &str) -> Self {
        match TokenTable::new(name) {
            Ok(table) => self.tx.token_table = Some(table),
            Err(error) => {
                let mistake = ConfigError::invalid("token_table", error.to_string());
                self.mistake.get_or_insert(mistake);
            }
        }
        self
    }

    /// Sets [`TxSettings::deadline`].
    pub fn tx_deadline(mut self, value: Duration) -> Self {
        self.tx.deadline = value;
        self
    }

    /// Sets [`ObserveSettings::pool_name`].
    pub fn pool_name(mut self, name: impl Into<String>) -> Self {
        self.observe.pool_name = Some(name.into());
        self
    }

    /// Adds a host.
    pub fn host(mut self, host: HostAddr) -> Self {
        self.hosts.push((host, None));
        self
    }

    /// The role to log in as; the operating system's user if not set.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.login.user = Some(user.into());
        self
    }

    /// The password. For one that changes see [`credentials`](Self::credentials).
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.login.password = Some(Secret::new(password));
        self
    }

    /// The database; the server's choice (named as the user) if not set.
    pub fn dbname(mut self, dbname: impl Into<String>) -> Self {
        self.login.dbname = Some(dbname.into());
        self
    }

    /// What `pg_stat_activity` shows of the pool's connections.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.login.application_name = Some(name.into());
        self
    }

    /// What [`Pool::get`](crate::Pool::get) asks for: libpq's `target_session_attrs`. Default:
    /// the primary, unlike libpq, whose `any` is what makes applications write to standbys; with
    /// a reader endpoint of AWS a standby, and the writer while there is none.
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The target that a failover mode of the AWS drivers stands for. Default: none.
    pub fn failover_mode(self, mode: FailoverMode) -> Self {
        self.target(mode.into())
    }

    /// Admits hosts that a discovery names: see [`HostPattern`] for the patterns, several of them
    /// with commas between. Adds to those admitted before.
    pub fn allowed_hosts(mut self, patterns: &str) -> Self {
        for pattern in patterns.split(',') {
            match pattern.parse::<HostPattern>() {
                Ok(pattern) => self.host_settings.allowed_hosts.push(pattern),
                Err(error) => {
                    let mistake = ConfigError::invalid("allowed_hosts", error.to_string());
                    self.mistake.get_or_insert(mistake);
                }
            }
        }
        self
    }

    /// What picks one of several readers: see [`routing`](crate::routing). Default:
    /// [`RoundRobin`].
    pub fn reader_strategy(mut self, strategy: impl ReaderStrategy) -> Self {
        self.reader_strategy = Some(Arc::new(strategy));
        self
    }

    /// Sets [`HostSettings::instance_pattern`]: the AWS drivers' `HostPattern`.
    pub fn instance_pattern(mut self, pattern: &str) -> Self {
        match InstancePattern::parse(pattern) {
            Ok(pattern) => self.host_settings.instance_pattern = Some(pattern),
            Err(error) => {
                let mistake = ConfigError::invalid("instance_pattern", error.to_string());
                self.mistake.get_or_insert(mistake);
            }
        }
        self
    }

    /// Sets [`HostSettings::discovery_off`].
    pub fn discovery_off(mut self, off: bool) -> Self {
        self.host_settings.discovery_off = off;
        self
    }

    /// The availability zone of a host.
    pub fn host_zone(mut self, host: HostAddr, zone: &str) -> Self {
        self.host_settings.zones.push((host, zone.into()));
        self
    }

    /// The weight of a host: its share of the reads, for strategies that look at it. A standby of
    /// weight 0 gets none.
    pub fn host_weight(mut self, host: HostAddr, weight: u32) -> Self {
        self.host_settings.weights.push((host, weight));
        self
    }

    /// The hosts come from a discovery alone, so that none has to be named here. Default: `false`,
    /// a configuration that names no host is refused.
    pub fn hosts_by_discovery(mut self) -> Self {
        self.hosts_by_discovery = true;
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    ///
    /// The first mistake found; it names the key.
    pub fn build(self) -> Result<Config, ConfigError> {
        // Taken apart, so that a new field can't be forgotten here.
        let Self {
            mistake,
            hosts,
            login,
            access,
            tcp,
            tls,
            target,
            reader_strategy,
            hosts_by_discovery,
            host_settings,
            pool,
            limits,
            monitor,
            tx,
            observe,
            session,
            on_connect,
        } = self;
        if let Some(mistake) = mistake {
            return Err(mistake);
        }
        check::hosts(&hosts, hosts_by_discovery)?;
        check::pool(&pool)?;
        check::limits(&limits, &pool)?;
        check::monitor(&monitor)?;
        check::tx(&tx)?;
        check::observe(&observe)?;
        let has_network = hosts_by_discovery || hosts.iter().any(|(host, _)| !host.is_socket());
        let tls_files = tls::files(&tls, login.channel_binding, has_network)?;
        let access = access.complete(&login, &hosts)?;
        check::provider(access.provider.as_deref(), tls.mode() >= SslMode::Require)?;
        check::session(&session)?;
        Ok(Config {
            names: hosts.iter().map(|(host, _)| host.clone()).collect(),
            login,
            access,
            tcp,
            tls,
            tls_files,
            target: target.unwrap_or_else(|| suggested_target(&hosts)),
            hosts,
            host_settings,
            reader_strategy: reader_strategy.unwrap_or_else(|| Arc::new(RoundRobin::new())),
            pool,
            limits,
            monitor,
            tx,
            observe,
            session,
            on_connect,
        })
    }
}

/// The writer, unless the endpoint is one for readers: what the AWS drivers do.
fn suggested_target(hosts: &[(HostAddr, Option<IpAddr>)]) -> Target {
    let endpoint = hosts.first();
    let endpoint = endpoint.and_then(|(host, _)| AwsEndpoint::recognize(host.name()));
    match endpoint.map(|endpoint| endpoint.kind()) {
        Some(EndpointKind::ReaderCluster) => Target::PreferStandby,
        _ => Target::Primary,
    }
}
