//! What settings may be, each by itself and together.

use std::{net::IpAddr, time::Duration};

use super::{
    ConfigError, LimitSettings, MonitorSettings, ObserveSettings, PoolSettings, Recycling,
    SessionSettings, TxSettings, check_setting, knobs::RIVALS,
};
use crate::{credentials::CredentialProvider, topology::HostAddr};

pub(super) fn hosts(
    hosts: &[(HostAddr, Option<IpAddr>)],
    may_be_empty: bool,
) -> Result<(), ConfigError> {
    if hosts.is_empty() && !may_be_empty {
        return Err(ConfigError::NoHosts);
    }
    for (at, (host, _)) in hosts.iter().enumerate() {
        if host.port() == 0 {
            return Err(ConfigError::invalid(
                "port",
                format!(
                    "the port of {} is not a number from 1 to 65535",
                    host.name()
                ),
            ));
        }
        if hosts[..at].iter().any(|(other, _)| other == host) {
            return Err(ConfigError::DuplicateHost {
                host: host.to_string(),
            });
        }
    }
    Ok(())
}

/// What is said in two ways in one place.
pub(super) fn rivals(is_given: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
    match RIVALS
        .iter()
        .find(|(key, with)| is_given(key) && is_given(with))
    {
        None => Ok(()),
        Some((key, with)) => Err(ConfigError::Contradiction {
            key,
            with,
            reason: "they set the same: keep one",
        }),
    }
}

fn at_least<T: PartialOrd + std::fmt::Debug>(
    key: &str,
    value: &T,
    least: &T,
) -> Result<(), ConfigError> {
    if value < least {
        return Err(ConfigError::invalid(
            key,
            format!("{value:?} is too little: at least {least:?}"),
        ));
    }
    Ok(())
}

