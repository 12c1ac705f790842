//! Documents, and what becomes of them.

use super::*;
use crate::{
    config::knobs::{KEYS, KNOBS},
    routing::LowestLag,
    topology::HostAddr,
};

/// As it is read from TOML and from JSON, each by itself, and as text.
fn read_back(key: &str, raw: &Raw) -> Vec<Settings> {
    let pairs: BTreeMap<&str, &Raw> = [(key, raw)].into();
    let toml = toml::to_string(&pairs).unwrap();
    let json = serde_json::to_string(&pairs).unwrap();
    let mut of_text = Settings::default();
    let set = of_text.set(key, &Raw::Text(raw.to_string()));
    of_text.mistake = set.err();
    vec![
        toml::from_str(&toml).unwrap_or_else(|error| panic!("{toml}: {error}")),
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}")),
        of_text,
    ]
}

#[test]
fn each_knob_is_what_the_builder_makes_of_it() {
    Settings::check_each(|key, raw, made| {
        for settings in read_back(key, &raw) {
            assert_eq!(settings.mistake, None, "{key} = {raw}");
            assert_eq!(settings.given().len(), 1, "{key} = {raw}");
            let written: Settings =
                serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
            assert_eq!(written, settings, "{key} = {raw}");
            let applied = settings.apply(Config::builder("host=db1"));
            assert_eq!(format!("{applied:?}"), format!("{made:?}"), "{key} = {raw}");
        }
    });
}

#[test]
fn all_defaults_written_down_change_nothing() {
    let mut settings = Settings::default();
    for (key, raw, _) in Settings::defaults() {
        if let Some(raw) = raw {
            settings.set(key, &raw).unwrap();
        }
    }
    settings.host = Some("db1".to_owned());
    let written: Settings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
    assert_eq!(
        format!("{:?}", written.build().unwrap()),
        format!("{:?}", Config::from_url("host=db1").unwrap())
    );
}

/// Without TLS the files that these name are not read.
fn needs_no_files(key: &str) -> bool {
    key.starts_with("ssl") && key != "sslmode"
}

/// Each of libpq's keys means the same in a field and in a connection string.
#[test]
fn each_key_of_libpq_is_what_a_connection_string_makes_of_it() {
    for key in KEYS
        .iter()
        .filter(|key| **key != "url" && !KNOBS.contains(key))
    {
        let value = match *key {
            "host" => "db2,db3",
            "hostaddr" => "10.0.0.1",
            "channel_binding" => "disable",
            "client_encoding" => "UTF8",
            "load_balance_hosts" => "disable",
            "require_auth" => "scram-sha-256",
            "ssl_max_protocol_version" | "ssl_min_protocol_version" => "TLSv1.3",
            "sslcertmode" | "sslmode" => "disable",
            "sslnegotiation" => "postgres",
            "sslsni" => "0",
            "target_session_attrs" => "standby",
            _ => "7",
        };
        let string = match *key {
            "host" => format!("host={value}"),
            // A key is of no use without its certificate.
            "sslkey" => format!("host=db1 sslmode=disable sslcert=c sslkey={value}"),
            key if needs_no_files(key) => format!("host=db1 sslmode=disable {key}={value}"),
            _ => format!("host=db1 {key}={value}"),
        };
        let Ok(expected) = Config::from_url(&string) else {
            panic!("{key}: give it a value here that connection strings take");
        };
        let mut settings = Settings {
            host: (*key != "host").then(|| "db1".to_owned()),
            sslcert: (*key == "sslkey").then(|| "c".to_owned()),
            sslmode: needs_no_files(key).then(|| "disable".to_owned()),
            ..Settings::default()
        };
        settings.set(key, &Raw::Text(value.to_owned())).unwrap();
        let config = settings.build().unwrap();
        assert_eq!(format!("{config:?}"), format!("{expected:?}"), "{key}");
        let driver = |config: &Config| format!("{:?}", config.driver_config(&config.hosts()[0]));
        assert_eq!(driver(&config), driver(&expected), "{key}");
    }
}

#[test]
fn what_is_read_twice_is_refused() {
    for key in KEYS {
        let mut settings = Settings::default();
        let mut read = |text: &str| settings.set(key, &Raw::Text(text.to_owned()));
        let Some(text) = [
            "7",
            "7s",
            "true",
            "off",
            "primary",
            "strict",
            "refuse",
            "strict_writer",
            "fast",
            "a=7",
        ]
        .into_iter()
        .find(|text| read(text).is_ok()) else {
            panic!("{key}: add a text here that it takes");
        };
        let twice = ConfigError::DuplicateKey {
            key: (*key).to_owned(),
        };
        assert_eq!(settings.set(key, &Raw::Text(text.to_owned())), Err(twice));
    }
}

