//! The knobs that have a method of their own kind on the builder.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::{ConfigBuilder, ConfigError, libpq},
    routing::{self, RoundRobin, ZoneAffinity},
    topology::HostAddr,
};

/// By name; `zone_affinity:` with the zone behind it.
pub(super) fn reader_strategy(mut to: ConfigBuilder, name: String) -> ConfigBuilder {
    let zone = name.split_once(':').filter(|(name, zone)| {
        name.trim()
            .replace('-', "_")
            .eq_ignore_ascii_case("zone_affinity")
            && !zone.trim().is_empty()
    });
    if let Some((_, zone)) = zone {
        return to.reader_strategy(ZoneAffinity::new(zone.trim(), RoundRobin::new()));
    }
    match routing::by_name(name.trim()) {
        Some(strategy) => to.reader_strategy = Some(Arc::from(strategy)),
        None => fail(
            &mut to,
            "reader_strategy",
            format!(
                "`{name}`: expected random, round_robin, in_order, weighted, highest_weight, \
                 least_connections, lowest_latency, lowest_lag or zone_affinity:ZONE"
            ),
        ),
    }
    to
}

pub(super) fn allowed_hosts(to: ConfigBuilder, patterns: Vec<String>) -> ConfigBuilder {
    match patterns.is_empty() {
        true => to,
        false => to.allowed_hosts(&patterns.join(",")),
    }
}

pub(super) fn hosts_by_discovery(to: ConfigBuilder, by_discovery: bool) -> ConfigBuilder {
    match by_discovery {
        true => to.hosts_by_discovery(),
        false => to,
    }
}

pub(super) fn host_zone(mut to: ConfigBuilder, zones: BTreeMap<String, String>) -> ConfigBuilder {
    for (host, zone) in zones {
        match one_host("host_zone", &host) {
            Ok(host) => to = to.host_zone(host, &zone),
            Err(mistake) => drop(to.mistake.get_or_insert(mistake)),
        }
    }
    to
}

pub(super) fn session_setting(
    to: ConfigBuilder,
    settings: BTreeMap<String, String>,
) -> ConfigBuilder {
    let each = settings.into_iter();
    each.fold(to, |to, (name, value)| to.session_setting(name, value))
}

pub(super) fn host_weight(mut to: ConfigBuilder, weights: BTreeMap<String, u32>) -> ConfigBuilder {
    for (host, weight) in weights {
        match one_host("host_weight", &host) {
            Ok(host) => to = to.host_weight(host, weight),
            Err(mistake) => drop(to.mistake.get_or_insert(mistake)),
        }
    }
    to
}

/// A host as a URL names it, port included.
fn one_host(key: &str, text: &str) -> Result<HostAddr, ConfigError> {
    let expected = || ConfigError::invalid(key, format!("`{text}`: expected host or host:port"));
    if text.contains(['@', '?', ',']) {
        return Err(expected());
    }
    let url = format!("postgres://{}", text.replace('/', "%2F"));
    let hosts = libpq::hosts_of_conninfo(&url).map_err(|_| expected())?;
    hosts.into_iter().next().ok_or_else(expected)
}

fn fail(to: &mut ConfigBuilder, key: &str, problem: String) {
    let mistake = ConfigError::invalid(key, problem);
    to.mistake.get_or_insert(mistake);
}

/// What these are without a word; `None` if that is nothing.
#[cfg(test)]
pub(super) fn default_of(builder: &ConfigBuilder, name: &str) -> Option<super::Raw> {
    use super::Value;

    match name {
        "tx_deadline" => Some(builder.tx.deadline.write()),
        "discovery_off" => Some(builder.host_settings.discovery_off.write()),
        "hosts_by_discovery" => Some(builder.hosts_by_discovery.write()),
        "target" => builder
            .clone()
            .build()
            .ok()
            .map(|config| config.target().write()),
        "reader_strategy" => Some(super::Raw::Text("round_robin".to_owned())),
        "failover_mode" => None,
        "pool_name" => builder.observe.pool_name.as_ref().map(Value::write),
        "token_table" => builder
            .tx
            .token_table
            .as_ref()
            .map(|table| table.to_string().write()),
        "instance_pattern" => builder
            .host_settings
            .instance_pattern
            .as_ref()
            .map(|pattern| pattern.to_string().write()),
        "allowed_hosts" => {
            (!builder.host_settings.allowed_hosts.is_empty()).then(|| panic!("has a default now"))
        }
        "session_setting" => {
            (!builder.session.settings.is_empty()).then(|| panic!("has a default now"))
        }
        "host_zone" => {
            (!builder.host_settings.zones.is_empty()).then(|| panic!("has a default now"))
        }
        "host_weight" => {
            (!builder.host_settings.weights.is_empty()).then(|| panic!("has a default now"))
        }
        name => panic!("{name}: say here where its default is found"),
    }
}