fn ordered(
    low: (&'static str, Duration),
    high: (&'static str, Duration),
) -> Result<(), ConfigError> {
    if low.1 > high.1 {
        return Err(ConfigError::Contradiction {
            key: low.0,
            with: high.0,
            reason: "the first can't be greater than the second",
        });
    }
    Ok(())
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), ConfigError> {
    if !(value >= least && value <= most) {
        return Err(ConfigError::invalid(
            key,
            format!("{value} is not between {least} and {most}"),
        ));
    }
    Ok(())
}

pub(super) fn pool(pool: &PoolSettings) -> Result<(), ConfigError> {
    let ms = Duration::from_millis;
    at_least("writer_size", &pool.writer_size, &1)?;
    at_least("reader_size", &pool.reader_size, &1)?;
    at_least("checkout_timeout", &pool.checkout_timeout, &ms(1))?;
    at_least("connect_timeout", &pool.connect_timeout, &ms(10))?;
    at_least("max_concurrent_connects", &pool.max_concurrent_connects, &1)?;
    at_least("startup_timeout", &pool.startup_timeout, &ms(1))
}

pub(super) fn limits(limits: &LimitSettings, pool: &PoolSettings) -> Result<(), ConfigError> {
    let least = Duration::from_millis(100);
    if let Some(timeout) = &limits.idle_timeout {
        at_least("idle_timeout", timeout, &least)?;
    }
    if let Some(lifetime) = &limits.max_lifetime {
        at_least("max_lifetime", lifetime, &least)?;
    }
    for (key, size, with, most) in [
        (
            "writer_min_size",
            limits.writer_min_size,
            "writer_size",
            pool.writer_size,
        ),
        (
            "reader_min_size",
            limits.reader_min_size,
            "reader_size",
            pool.reader_size,
        ),
        ("warm_up", limits.warm_up, "writer_size", pool.writer_size),
    ] {
        if size > most {
            return Err(ConfigError::Contradiction {
                key,
                with,
                reason: "the first can't be greater than the second",
            });
        }
    }
    Ok(())
}

pub(super) fn monitor(monitor: &MonitorSettings) -> Result<(), ConfigError> {
    let ms = Duration::from_millis;
    let idle = ("idle_interval", monitor.idle_interval);
    let active = ("active_interval", monitor.active_interval);
    let longest = ("fast_interval_max", monitor.fast_interval_max);
    let shortest = ("fast_interval_min", monitor.fast_interval_min);
    at_least(idle.0, &idle.1, &ms(100))?;
    at_least(active.0, &active.1, &ms(50))?;
    at_least(shortest.0, &shortest.1, &ms(1))?;
    at_least(
        "after_change_interval",
        &monitor.after_change_interval,
        &ms(1),
    )?;
    if let Some(interval) = &monitor.discovery_interval {
        at_least("discovery_interval", interval, &ms(100))?;
    }
    if let Some(interval) = &monitor.discovery_failover_interval {
        at_least("discovery_failover_interval", interval, &ms(10))?;
    }
    at_least("suspect_after", &monitor.suspect_after, &ms(10))?;
    at_least("events_capacity", &monitor.events_capacity, &1)?;
    ordered(active, idle)?;
    ordered(longest, active)?;
    ordered(shortest, longest)?;
    ordered(
        ("suspect_after", monitor.suspect_after),
        ("silence_limit", monitor.silence_limit),
    )?;
    at_least("watchdog_interval", &monitor.watchdog_interval, &ms(10))?;
    if let Some(limit) = monitor.watchdog_limit {
        ordered(
            ("suspect_after", monitor.suspect_after),
            ("watchdog_limit", limit),
        )?;
    }
    within("fast_fraction", monitor.fast_fraction, 1e-6, 1.0)
}

pub(super) fn tx(tx: &TxSettings) -> Result<(), ConfigError> {
    at_least("tx_deadline", &tx.deadline, &Duration::from_millis(1))?;
    at_least("backoff_min", &tx.backoff_min, &Duration::from_millis(1))?;
    ordered(
        ("backoff_min", tx.backoff_min),
        ("backoff_max", tx.backoff_max),
    )?;
    at_least(
        "token_retention",
        &tx.token_retention,
        &Duration::from_secs(60),
    )?;
    if tx.token_table.is_some() && !tx.evidence {
        return Err(ConfigError::invalid(
            "token_table",
            "tokens need evidence; leave evidence on",
        ));
    }
    within("retry_budget_ratio", tx.retry_budget_ratio, 0.0, 10.0)
}

pub(super) fn observe(observe: &ObserveSettings) -> Result<(), ConfigError> {
    if observe.pool_name.as_deref() == Some("") {
        return Err(ConfigError::invalid(
            "pool_name",
            "a pool without a name can't be told from others; leave it out for the default",
        ));
    }
    let least = Duration::from_millis(10);
    at_least("metrics_interval", &observe.metrics_interval, &least)
}

/// What a provider gives out may go over TLS only: `is_encrypted` says whether `sslmode` sees to
/// that (`require` or more).
pub(super) fn provider(
    provider: Option<&dyn CredentialProvider>,
    is_encrypted: bool,
) -> Result<(), ConfigError> {
    match provider {
        Some(provider) if provider.needs_tls() && !is_encrypted => Err(ConfigError::invalid(
            "sslmode",
            format!(
                "what {} gives out goes over TLS only: set it to require or more",
                provider.name()
            ),
        )),
        _ => Ok(()),
    }
}

pub(super) fn session(session: &SessionSettings) -> Result<(), ConfigError> {
    at_least("listener_capacity", &session.listener_capacity, &1)?;
    for (name, value) in &session.settings {
        check_setting("session_setting", name, value)?;
    }
    if let Recycling::Own(sql) = &session.recycling {
        let words: Vec<_> = sql.split_whitespace().map(str::to_uppercase).collect();
        let statements = words.join(" ");
        for refused in ["DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE PREPARE ALL"] {
            if statements.contains(refused) {
                return Err(ConfigError::invalid(
                    "recycling",
                    format!(
                        "{refused} takes away prepared statements that the driver goes on using; \
                         `clean` undoes all the rest"
                    ),
                ));
            }
        }
        if sql.trim().is_empty() {
            return Err(ConfigError::invalid(
                "recycling",
                "there is no statement; `verified` asks whether the server is there",
            ));
        }
        if sql.contains('\0') {
            return Err(ConfigError::invalid(
                "recycling",
                "the statements contain a NUL character",
            ));
        }
    }
    Ok(())
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{CredentialRequest, PasswordFile, Providing};

    #[derive(Debug)]
    struct OverTls;

    impl CredentialProvider for OverTls {
        fn name(&self) -> &str {
            "a token"
        }

        fn provide<'a>(&'a self, _: &'a CredentialRequest) -> Providing<'a> {
            unimplemented!("it is never asked")
        }

        fn needs_tls(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_goes_over_tls_only_needs_an_sslmode_that_encrypts() {
        let plain = PasswordFile::new("/x");
        assert_eq!(provider(None, false), Ok(()));
        assert_eq!(provider(Some(&plain), false), Ok(()));
        assert_eq!(provider(Some(&OverTls), true), Ok(()));
        let error = provider(Some(&OverTls), false).unwrap_err();
        assert_eq!(error.key(), "sslmode");
        assert!(error.to_string().contains("a token"), "{error}");
    }
}
