//! libpq's options, under their own names.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio_postgres::config::ChannelBinding;

use super::{
    ConfigBuilder, ConfigError, Settings, UnknownTarget, check, conninfo, keys, value::Raw,
};
use crate::{
    credentials::Secret,
    routing::{InOrder, Random},
    topology::HostAddr,
};

impl ConfigBuilder {
    pub(super) fn read(&mut self, text: &str) -> Result<(), ConfigError> {
        let pairs = conninfo::parse(text, keys::check)?;
        check::rivals(|key| pairs.iter().any(|(known, _)| known == key))?;
        self.read_pairs(pairs)
    }

    pub(super) fn read_pairs(&mut self, pairs: Vec<(String, String)>) -> Result<(), ConfigError> {
        let (mut hosts, mut addresses, mut ports) = (None, None, None);
        let mut fallback_name = None;
        for (key, value) in pairs {
            match key.as_str() {
                "host" => hosts = Some(value),
                "hostaddr" => addresses = Some(value),
                "port" => ports = Some(value),
                "user" => self.login.user = Some(value),
                "password" => self.login.password = Some(Secret::new(value)),
                "passfile" => self.access.passfile = Some(value.into()),
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
                let target = value.parse().map_err(|error: UnknownTarget| {
                    ConfigError::invalid(key, format!("`{value}`: {error}"))
                })?;
                self.target = Some(target);
            }
            "load_balance_hosts" => {
                self.reader_strategy = Some(match value {
                    "disable" => Arc::new(InOrder::new()),
                    "random" => Arc::new(Random::new()),
                    _ => return Err(expected("disable or random")),
                });
            }
            "require_auth" => self.access.read_require_auth(value)?,
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
            key if key.starts_with("ssl") => self.read_ssl_option(key, value)?,
            // `keys::check` lets only knobs through besides.
            knob => {
                let mut settings = Settings::default();
                settings.set(knob, &Raw::Text(value.to_owned()))?;
                *self = settings.apply(self.clone());
            }
        }
        Ok(())
    }
}

/// The hosts that a connection string names, whatever else it says.
pub(crate) fn hosts_of_conninfo(text: &str) -> Result<Vec<HostAddr>, ConfigError> {
    let pairs = conninfo::parse(text, |_| Ok(()))?;
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
