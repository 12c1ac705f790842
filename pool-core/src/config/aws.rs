//! The options of the AWS drivers, under their own names.
//!
//! Names, units and defaults are those of the documents on failover of the AWS ODBC driver for
//! PostgreSQL and of the AWS Advanced Python driver. What each becomes here is told, option by
//! option, in [the manual](crate::manual::aws).

use std::time::Duration;

use super::{Config, ConfigBuilder, ConfigError, FailoverMode, InstancePattern};
use crate::routing;

/// Every option on failover of both drivers.
const OPTIONS: &[&str] = &[
    "EnableClusterFailover",
    "FailoverMode",
    "HostPattern",
    "ClusterID",
    "ReaderHostSelectorStrategy",
    "TopologyRefreshRate",
    "TopologyHighRefreshRate",
    "IgnoreTopologyRefresh",
    "FailoverTimeout",
    "failover_mode",
    "cluster_instance_host_pattern",
    "cluster_id",
    "enable_failover",
    "failover_cluster_topology_refresh_rate_sec",
    "failover_reader_connect_timeout_sec",
    "failover_timeout_sec",
    "failover_writer_reconnect_interval_sec",
    "keep_session_state_on_failover",
    "plugins",
    "reader_host_selector_strategy",
];

/// Plugins of the Python driver whose work leadpool does anyway.
const PLUGINS: &[&str] = &[
    "failover",
    "failover_v2",
    "host_monitoring",
    "host_monitoring_v2",
    "initial_connection",
    "aurora_connection_tracker",
];

impl Config {
    /// Reads a connection string of the AWS ODBC driver (`SERVER=..;FailoverMode=..`) or of the AWS
    /// Advanced Python driver (`host=.. failover_mode=..`).
    ///
    /// What it does not set has leadpool's defaults, which for failover are mostly shorter than
    /// the drivers'. Which option becomes what: see [the manual](crate::manual::aws).
    ///
    /// ```
    /// use leadpool::{Config, Target};
    ///
    /// let odbc = Config::from_aws(
    ///     "SERVER=shop.cluster-ro-c0ffee.eu-west-1.rds.amazonaws.com;PORT=5432;DATABASE=shop;\
    ///      UID=app;PWD={not;shown};EnableClusterFailover=1;FailoverTimeout=60000",
    /// )?;
    /// let python = Config::from_aws(
    ///     "host=shop.cluster-ro-c0ffee.eu-west-1.rds.amazonaws.com dbname=shop user=app \
    ///      plugins=failover failover_mode=strict_reader failover_timeout_sec=60",
    /// )?;
    /// assert_eq!(odbc.target(), Target::PreferStandby);
    /// assert_eq!(python.target(), Target::StrictReader);
    /// assert_eq!(odbc.pool().checkout_timeout, python.pool().checkout_timeout);
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first mistake found; it names the option, never the password.
    pub fn from_aws(options: &str) -> Result<Self, ConfigError> {
        Self::aws_builder(options).build()
    }

    /// As [`from_aws`](Self::from_aws), and lets more be set. A mistake is told by
    /// [`ConfigBuilder::build`].
    pub fn aws_builder(options: &str) -> ConfigBuilder {
        let pairs = match is_odbc(options) {
            true => odbc(options),
            false => super::conninfo::parse(options, check),
        };
        match pairs {
            Ok(pairs) => ConfigBuilder::from_aws_pairs(pairs),
            Err(mistake) => {
                let mut builder = ConfigBuilder::new("");
                builder.mistake = Some(mistake);
                builder
            }
        }
    }
}

fn is_option(key: &str) -> bool {
    OPTIONS.iter().any(|name| name.eq_ignore_ascii_case(key))
}

/// The Python driver's options stand among libpq's.
fn check(key: &str) -> Result<(), ConfigError> {
    match is_option(key) {
        true => Ok(()),
        false => super::keys::check(key),
    }
}

/// Both are keys and values; only ODBC's end with semicolons, and only there nothing is quoted.
fn is_odbc(options: &str) -> bool {
    !options.contains("://")
        && (options.contains(';') || !options.contains(char::is_whitespace))
        && !options.trim_start().starts_with("host=")
}

/// `KEY=value;KEY={value with ; in it}`, as [ODBC's `SQLDriverConnect`][odbc] has it.
///
/// [odbc]: https://learn.microsoft.com/en-us/sql/odbc/reference/syntax/sqldriverconnect-function
fn odbc(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let syntax = |problem| ConfigError::Syntax { problem };
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or_else(|| syntax("each key of an ODBC string is followed by = and a value"))?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('{') {
            Some(braced) => {
                let (value, after) = braces(braced)
                    .ok_or_else(|| syntax("a value in braces lacks its closing brace"))?;
                let after = after.trim_start();
                if !after.is_empty() && !after.starts_with(';') {
                    return Err(syntax("a semicolon must follow a value in braces"));
                }
                (value, after.strip_prefix(';').unwrap_or(after))
            }
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        pairs.push((key.trim().to_owned(), value));
        rest = after.trim_start_matches(|c: char| c == ';' || c.is_whitespace());
    }
    Ok(pairs)
}

