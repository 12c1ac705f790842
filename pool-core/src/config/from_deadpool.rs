//! From a configuration of deadpool-postgres.

use std::time::Duration;

use deadpool::managed::{PoolConfig, QueueMode, Timeouts};
use deadpool_postgres::ManagerConfig;

use super::{
    Config, ConfigBuilder, ConfigError, check, conninfo,
    from_tokio::{self, Said},
    keys,
};

impl Config {
    /// Takes over what a configuration of deadpool-postgres says, with leadpool's defaults for
    /// everything else. Every field has its counterpart in
    /// [the manual](crate::manual::configuration).
    ///
    /// As there, `url` is read first, `host`, `hosts` and their like add to it, and other fields
    /// override it. `target_session_attrs`, `channel_binding` and `load_balance_hosts` are heeded,
    /// which deadpool-postgres 0.14 reads and forgets. Different from it, a host must be named, a
    /// database need not be, and no wait is endless.
    ///
    /// ```
    /// use leadpool::{Config, deadpool_postgres};
    ///
    /// let mut theirs = deadpool_postgres::Config::new();
    /// theirs.hosts = Some(vec!["db1".to_owned(), "db2".to_owned()]);
    /// theirs.dbname = Some("shop".to_owned());
    /// theirs.pool = Some(deadpool_postgres::PoolConfig::new(32));
    ///
    /// let config = Config::from_deadpool_postgres(&theirs)?.build()?;
    /// assert_eq!(config.pool().writer_size, 32);
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A value has no counterpart, or the `url` can't be read; the error names the key.
    pub fn from_deadpool_postgres(
        config: &deadpool_postgres::Config,
    ) -> Result<ConfigBuilder, ConfigError> {
        // Taken apart, so that a new field can't be forgotten here.
        let deadpool_postgres::Config {
            url,
            user,
            password,
            dbname,
            options,
            application_name,
            ssl_mode,
            host,
            hosts,
            hostaddr,
            hostaddrs,
            port,
            ports,
            connect_timeout,
            keepalives,
            keepalives_idle,
            target_session_attrs,
            channel_binding,
            load_balance_hosts,
            manager,
            pool,
        } = config;
        let mut of_url = match url {
            Some(url) => conninfo::parse(url, keys::check)?,
            None => Vec::new(),
        };
        check::rivals(|key| of_url.iter().any(|(known, _)| known == key))?;

        let mut said = Said::default();
        let strings = |one: &Option<String>, more: &Option<Vec<String>>| -> Vec<String> {
            one.iter().chain(more.iter().flatten()).cloned().collect()
        };
        let names = of_the_url(&mut of_url, "host");
        let mut list = of_the_url(&mut of_url, "port");
        // The driver gives each host of a URL a port, so that those that are added need theirs.
        if list.is_empty() && url.as_ref().is_some_and(|url| url.contains("://")) {
            list = vec!["5432".to_owned(); names.len()];
        }
        list.extend(
            port.iter()
                .chain(ports.iter().flatten())
                .map(ToString::to_string),
        );
        said.list("port", list)?;
        said.list("host", [names, strings(host, hosts)].concat())?;
        let mut list = of_the_url(&mut of_url, "hostaddr");
        list.extend(
            hostaddr
                .iter()
                .chain(hostaddrs.iter().flatten())
                .map(ToString::to_string),
        );
        said.list("hostaddr", list)?;

        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        said.text("user", given(user).as_deref());
        said.text("password", password.as_deref());
        said.text("dbname", given(dbname).as_deref());
        said.text("options", options.as_deref());
        said.text("application_name", application_name.as_deref());
        if let Some(mode) = ssl_mode {
            said.text("sslmode", Some(from_tokio::ssl_mode((*mode).into())?));
        }
        if let Some(keepalives) = keepalives {
            said.text("keepalives", Some(if *keepalives { "1" } else { "0" }));
        }
        if let Some(target) = target_session_attrs {
            said.text(
                "target_session_attrs",
                Some(from_tokio::target((*target).into())?),
            );
        }
        if let Some(binding) = channel_binding {
            said.text(
                "channel_binding",
                Some(from_tokio::channel_binding((*binding).into())?),
            );
        }
        if let Some(how) = load_balance_hosts {
            said.text(
                "load_balance_hosts",
                Some(from_tokio::load_balance_hosts((*how).into())?),
            );
        }
        let mut builder = said.over(of_url).builder()?;
        if let Some(idle) = keepalives_idle {
            builder.tcp.keepalives_idle = *idle;
        }
        if let Some(ManagerConfig { recycling_method }) = manager {
            builder = builder.recycling(recycling_method.clone().into());
        }
        with_pool(builder, *connect_timeout, pool.as_ref())
    }
}

/// The items of a list in the URL, which is taken out of it.
fn of_the_url(pairs: &mut Vec<(String, String)>, key: &str) -> Vec<String> {
    let at = pairs.iter().position(|(known, _)| known == key);
    let value = at.map(|at| pairs.remove(at).1);
    let items = value.iter().flat_map(|value| value.split(','));
    // A port that is left out is the usual one.
    let items = items.map(|item| match (key, item) {
        ("port", "") => "5432".to_owned(),
        (_, item) => item.to_owned(),
    });
    items.collect()
}

fn with_pool(
    mut builder: ConfigBuilder,
    connect_timeout: Option<Duration>,
    pool: Option<&PoolConfig>,
) -> Result<ConfigBuilder, ConfigError> {
    let mut create = None;
    if let Some(PoolConfig {
        max_size,
        timeouts,
        queue_mode,
    }) = pool
    {
        at_least_1("pool.max_size", *max_size == 0)?;
        builder = builder.writer_size(*max_size).reader_size(*max_size);
        // `recycle` has no counterpart: what is checked when a connection is taken is bounded by
        // the checkout's own time.
        let Timeouts {
            wait,
            create: of_pool,
            recycle: _,
        } = timeouts;
        if let Some(wait) = wait {
            at_least_1("pool.timeouts.wait", wait.is_zero())?;
            builder = builder.checkout_timeout(*wait);
        }
        create = *of_pool;
        match queue_mode {
            QueueMode::Fifo => {}
            QueueMode::Lifo => {
                return Err(ConfigError::Unsupported {
                    key: "pool.queue_mode".to_owned(),
                    hint: "leave it out: connections are handed out in turn",
                });
            }
        }
    }
    // The one bounds an attempt as here, the other a part of it: the shorter one ends it there too.
    if let Some(timeout) = create.into_iter().chain(connect_timeout).min() {
        builder = builder.connect_timeout(timeout);
    }
    Ok(builder)
}

fn at_least_1(key: &str, is_zero: bool) -> Result<(), ConfigError> {
    match is_zero {
        false => Ok(()),
        true => Err(ConfigError::invalid(
            key,
            "0 would serve nobody: give more, or leave it out",
        )),
    }
}
