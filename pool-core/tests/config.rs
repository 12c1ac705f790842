//! Connection strings and settings: what is read, what is refused, and what never shows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use leadpool::{
    Config, HostAddr, Target,
    config::{ConfigBuilder, ConfigError},
};
use proptest::prelude::*;

/// A text, the key that the error must name, and a word of what to do.
const REFUSED: &[(&str, &str, &str)] = &[
    ("", "host", "at least one host"),
    ("postgres://", "host", "at least one host"),
    ("postgres:///shop", "host", "at least one host"),
    ("dbname=shop", "host", "at least one host"),
    ("host=", "host", "at least one host"),
    ("mysql://db1/shop", "conninfo", "postgres://"),
    ("db1", "conninfo", "followed by ="),
    ("host", "conninfo", "followed by ="),
    ("host='db1", "conninfo", "closing quote"),
    ("host='db1'port=1", "conninfo", "space"),
    ("postgres://db1/shop?sslmode", "conninfo", "key=value"),
    ("postgres://a@b@db1/shop", "conninfo", "%40"),
    ("postgres://a:b@db1/c@db2/shop", "conninfo", "%40"),
    ("postgres://a:b@db1/shop?c=d@db2/shop", "conninfo", "%40"),
    ("postgres://a:b@c:x?options=d@db1/shop", "conninfo", "%40"),
    ("postgres://db1/shop%2", "dbname", "%25"),
    ("postgres://db1/shop%zz", "dbname", "%25"),
    ("postgres://db1/%00", "dbname", "zero byte"),
    ("postgres://db1/%ff", "dbname", "UTF-8"),
    ("postgres://a:%@db1/shop", "password", "%25"),
    ("postgres://db1:0/shop", "port", "1 to 65535"),
    ("postgres://db1:65536/shop", "port", "1 to 65535"),
    ("postgres://db1:-1/shop", "port", "1 to 65535"),
    ("postgres://db1:x/shop", "port", "1 to 65535"),
    ("host=db1 port=0", "port", "1 to 65535"),
    ("host=a,b,c port=1,2", "port", "as many as hosts"),
    ("host=a,b hostaddr=::1", "hostaddr", "as many addresses"),
    ("host=a hostaddr=db1", "hostaddr", "IP address"),
    ("postgres://db1,/shop", "host", "2. name"),
    ("postgres://,db1/shop", "host", "1. name"),
    ("postgres://[::1/shop", "host", "lacks the ]"),
    ("postgres://[::1]x/shop", "host", "only :port"),
    ("postgres://a%2Cb/shop", "host", "comma"),
    ("postgres://db1,db1/shop", "host", "db1:5432 is named twice"),
    ("postgres://db1,db2,db1:5432/shop", "host", "named twice"),
    ("postgres://DB1,db1/shop", "host", "named twice"),
    ("host=db1 host=db2", "host", "given twice"),
    ("postgres://app@db1/shop?user=x", "user", "given twice"),
    (
        "postgres://db1/shop?pasword=x",
        "pasword",
        "did you mean `password`",
    ),
    (
        "postgres://db1/shop?frobnicate=1",
        "frobnicate",
        "unknown key",
    ),
    ("postgres://db1/shop?c%20d=%", "(unreadable)", "unknown key"),
    ("host=db1 sslcert=/x/y", "sslcert", "`/x/y` can't be read"),
    ("host=db1 sslpassword=x", "sslpassword", "decrypt"),
    ("host=db1 service=x", "service", "pass the value"),
    ("host=db1 sslmode=verify-ca", "sslrootcert", "whom to trust"),
    ("host=db1 sslmode=on", "sslmode", "verify-full"),
    ("host=db1 connect_timeout=0", "connect_timeout", "for ever"),
    ("host=db1 connect_timeout=-1", "connect_timeout", "a number"),
    (
        "host=db1 connect_timeout=soon",
        "connect_timeout",
        "a number",
    ),
    (
        "host=db1 target_session_attrs=writer",
        "target_session_attrs",
        "read-write",
    ),
    (
        "host=db1 load_balance_hosts=yes",
        "load_balance_hosts",
        "random",
    ),
    (
        "host=db1 channel_binding=maybe",
        "channel_binding",
        "require",
    ),
    ("host=db1 client_encoding=LATIN1", "client_encoding", "UTF8"),
    ("host=db1 keepalives=on", "keepalives", "a number"),
];