/// A value up to its closing brace, of which two stand for one, and what comes after it.
fn braces(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '}' if chars.peek().is_some_and(|(_, next)| *next == '}') => {
                value.push('}');
                chars.next();
            }
            '}' => return Some((value, &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

impl ConfigBuilder {
    /// Sets one option of the AWS drivers by its own name, for instance `FailoverTimeout` or
    /// `failover_timeout_sec`.
    ///
    /// ```
    /// use leadpool::{Config, Target};
    ///
    /// let config = Config::builder("postgres://app@shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com/shop")
    ///     .aws_option("FailoverMode", "READER_OR_WRITER")
    ///     .aws_option("failover_timeout_sec", "60")
    ///     .build()?;
    /// assert_eq!(config.target(), Target::PreferStandby);
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    pub fn aws_option(mut self, name: &str, value: &str) -> Self {
        if let Err(mistake) = self.read_aws_option(name, value) {
            self.mistake.get_or_insert(mistake);
        }
        self
    }

    /// A builder of what a driver's connection string says.
    fn from_aws_pairs(pairs: Vec<(String, String)>) -> Self {
        let mut builder = Self::new("");
        builder.mistake = builder.read_aws_pairs(pairs).err();
        builder
    }

    fn read_aws_pairs(&mut self, pairs: Vec<(String, String)>) -> Result<(), ConfigError> {
        let mut rest = Vec::new();
        for (key, value) in pairs {
            let libpq = match key.to_ascii_lowercase().as_str() {
                "server" | "servername" => "host",
                "database" => "dbname",
                "uid" | "username" => "user",
                "pwd" => "password",
                "port" => "port",
                "sslmode" => "sslmode",
                // Which library to load is ODBC's own affair.
                "driver" => continue,
                _ if is_option(&key) => {
                    self.read_aws_option(&key, &value)?;
                    continue;
                }
                _ => {
                    check(&key)?;
                    &key
                }
            };
            if rest.iter().any(|(known, _)| known == libpq) {
                return Err(ConfigError::DuplicateKey { key });
            }
            rest.push((libpq.to_owned(), value));
        }
        self.read_pairs(rest)
    }

    fn read_aws_option(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let expected =
            |what: &str| ConfigError::invalid(name, format!("`{value}`: expected {what}"));
        let number = || {
            let number = value.trim().parse::<u64>();
            number.map_err(|_| expected("a whole number"))
        };
        let ms = || number().map(Duration::from_millis);
        let seconds = || number().map(Duration::from_secs);
        let switch = || match value.trim().to_ascii_lowercase().as_str() {
            "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(expected("1 or 0, true or false")),
        };
        match name.to_ascii_lowercase().as_str() {
            "enableclusterfailover" | "enable_failover" => {
                self.host_settings.discovery_off = !switch()?;
            }
            "failovermode" | "failover_mode" => {
                let mode = value
                    .parse::<FailoverMode>()
                    .map_err(|_| expected("STRICT_WRITER, READER_OR_WRITER or STRICT_READER"))?;
                self.target = Some(mode.into());
            }
            "hostpattern" | "cluster_instance_host_pattern" => {
                let pattern = InstancePattern::parse(value)
                    .map_err(|error| ConfigError::invalid(name, error.to_string()))?;
                self.host_settings.instance_pattern = Some(pattern);
            }
            "readerhostselectorstrategy" | "reader_host_selector_strategy" => {
                let strategy = routing::by_name(value)
                    .ok_or_else(|| expected("RANDOM, ROUND_ROBIN or HIGHEST_WEIGHT"))?;
                self.reader_strategy = Some(strategy.into());
            }
            "topologyrefreshrate" => self.monitor.discovery_interval = Some(ms()?),
            "failover_cluster_topology_refresh_rate_sec" => {
                self.monitor.discovery_failover_interval = Some(seconds()?);
            }
            // How long to wait at most; leadpool looks more often anyway.
            "topologyhighrefreshrate" => self.look_at_least(ms()?),
            "failover_writer_reconnect_interval_sec" => self.look_at_least(seconds()?),
            "failover_reader_connect_timeout_sec" => self.pool.connect_timeout = seconds()?,
            "failovertimeout" => self.fail_over_within(ms()?),
            "failover_timeout_sec" => self.fail_over_within(seconds()?),
            // Nothing here waits for it: see the manual.
            "ignoretopologyrefresh" => drop(ms()?),
            "clusterid" | "cluster_id" => {}
            // `Pool::session` always keeps it, other connections have none: see the manual.
            "keep_session_state_on_failover" => {
                switch()?;
            }
            "plugins" => {
                for plugin in value
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                {
                    if !PLUGINS.contains(&plugin) {
                        return Err(ConfigError::invalid(
                            name,
                            format!(
                                "leadpool has nothing for `{plugin}`: leave it out; known are {}",
                                PLUGINS.join(", ")
                            ),
                        ));
                    }
                }
            }
            _ => {
                return Err(ConfigError::UnknownKey {
                    key: name.to_owned(),
                    suggestion: None,
                });
            }
        }
        Ok(())
    }

    fn look_at_least(&mut self, every: Duration) {
        let fast = &mut self.monitor.fast_interval_max;
        *fast = every.clamp(self.monitor.fast_interval_min, *fast);
    }

    fn fail_over_within(&mut self, time: Duration) {
        self.pool.checkout_timeout = time;
        self.tx.deadline = time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Target;

    const HOST: &str = "shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com";

    fn config(options: &str) -> Config {
        Config::from_aws(options).unwrap_or_else(|error| panic!("{options}: {error}"))
    }

    #[test]
    fn every_option_of_odbc() {
        let config = config(&format!(
            "DRIVER={{AWS ODBC Driver for PostgreSQL}};SERVER={HOST};PORT=5433;DATABASE=shop;UID=app;\
             PWD={{a;b}}}}c}};EnableClusterFailover=1;FailoverMode=STRICT_READER;HostPattern=?.x.test;\
             ClusterID=one;ReaderHostSelectorStrategy=ROUND_ROBIN;TopologyRefreshRate=20000;\
             TopologyHighRefreshRate=10000;IgnoreTopologyRefresh=30000;FailoverTimeout=90000;"
        ));
        assert_eq!(config.hosts()[0].to_string(), format!("{HOST}:5433"));
        assert_eq!(config.target(), Target::StrictReader);
        assert!(!config.host_settings().discovery_off);
        assert!(config.host_settings().instance_pattern.is_some());
        assert!(format!("{:?}", config.reader_strategy()).starts_with("RoundRobin"));
        let seconds = Duration::from_secs;
        assert_eq!(config.monitor().discovery_interval, Some(seconds(20)));
        assert_eq!(
            config.monitor().fast_interval_max,
            Duration::from_millis(50)
        );
        assert_eq!(config.pool().checkout_timeout, seconds(90));
        assert_eq!(config.tx().deadline, seconds(90));
        let driver = config.driver_config(&config.hosts()[0]);
        assert_eq!(driver.get_password(), Some(b"a;b}c".as_slice()));
        assert_eq!(driver.get_user(), Some("app"));
    }

    #[test]
    fn every_option_of_python() {
        let config = config(&format!(
            "host={HOST} dbname=shop user=app password='p w' plugins=failover,host_monitoring \
             failover_mode=reader_or_writer cluster_instance_host_pattern=?.x.test:9999 \
             enable_failover=False failover_cluster_topology_refresh_rate_sec=3 \
             failover_reader_connect_timeout_sec=7 failover_timeout_sec=100 \
             failover_writer_reconnect_interval_sec=2 keep_session_state_on_failover=True \
             connect_timeout=4"
        ));
        assert_eq!(config.target(), Target::PreferStandby);
        assert!(config.host_settings().discovery_off);
        let seconds = Duration::from_secs;
        assert_eq!(
            config.monitor().discovery_failover_interval,
            Some(seconds(3))
        );
        assert_eq!(config.pool().checkout_timeout, seconds(100));
    }

    #[test]
    fn the_mode_follows_the_endpoint_unless_it_is_set() {
        let reader = HOST.replace("cluster-", "cluster-ro-");
        assert_eq!(config(&format!("SERVER={HOST};")).target(), Target::Primary);
        assert_eq!(
            config(&format!("SERVER={reader};")).target(),
            Target::PreferStandby
        );
        let set = config(&format!("SERVER={reader};FailoverMode=strict_writer"));
        assert_eq!(set.target(), Target::Primary);
        let url = Config::from_url(&format!("postgres://app@{reader}/shop")).unwrap();
        assert_eq!(url.target(), Target::PreferStandby);
    }

    #[test]
    fn mistakes_name_the_option() {
        for (options, key) in [
            ("SERVER=db1;FailoverMode=SOMETIMES", "FailoverMode"),
            ("SERVER=db1;FailoverTimeout=soon", "FailoverTimeout"),
            (
                "SERVER=db1;EnableClusterFailover=2",
                "EnableClusterFailover",
            ),
            ("SERVER=db1;HostPattern=db", "HostPattern"),
            (
                "SERVER=db1;ReaderHostSelectorStrategy=BEST",
                "ReaderHostSelectorStrategy",
            ),
            ("SERVER=db1;PWD={hunter2", "conninfo"),
            ("SERVER=db1;PWD={hunter2}x;", "conninfo"),
            ("SERVER=db1;Nonsense=1;", "Nonsense"),
            ("SERVER=db1;SERVER=db2;", "SERVER"),
            ("host=db1 plugins=federated_auth", "plugins"),
            (
                "host=db1 keep_session_state_on_failover=2",
                "keep_session_state_on_failover",
            ),
            ("host=db1 failover_timeout_sec=-1", "failover_timeout_sec"),
            ("DATABASE=shop;UID=app", "host"),
            ("postgres://db1/shop?hunter2 !=%", "(unreadable)"),
            ("host=db1 password=p hunter2!=1", "(unreadable)"),
        ] {
            let error = Config::from_aws(options).unwrap_err();
            assert_eq!(error.key(), key, "{options}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