/// A line of a file, and what it is on the builder. Together they are a valid configuration.
type Line = (
    &'static str,
    &'static str,
    fn(ConfigBuilder) -> ConfigBuilder,
);
const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;
const FULL: &[Line] = &[
    ("writer_size", "32", |to| to.writer_size(32)),
    ("reader_size", "8", |to| to.reader_size(8)),
    ("checkout_timeout", "'10s'", |to| to.checkout_timeout(S(10))),
    ("connect_timeout", "3", |to| to.connect_timeout(S(3))),
    ("max_concurrent_connects", "4", |to| {
        to.max_concurrent_connects(4)
    }),
    ("consistency_wait", "'250ms'", |to| {
        to.consistency_wait(MS(250))
    }),
    (
        "startup_timeout",
        "{ secs = 20, nanos = 500_000_000 }",
        |to| to.startup_timeout(MS(20_500)),
    ),
    ("lazy", "true", |to| to.lazy(true)),
    ("idle_interval", "'20s'", |to| to.idle_interval(S(20))),
    ("active_interval", "'2s'", |to| to.active_interval(S(2))),
    ("fast_interval_min", "'1ms'", |to| {
        to.fast_interval_min(MS(1))
    }),
    ("fast_interval_max", "'0.1s'", |to| {
        to.fast_interval_max(MS(100))
    }),
    ("fast_fraction", "0.02", |to| to.fast_fraction(0.02)),
    ("after_change_interval", "'200ms'", |to| {
        to.after_change_interval(MS(200))
    }),
    ("fast_after_change", "0", |to| to.fast_after_change(S(0))),
    ("suspect_after", "'0.5s'", |to| to.suspect_after(MS(500))),
    ("silence_limit", "'7 s'", |to| to.silence_limit(S(7))),
    ("watchdog_limit", "'2s'", |to| to.watchdog_limit(Some(S(2)))),
    ("watchdog_interval", "'300ms'", |to| {
        to.watchdog_interval(MS(300))
    }),
    ("metrics_interval", "'10s'", |to| to.metrics_interval(S(10))),
    ("pool_name", "'orders'", |to| to.pool_name("orders")),
    ("recycling", "'clean'", |to| to.recycling(Recycling::Clean)),
    ("listener_capacity", "64", |to| to.listener_capacity(64)),
    (
        "session_setting",
        "{ search_path = 'shop', 'app.tenant' = '7' }",
        |to| {
            let to = to.session_setting("app.tenant", "7");
            to.session_setting("search_path", "shop")
        },
    ),
    ("writer_min_size", "2", |to| to.writer_min_size(2)),
    ("reader_min_size", "1", |to| to.reader_min_size(1)),
    ("warm_up", "3", |to| to.warm_up(3)),
    ("warm_up_wait", "'250ms'", |to| to.warm_up_wait(MS(250))),
    ("idle_timeout", "'5min'", |to| to.idle_timeout(Some(S(300)))),
    ("max_lifetime", "'1h'", |to| to.max_lifetime(Some(S(3600)))),
    ("max_waiting", "500", |to| to.max_waiting(Some(500))),
    ("statement_timeout", "'45s'", |to| {
        to.statement_timeout(Some(S(45)))
    }),
    ("settle", "'250ms'", |to| to.settle(MS(250))),
    ("contested", "'stay_with_current'", |to| {
        to.contested(ContestedPolicy::StayWithCurrent)
    }),
    ("forget_term_after", "'1d'", |to| {
        to.forget_term_after(Some(S(86_400)))
    }),
    ("max_lag", "'1.5min'", |to| to.max_lag(Some(S(90)))),
    ("max_lag_bytes", "16_777_216", |to| {
        to.max_lag_bytes(Some(16_777_216))
    }),
    ("discovery_interval", "'15s'", |to| {
        to.discovery_interval(Some(S(15)))
    }),
    ("discovery_failover_interval", "'off'", |to| {
        to.discovery_failover_interval(None)
    }),
    ("events_capacity", "64", |to| to.events_capacity(64)),
    ("retries", "3", |to| to.retries(3)),
    ("backoff_min", "'10ms'", |to| to.backoff_min(MS(10))),
    ("backoff_max", "'2s'", |to| to.backoff_max(S(2))),
    ("retry_budget", "64", |to| to.retry_budget(64)),
    ("retry_budget_ratio", "1", |to| to.retry_budget_ratio(1.0)),
    ("evidence", "'on'", |to| to.evidence(true)),
    ("proof", "'ONE_RECOVERY'", |to| to.proof(Proof::OneRecovery)),
    ("token_retention", "'12h'", |to| {
        to.token_retention(S(43_200))
    }),
    ("tx_deadline", "'30s'", |to| to.tx_deadline(S(30))),
    ("token_table", "'app.token'", |to| {
        to.token_table("app.token")
    }),
    ("target", "'prefer-standby'", |to| {
        to.target(Target::PreferStandby)
    }),
    ("reader_strategy", "'lowest_lag'", |to| {
        to.reader_strategy(LowestLag::new())
    }),
    ("allowed_hosts", "['10.0.0.0/8', '*.db.test:5432']", |to| {
        to.allowed_hosts("10.0.0.0/8,*.db.test:5432")
    }),
    ("hosts_by_discovery", "false", |to| to),
    ("discovery_off", "true", |to| to.discovery_off(true)),
    ("instance_pattern", "'?.my-domain.test'", |to| {
        to.instance_pattern("?.my-domain.test")
    }),
    (
        "host_zone",
        "{ db1 = 'eu-1a', '[::1]:5433' = 'eu-1b' }",
        |to| {
            let to = to.host_zone(HostAddr::new("::1", 5433), "eu-1b");
            to.host_zone(HostAddr::new("db1", 5432), "eu-1a")
        },
    ),
    ("host_weight", "{ 'db2:5432' = 3 }", |to| {
        to.host_weight(HostAddr::new("db2", 5432), 3)
    }),
    ("user", "'app'", |to| to.user("app")),
    ("password", "'p:w'", |to| to.password("p:w")),
    ("dbname", "'shop'", |to| to.dbname("shop")),
    ("application_name", "'till'", |to| {
        to.application_name("till")
    }),
];