#[test]
fn what_is_refused_names_the_key_and_says_what_to_do() {
    for (text, key, advice) in REFUSED {
        match Config::from_url(text) {
            Ok(config) => panic!("{text}: read as {config:?}"),
            Err(error) => {
                assert_eq!(error.key(), *key, "{text}: {error}");
                assert!(error.to_string().contains(advice), "{text}: {error}");
            }
        }
    }
}

/// A setting out of its range, the key that the error must name, and the other of two.
type Change = fn(ConfigBuilder) -> ConfigBuilder;
const MS: fn(u64) -> Duration = Duration::from_millis;
const OUT_OF_RANGE: &[(Change, &str)] = &[
    (|c| c.writer_size(0), "writer_size"),
    (|c| c.reader_size(0), "reader_size"),
    (|c| c.max_concurrent_connects(0), "max_concurrent_connects"),
    (|c| c.checkout_timeout(Duration::ZERO), "checkout_timeout"),
    (|c| c.startup_timeout(Duration::ZERO), "startup_timeout"),
    (|c| c.connect_timeout(MS(9)), "connect_timeout"),
    (|c| c.idle_interval(MS(99)), "idle_interval"),
    (|c| c.active_interval(MS(20_000)), "active_interval"),
    (|c| c.active_interval(MS(49)), "active_interval"),
    (|c| c.fast_interval_min(Duration::ZERO), "fast_interval_min"),
    (|c| c.fast_interval_min(MS(60)), "fast_interval_min"),
    (|c| c.fast_interval_max(MS(2_000)), "fast_interval_max"),
    (|c| c.fast_fraction(0.0), "fast_fraction"),
    (|c| c.fast_fraction(1.1), "fast_fraction"),
    (|c| c.fast_fraction(f64::NAN), "fast_fraction"),
    (
        |c| c.after_change_interval(Duration::ZERO),
        "after_change_interval",
    ),
    (|c| c.suspect_after(MS(9)), "suspect_after"),
    (|c| c.suspect_after(MS(6_000)), "suspect_after"),
    (|c| c.suspect_after(MS(1_600)), "suspect_after"),
    (|c| c.watchdog_limit(Some(MS(299))), "suspect_after"),
    (|c| c.watchdog_interval(MS(9)), "watchdog_interval"),
    (|c| c.events_capacity(0), "events_capacity"),
    (|c| c.tx_deadline(Duration::ZERO), "tx_deadline"),
    (|c| c.backoff_min(MS(2_000)), "backoff_min"),
    (|c| c.retry_budget_ratio(-0.1), "retry_budget_ratio"),
    (
        |c| c.retry_budget_ratio(f64::INFINITY),
        "retry_budget_ratio",
    ),
    (|c| c.host(HostAddr::new("db2", 0)), "port"),
    (|c| c.host(HostAddr::new("db1", 5432)), "host"),
];

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (change, key) in OUT_OF_RANGE {
        let builder = change(Config::builder("postgres://db1/shop"));
        match builder.build() {
            Ok(config) => panic!("{key}: taken as {config:?}"),
            Err(error) => assert_eq!(error.key(), *key, "{error}"),
        }
    }
}

