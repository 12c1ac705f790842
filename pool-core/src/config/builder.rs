//! Setting what the connection string can't say.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio_postgres::config::ChannelBinding;

use super::{
    Config, ConfigError, ContestedPolicy, FailoverMode, HostPattern, HostSettings, InstancePattern,
    MonitorSettings, PoolSettings, TxSettings, check, conninfo, secret::Secret,
};
use crate::{
    outcome::{Proof, TokenTable},
    routing::{InOrder, Random, ReaderStrategy, RoundRobin},
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
    mistake: Option<ConfigError>,
    hosts: Vec<(HostAddr, Option<IpAddr>)>,
    login: Login,
    tcp: Tcp,
    target: Target,
    reader_strategy: Option<Arc<dyn ReaderStrategy>>,
    hosts_by_discovery: bool,
    host_settings: HostSettings,
    pool: PoolSettings,
    monitor: MonitorSettings,
    tx: TxSettings,
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

macro_rules! knobs {
    ($($group:ident: $settings:ident { $($name:ident: $type:ty),* $(,)? })*) => {
        $($(
            #[doc = concat!("Sets [`", stringify!($settings), "::", stringify!($name), "`].")]
            pub fn $name(mut self, value: $type) -> Self {
                self.$group.$name = value;
                self
            }
        )*)*
    };
}

impl ConfigBuilder {
    pub(super) fn new(conninfo: &str) -> Self {
        let mut builder = Self {
            mistake: None,
            hosts: Vec::new(),
            login: Login::default(),
            tcp: Tcp::default(),
            target: Target::Primary,
            reader_strategy: None,
            hosts_by_discovery: false,
            host_settings: HostSettings::default(),
            pool: PoolSettings::default(),
            monitor: MonitorSettings::default(),
            tx: TxSettings::default(),
        };
        builder.mistake = builder.read(conninfo).err();
        builder
    }

    knobs! {
        pool: PoolSettings {
            writer_size: usize,
            reader_size: usize,
            checkout_timeout: Duration,
            connect_timeout: Duration,
            max_concurrent_connects: usize,
            startup_timeout: Duration,
            lazy: bool,
        }
        monitor: MonitorSettings {
            idle_interval: Duration,
            active_interval: Duration,
            fast_interval_min: Duration,
            fast_interval_max: Duration,
            fast_fraction: f64,
            after_change_interval: Duration,
            fast_after_change: Duration,
            suspect_after: Duration,
            silence_limit: Duration,
            settle: Duration,
            contested: ContestedPolicy,
            forget_term_after: Option<Duration>,
            max_lag: Option<Duration>,
            max_lag_bytes: Option<u64>,
            discovery_interval: Option<Duration>,
            discovery_failover_interval: Option<Duration>,
            events_capacity: usize,
        }
        tx: TxSettings {
            retries: u32,
            backoff_min: Duration,
            backoff_max: Duration,
            retry_budget: u32,
            retry_budget_ratio: f64,
            evidence: bool,
            proof: Proof,
            token_retention: Duration,
        }
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

    /// The password.
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
    /// the primary, unlike libpq, whose `any` is what makes applications write to standbys.
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// The target that a failover mode of the AWS drivers stands for.
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

    /// The hosts come from a discovery alone, so that none has to be named here.
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
            tcp,
            target,
            reader_strategy,
            hosts_by_discovery,
            host_settings,
            pool,
            monitor,
            tx,
        } = self;
        if let Some(mistake) = mistake {
            return Err(mistake);
        }
        check::hosts(&hosts, hosts_by_discovery)?;
        check::pool(&pool)?;
        check::monitor(&monitor)?;
        check::tx(&tx)?;
        let mut config = Config {
            names: Vec::new(),
            hosts,
            login,
            tcp,
            target,
            host_settings,
            reader_strategy: reader_strategy.unwrap_or_else(|| Arc::new(RoundRobin::new())),
            pool,
            monitor,
            tx,
        };
        config.names = config.hosts.iter().map(|(host, _)| host.clone()).collect();
        Ok(config)
    }

    fn read(&mut self, text: &str) -> Result<(), ConfigError> {
        let (mut hosts, mut addresses, mut ports) = (None, None, None);
        let mut fallback_name = None;
        for (key, value) in conninfo::parse(text)? {
            match key.as_str() {
                "host" => hosts = Some(value),
                "hostaddr" => addresses = Some(value),
                "port" => ports = Some(value),
                "user" => self.login.user = Some(value),
                "password" => self.login.password = Some(Secret::new(value)),
                "dbname" => self.login.dbname = Some(value),
                "options" => self.login.options = Some(value),
                "application_name" => self.login.application_name = Some(value),
                "fallback_application_name" => fallback_name = Some(value),
                key => self.read_option(key, &value)?,
            }
        }
        if self.login.application_name.is_none() {
            self.login.application_name = fallback_name;
        }
        self.hosts = zip_hosts(hosts.as_deref(), addresses.as_deref(), ports.as_deref())?;
        Ok(())
    }

    fn read_option(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let expected =
            |what: &str| ConfigError::invalid(key, format!("`{value}`: expected {what}"));
        let number = || {
            value
                .trim()
                .parse::<u64>()
                .map_err(|_| expected("a number, 0 or greater"))
        };
        let seconds = || number().map(Duration::from_secs);
        match key {
            "connect_timeout" => {
                self.pool.connect_timeout = seconds()?;
                if self.pool.connect_timeout.is_zero() {
                    return Err(ConfigError::invalid(
                        key,
                        "0 would mean to wait for ever; give a number of seconds, or leave it out",
                    ));
                }
            }
            "keepalives" => self.tcp.keepalives = number()? != 0,
            "keepalives_idle" => self.tcp.keepalives_idle = seconds()?,
            "keepalives_interval" => self.tcp.keepalives_interval = seconds()?,
            "keepalives_count" => {
                self.tcp.keepalives_retries =
                    u32::try_from(number()?).map_err(|_| expected("a smaller number"))?;
            }
            // libpq counts these in milliseconds.
            "tcp_user_timeout" => self.tcp.user_timeout = Duration::from_millis(number()?),
            "target_session_attrs" => {
                self.target = value.parse().map_err(|error: super::UnknownTarget| {
                    ConfigError::invalid(key, format!("`{value}`: {error}"))
                })?;
            }
            "load_balance_hosts" => {
                self.reader_strategy = Some(match value {
                    "disable" => Arc::new(InOrder::new()),
                    "random" => Arc::new(Random::new()),
                    _ => return Err(expected("disable or random")),
                });
            }
            "channel_binding" => {
                self.login.channel_binding = Some(match value {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => return Err(expected("disable, prefer or require")),
                });
            }
            "client_encoding" => match value.to_ascii_uppercase().as_str() {
                "UTF8" | "UTF-8" | "AUTO" => {}
                _ => return Err(expected("UTF8, which is what Rust's strings are")),
            },
            "sslmode" => match value {
                "disable" | "allow" | "prefer" => {}
                "require" | "verify-ca" | "verify-full" => {
                    return Err(ConfigError::invalid(
                        key,
                        "this version speaks no TLS, so everything would be sent unencrypted; \
                         where that is acceptable say disable",
                    ));
                }
                _ => {
                    return Err(expected(
                        "disable, allow, prefer, require, verify-ca or verify-full",
                    ));
                }
            },
            // `keys::check` lets nothing else through.
            _ => {}
        }
        Ok(())
    }
}