/// The document, and the same with every value as text, as the environment has it.
fn full() -> (String, Vec<(String, String)>) {
    let mut document = "host = ['db1', 'db2']\nport = [5432, 5433]\n".to_owned();
    let mut variables = vec![
        ("LEADPOOL__HOST".to_owned(), "db1,db2".to_owned()),
        ("LEADPOOL__PORT".to_owned(), "5432,5433".to_owned()),
    ];
    for (key, value, _) in FULL {
        let line = format!("{key} = {value}\n");
        document += &line;
        let variable = format!("LEADPOOL__{}", key.to_uppercase());
        let pair: BTreeMap<String, Raw> = toml::from_str(&line).unwrap();
        match &pair[*key] {
            Raw::Map(parts) if *key == "startup_timeout" => {
                for (part, value) in parts {
                    variables.push((
                        format!("{variable}__{}", part.to_uppercase()),
                        value.to_string(),
                    ));
                }
            }
            raw => variables.push((variable, raw.to_string())),
        }
    }
    (document, variables)
}

#[test]
fn a_full_document_is_what_the_builder_makes() {
    let made = FULL.iter().fold(
        Config::builder("host=db1,db2 port=5432,5433"),
        |to, (_, _, set)| set(to),
    );
    let made = made.build().unwrap();
    let (document, variables) = full();
    let of_toml: Settings = toml::from_str(&document).unwrap();
    let of_json: toml::Table = toml::from_str(&document).unwrap();
    let of_json: Settings =
        serde_json::from_str(&serde_json::to_string(&of_json).unwrap()).unwrap();
    let file = ::config::File::from_str(&document, ::config::FileFormat::Toml);
    let of_file = ::config::Config::builder()
        .add_source(file)
        .build()
        .unwrap();
    let environment = || {
        let source = ::config::Environment::with_prefix("LEADPOOL").separator("__");
        source.source(Some(variables.iter().cloned().collect()))
    };
    let read = |source| {
        let sources = ::config::Config::builder().add_source(source);
        sources
            .build()
            .unwrap()
            .try_deserialize::<Settings>()
            .unwrap()
    };
    for (what, settings) in [
        ("toml", of_toml),
        ("json", of_json),
        ("config, a file", of_file.try_deserialize().unwrap()),
        ("config, the environment", read(environment())),
        (
            "with_vars",
            Settings::default().with_vars(variables.clone()),
        ),
    ] {
        // As one that is written and read again, but for what must not be written.
        let mut written: Settings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
        assert_eq!(written.password, None);
        written.password.clone_from(&settings.password);
        written.variables.clone_from(&settings.variables);
        assert_eq!(written, settings, "{what}");
        assert!(
            !format!("{settings:?} {settings:#?}").contains("p:w"),
            "{what}"
        );

        let config = settings
            .build()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(format!("{config:?}"), format!("{made:?}"), "{what}");
        let driver = config.driver_config(&config.hosts()[1]);
        assert_eq!(driver.get_password(), Some(b"p:w".as_slice()), "{what}");
    }
}

#[test]
fn the_full_document_is_full() {
    // A mode is a target, which is there.
    for key in KNOBS.iter().filter(|key| **key != "failover_mode") {
        let is_there = FULL.iter().any(|(known, ..)| known == key);
        assert!(is_there, "{key}: give it a line of FULL");
    }
}