#[test]
fn libpqs_forms_are_read() {
    let hosts = |text: &str| -> Vec<String> {
        Config::from_url(text)
            .unwrap()
            .hosts()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    for (text, expected) in [
        ("postgresql://db1", vec!["db1:5432"]),
        (
            "postgres://db1:1,db2,db3:3/x",
            vec!["db1:1", "db2:5432", "db3:3"],
        ),
        ("postgres://u:p@db1,db2/x?port=7", vec!["db1:7", "db2:7"]),
        (
            "postgres:///x?host=db1,db2&port=1,2",
            vec!["db1:1", "db2:2"],
        ),
        (
            "postgres://[::1]:1,[fe80::1]/x",
            vec!["[::1]:1", "[fe80::1]:5432"],
        ),
        ("postgres://%2Fvar%2Frun/x", vec!["/var/run:5432"]),
        ("host=db1,db2 port=6", vec!["db1:6", "db2:6"]),
        ("host = db1  port = 6", vec!["db1:6"]),
        (
            "hostaddr=10.0.0.1,10.0.0.2",
            vec!["10.0.0.1:5432", "10.0.0.2:5432"],
        ),
        ("host='db1' password='a b\\'c'", vec!["db1:5432"]),
    ] {
        assert_eq!(hosts(text), expected, "{text}");
    }
}

#[test]
fn all_targets_of_libpq_are_read() {
    for (name, target) in [
        ("read-write", Target::Primary),
        ("primary", Target::Primary),
        ("standby", Target::Standby),
        ("prefer-standby", Target::PreferStandby),
        ("any", Target::Any),
    ] {
        let text = format!("host=db1 target_session_attrs={name}");
        assert_eq!(Config::from_url(&text).unwrap().target(), target, "{name}");
    }
    assert!(Config::from_url("host=db1 target_session_attrs=read-only").is_ok());
    assert_eq!(
        Config::from_url("host=db1").unwrap().target(),
        Target::Primary
    );
}

#[test]
fn a_password_shows_nowhere() {
    let shown = |config: Result<Config, ConfigError>| format!("{config:?} {config:#?}");
    for text in [
        "postgres://app:hunter2@db1/shop",
        "postgres://db1/shop?password=hunter2",
        "host=db1 password=hunter2",
        "host=db1 password='hunter2",
        "postgres://app:hunter2@db1/shop?nonsense=1",
        "postgres://app:hunter2@db1:0/shop",
        "postgres://app:hunter2%@db1/shop",
        "postgres://app:p@ss?hunter2=1@db1/shop",
        "postgres://app:p@ss?connect_timeout=hunter2@db1/shop",
        "postgres://app:p@hunter2:x?options=1@db1/shop",
        "postgres://db1/shop?password=p&hunter2!=%",
        "mysql://app:hunter2@db1/shop",
    ] {
        assert!(!shown(Config::from_url(text)).contains("hunter2"), "{text}");
    }
    let builder = Config::builder("host=db1").password("hunter2");
    assert!(!format!("{builder:?}").contains("hunter2"));
    assert!(!shown(builder.build()).contains("hunter2"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}") {
        let _read = Config::from_url(&text);
    }

    #[test]
    fn no_text_of_its_own_letters_makes_it_panic(
        scheme in "(postgres(ql)?://)?",
        text in "[a-c0-9:/@?&=,%\\[\\]'\\\\ .]{0,60}",
    ) {
        let _read = Config::from_url(&(scheme + &text));
    }

    /// Also not when it was not escaped, and the rest of it is taken for something else.
    #[test]
    fn no_part_of_a_password_shows(middle in "[a-z@/?:%&=#\\[\\] ,'\\\\]{0,6}") {
        let password = format!("hunter2X{middle}zzTOP9");
        for text in [
            format!("postgres://app:{password}@db1,db2/shop"),
            format!("postgres://db1/shop?password={password}"),
            format!("password={password} host=db1"),
            format!("host=db1 password='{password}'"),
        ] {
            let read = Config::from_url(&text);
            let shown = match &read {
                Ok(config) => format!("{config:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains("hunter2X"), "{text}: {shown}");
            // In a URL what stands behind an unescaped & or # is a parameter of its own.
            prop_assert!(!shown.contains("zzTOP9"), "{text}: {shown}");
        }
    }

    #[test]
    fn url_and_keywords_say_the_same(
        names in proptest::collection::hash_set("[a-z][a-z0-9.-]{0,8}", 1..4),
        port in 1..=u16::MAX,
        user in "[^\0]{1,12}",
        password in "[^\0]{1,12}",
        dbname in "[^\0]{1,12}",
        name in "[^\0]{1,12}",
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let encode = |text: &str| -> String {
            text.bytes().map(|byte| format!("%{byte:02X}")).collect()
        };
        let quote = |text: &str| {
            format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
        };
        let authority: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        let url = format!(
            "postgres://{}:{}@{}/{}?application_name={}",
            encode(&user), encode(&password), authority.join(","), encode(&dbname), encode(&name),
        );
        let keywords = format!(
            "host={} port={port} user={} password={} dbname={} application_name={}",
            names.join(","), quote(&user), quote(&password), quote(&dbname), quote(&name),
        );
        let (url, keywords) = (Config::from_url(&url), Config::from_url(&keywords));
        prop_assert!(url.is_ok(), "{url:?}");
        prop_assert_eq!(format!("{url:?}"), format!("{keywords:?}"));
        let url = url.unwrap();
        let read: Vec<&str> = url.hosts().iter().map(HostAddr::name).collect();
        prop_assert_eq!(read, names);
        prop_assert!(url.hosts().iter().all(|host| host.port() == port));
    }
}
