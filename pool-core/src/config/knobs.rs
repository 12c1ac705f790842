//! Everything that can be set: the one list from which the builder's methods, the fields of
//! [`Settings`](super::Settings), the keys of connection strings, the names in the environment and
//! the tables of the manual are made.
//!
//! A new knob is one line here, beside its documented field in a settings struct. What else it
//! needs is found missing by the compiler (a type that can't be read: see `value.rs`) or by the
//! tests (the table in the manual, which rewrites itself: see `knobs/tests.rs`).

/// Calls a macro with the list. It has three parts:
///
/// - `libpq`: libpq's own keys, which leadpool reads as libpq does. Those that are knobs as well
///   (`connect_timeout`) stand there and not here.
/// - `settings`: per settings struct, fields that the builder sets by a method of the same name.
/// - `own`: what has a method of its own kind on the builder. After the type the item whose
///   documentation explains it, and how it is set.
macro_rules! every_knob {
    ($what:ident) => {
        $what! {
            libpq {
                application_name,
                channel_binding,
                client_encoding,
                dbname,
                fallback_application_name,
                host,
                hostaddr,
                keepalives,
                keepalives_count,
                keepalives_idle,
                keepalives_interval,
                load_balance_hosts,
                options,
                passfile,
                password,
                port,
                require_auth,
                ssl_max_protocol_version,
                ssl_min_protocol_version,
                sslcert,
                sslcertmode,
                sslcrl,
                sslcrldir,
                sslkey,
                sslmode,
                sslnegotiation,
                sslrootcert,
                sslsni,
                target_session_attrs,
                tcp_user_timeout,
                user,
            }
            settings {
                pool: PoolSettings {
                    writer_size: usize,
                    reader_size: usize,
                    checkout_timeout: Duration,
                    connect_timeout: Duration,
                    max_concurrent_connects: usize,
                    statement_timeout: Option<Duration>,
                    consistency_wait: Duration,
                    startup_timeout: Duration,
                    lazy: bool,
                }
                limits: LimitSettings {
                    writer_min_size: usize,
                    reader_min_size: usize,
                    warm_up: usize,
                    warm_up_wait: Duration,
                    idle_timeout: Option<Duration>,
                    max_lifetime: Option<Duration>,
                    max_waiting: Option<usize>,
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
                    watchdog_limit: Option<Duration>,
                    watchdog_interval: Duration,
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
                observe: ObserveSettings {
                    metrics_interval: Duration,
                }
                session: SessionSettings {
                    recycling: Recycling,
                    listener_capacity: usize,
                }
            }
            own {
                tx_deadline: Duration, [TxSettings::deadline] => ConfigBuilder::tx_deadline;
                token_table: String, [TxSettings::token_table] => |to, name| to.token_table(&name);
                target: Target, [ConfigBuilder::target] => ConfigBuilder::target;
                session_setting: BTreeMap<String, String>, [SessionSettings::settings] => own::session_setting;
                pool_name: String, [ObserveSettings::pool_name] => |to, name| to.pool_name(name);
                failover_mode: FailoverMode, [ConfigBuilder::failover_mode] => ConfigBuilder::failover_mode;
                reader_strategy: String, [ConfigBuilder::reader_strategy] => own::reader_strategy;
                allowed_hosts: Vec<String>, [HostSettings::allowed_hosts] => own::allowed_hosts;
                hosts_by_discovery: bool, [ConfigBuilder::hosts_by_discovery] => own::hosts_by_discovery;
                discovery_off: bool, [HostSettings::discovery_off] => ConfigBuilder::discovery_off;
                instance_pattern: String, [HostSettings::instance_pattern] => |to, pattern| to.instance_pattern(&pattern);
                host_zone: BTreeMap<String, String>, [HostSettings::zones] => own::host_zone;
                host_weight: BTreeMap<String, u32>, [HostSettings::weights] => own::host_weight;
            }
        }
    };
}
pub(super) use every_knob;

macro_rules! names {
    (
        libpq { $($key:ident),* $(,)? }
        settings { $($group:ident: $settings:ident { $($name:ident: $type:ty),* $(,)? })* }
        own { $($own:ident: $own_type:ty, [$owner:ident::$item:ident] => $apply:expr;)* }
    ) => {
        /// libpq's keys that are no knobs.
        pub(super) const LIBPQ: &[&str] = &[$(stringify!($key)),*];
        /// The knobs.
        pub(super) const KNOBS: &[&str] = &[
            $($(stringify!($name),)*)*
            $(stringify!($own),)*
        ];
        /// Every key of a document: a field of [`Settings`](super::Settings) each.
        pub(super) const KEYS: &[&str] = &[
            "url",
            $(stringify!($key),)*
            $($(stringify!($name),)*)*
            $(stringify!($own),)*
        ];
        /// Where each knob's documentation is.
        #[cfg(test)]
        pub(super) const DOCUMENTED: &[(&str, &str)] = &[
            $($((stringify!($name), concat!(stringify!($settings), "::", stringify!($name))),)*)*
            $((stringify!($own), concat!(stringify!($owner), "::", stringify!($item))),)*
        ];
    };
}
every_knob!(names);

/// What is never printed, nor written anywhere. A connection string may hold a password.
const SECRETS: [&str; 3] = ["password", "sslpassword", "url"];

/// Whether a key's value must not show.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// Keys that say the same in different words, of which one place may use one only.
pub(super) const RIVALS: &[(&str, &str)] = &[
    ("target", "target_session_attrs"),
    ("failover_mode", "target"),
    ("failover_mode", "target_session_attrs"),
    ("reader_strategy", "load_balance_hosts"),
];

/// The times among libpq's keys, and libpq's unit of each: what a number without a unit means
/// there, and only there.
const LIBPQ_UNITS: &[(&str, &str)] = &[
    ("connect_timeout", "s"),
    ("keepalives_idle", "s"),
    ("keepalives_interval", "s"),
    ("tcp_user_timeout", "ms"),
];

/// libpq's unit of a key that is a time.
pub(super) fn libpq_unit(key: &str) -> Option<&'static str> {
    let known = LIBPQ_UNITS.iter().find(|(name, _)| *name == key);
    known.map(|(_, unit)| *unit)
}

#[cfg(test)]
mod tests;