/// The hosts that a connection string names, whatever else it says.
pub(crate) fn hosts_of_conninfo(text: &str) -> Result<Vec<HostAddr>, ConfigError> {
    let pairs = conninfo::parse_any(text)?;
    let value = |key: &str| {
        let pair = pairs.iter().find(|(known, _)| known == key);
        pair.map(|(_, value)| value.as_str())
    };
    let hosts = zip_hosts(value("host"), value("hostaddr"), value("port"))?;
    Ok(hosts.into_iter().map(|(host, _)| host).collect())
}

/// Brings hosts, addresses and ports together, as libpq does: as many of each, or one port for
/// all.
fn zip_hosts(
    hosts: Option<&str>,
    addresses: Option<&str>,
    ports: Option<&str>,
) -> Result<Vec<(HostAddr, Option<IpAddr>)>, ConfigError> {
    let split = |list: Option<&str>| -> Vec<String> {
        list.filter(|list| !list.is_empty())
            .map(|list| list.split(',').map(|item| item.trim().to_owned()).collect())
            .unwrap_or_default()
    };
    let (names, addresses, ports) = (split(hosts), split(addresses), split(ports));
    let count = names.len().max(addresses.len());
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(ConfigError::Contradiction {
            key: "hostaddr",
            with: "host",
            reason: "give as many addresses as names",
        });
    }
    if count > 0 && ports.len() > 1 && ports.len() != count {
        return Err(ConfigError::Contradiction {
            key: "port",
            with: "host",
            reason: "give one port for all hosts, or as many as hosts",
        });
    }
    (0..count)
        .map(|at| {
            let address = match addresses.get(at).map(String::as_str) {
                None | Some("") => None,
                Some(text) => Some(text.parse::<IpAddr>().map_err(|_| {
                    ConfigError::invalid("hostaddr", format!("`{text}` is not an IP address"))
                })?),
            };
            let name = match (names.get(at).map(String::as_str), address) {
                (None | Some(""), Some(address)) => address.to_string(),
                (Some(name), _) if !name.is_empty() => name.to_owned(),
                _ => {
                    return Err(ConfigError::invalid(
                        "host",
                        format!("the {}. name in the list is empty", at + 1),
                    ));
                }
            };
            let port = match ports.get(if ports.len() == 1 { 0 } else { at }) {
                None => 5432,
                Some(text) if text.is_empty() => 5432,
                Some(text) => text
                    .parse::<u16>()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| {
                        ConfigError::invalid(
                            "port",
                            format!("the port of {name} is not a number from 1 to 65535"),
                        )
                    })?,
            };
            Ok((HostAddr::new(name, port), address))
        })
        .collect()
}
