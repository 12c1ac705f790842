//! What a file may say.

use std::time::Duration;

use leadpool::{Config, Target, config::Settings};

/// A document, the key that the error must name, and a word of what to do.
const REFUSED: &[(&str, &str, &str)] = &[
    ("", "host", "at least one host"),
    (
        "writer_sise = 1",
        "writer_sise",
        "did you mean `writer_size`",
    ),
    ("frobnicate = 1", "frobnicate", "unknown key"),
    ("'a b=' = 1", "(unreadable)", "unknown key"),
    ("pool = { max_size = 1 }", "pool", "unknown key"),
    ("pasword = 'hunter2'", "pasword", "did you mean `password`"),
    ("password = 4711", "password", "in quotes"),
    ("password = ['hunter2']", "password", "in quotes"),
    ("password = \"hunter2\\u0000\"", "password", "zero byte"),
    ("user = \"a\\u0000\"", "user", "zero byte"),
    ("user = 1.5", "user", "in quotes"),
    ("url = 5", "url", "in quotes"),
    (
        "url = 'postgres://app:hunter2@db1@db2/x'",
        "conninfo",
        "%40",
    ),
    (
        "url = 'postgres://app:hunter2@db1/x?nonsense=1'",
        "nonsense",
        "unknown key",
    ),
    (
        "url = 'postgres://app:hunter2@db1/x?writer_size=0'",
        "writer_size",
        "at least 1",
    ),
    (
        "url = 'host=db1 writer_size=many'",
        "writer_size",
        "whole number",
    ),
    (
        "url = 'host=db1 checkout_timeout=5'",
        "checkout_timeout",
        "with a unit",
    ),
    ("url = 'host=db1 url=x'", "url", "unknown key"),
    ("writer_size = -1", "writer_size", "whole number"),
    ("writer_size = 1.5", "writer_size", "whole number"),
    ("writer_size = '1.5'", "writer_size", "whole number"),
    (
        "writer_size = 99999999999999999999",
        "writer_size",
        "whole number",
    ),
    ("writer_size = 0", "writer_size", "at least 1"),
    ("writer_size = [1]", "writer_size", "a list"),
    ("retries = 4294967296", "retries", "to 4294967295"),
    ("lazy = 'maybe'", "lazy", "true or false"),
    ("lazy = 2", "lazy", "true or false"),
    ("checkout_timeout = 30", "checkout_timeout", "with a unit"),
    ("checkout_timeout = 30.0", "checkout_timeout", "with a unit"),
    ("checkout_timeout = '30'", "checkout_timeout", "with a unit"),
    (
        "checkout_timeout = '30sec'",
        "checkout_timeout",
        "with a unit",
    ),
    ("checkout_timeout = '5m'", "checkout_timeout", "min"),
    (
        "checkout_timeout = '-1s'",
        "checkout_timeout",
        "with a unit",
    ),
    (
        "checkout_timeout = '101y'",
        "checkout_timeout",
        "with a unit",
    ),
    (
        "checkout_timeout = 'off'",
        "checkout_timeout",
        "with a unit",
    ),
    ("checkout_timeout = '0s'", "checkout_timeout", "at least"),
    (
        "checkout_timeout = { nanos = 1 }",
        "checkout_timeout",
        "a table",
    ),
    (
        "checkout_timeout = { secs = 1, millis = 1 }",
        "checkout_timeout",
        "a table",
    ),
    ("max_lag = 'never'", "max_lag", "or `off`"),
    ("fast_fraction = 'half'", "fast_fraction", "as in `0.2`"),
    ("fast_fraction = nan", "fast_fraction", "between"),
    ("contested = 'both'", "contested", "stay-with-current"),
    ("proof = 'weak'", "proof", "one-recovery"),
    ("target = 'writer'", "target", "prefer-standby"),
    ("failover_mode = 'writer'", "failover_mode", "strict-writer"),
    ("reader_strategy = 'best'", "reader_strategy", "lowest_lag"),
    (
        "reader_strategy = 'zone_affinity:'",
        "reader_strategy",
        "zone_affinity:ZONE",
    ),
    (
        "allowed_hosts = ['10.0.0.0/99']",
        "allowed_hosts",
        "10.0.0.0/99",
    ),
    ("allowed_hosts = 1", "allowed_hosts", "list"),
    ("instance_pattern = 'x'", "instance_pattern", "?"),
    ("token_table = 'a b'", "token_table", "schema.name"),
    (
        "host_weight = { db1 = 'heavy' }",
        "host_weight",
        "whole number",
    ),
    ("host_weight = 'db1'", "host_weight", "key=value"),
    ("host_weight = { 'db1:x' = 1 }", "host_weight", "host:port"),
    ("host_zone = { 'a,b' = 'z' }", "host_zone", "host:port"),
    ("host_zone = 'db1=a,db1=b'", "host_zone", "once"),
    ("host = ['db1,db2']", "host", "one in each"),
    ("host = ['db1', 'db2']\nport = [1, 2, 3]", "port", "as many"),
    ("host = 'db1'\nport = 0", "port", "1 to 65535"),
    ("host = 'db1'\nport = 65536", "port", "1 to 65535"),
    ("host = 'db1'\nsslmode = 'on'", "sslmode", "verify-full"),
    ("host = 'db1'\ngssencmode = 'x'", "gssencmode", "GSSAPI"),
    (
        "host = 'db1'\nkeepalives_idle = '1.5s'",
        "keepalives_idle",
        "whole s",
    ),
    (
        "host = 'db1'\nconnect_timeout = 0",
        "connect_timeout",
        "at least",
    ),
    (
        "host = 'db1'\ntcp_user_timeout = '1h30'",
        "tcp_user_timeout",
        "with a unit",
    ),
    (
        "target = 'any'\ntarget_session_attrs = 'any'",
        "target",
        "keep one",
    ),
    (
        "target = 'any'\nfailover_mode = 'strict_writer'",
        "failover_mode",
        "keep one",
    ),
    (
        "reader_strategy = 'random'\nload_balance_hosts = 'random'",
        "reader_strategy",
        "keep one",
    ),
    (
        "url = 'host=db1 target=any target_session_attrs=any'",
        "target",
        "keep one",
    ),
    (
        "token_table = 't'\nevidence = false",
        "token_table",
        "evidence",
    ),
    (
        "active_interval = '20s'",
        "active_interval",
        "idle_interval",
    ),
];

#[test]
fn what_is_refused_names_the_key_and_says_what_to_do() {
    for (document, key, advice) in REFUSED {
        let with_host =
            match document.contains("host =") || document.contains("url") || document.is_empty() {
                true => (*document).to_owned(),
                false => format!("host = 'db1'\n{document}"),
            };
        let settings: Settings =
            toml::from_str(&with_host).unwrap_or_else(|error| panic!("{document}: {error}"));
        let shown = format!("{settings:?}");
        match settings.build() {
            Ok(config) => panic!("{document}: read as {config:?}"),
            Err(error) => {
                assert_eq!(error.key(), *key, "{document}: {error}");
                assert!(error.to_string().contains(advice), "{document}: {error}");
                let shown = format!("{shown} {error} {error:?}");
                assert!(
                    !shown.contains("hunter2") && !shown.contains("4711"),
                    "{shown}"
                );
            }
        }
    }
}

#[test]
fn what_is_wrong_can_not_be_written() {
    let settings: Settings = toml::from_str("writer_size = 'x'").unwrap();
    let error = serde_json::to_string(&settings).unwrap_err();
    assert!(error.to_string().contains("writer_size"), "{error}");
}

#[test]
fn a_url_is_written_unless_it_holds_a_password() {
    for (url, is_written) in [
        ("postgres://app@db1/shop", true),
        ("postgres://app:hunter2@db1/shop", false),
        ("host=db1 password=hunter2", false),
        ("postgres://app:hunter2@db1@x/shop", false),
    ] {
        let mut settings = Settings::default();
        settings.url = Some(url.to_owned());
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(written.contains("db1"), is_written, "{written}");
        assert!(!written.contains("hunter2"), "{written}");
    }
}

#[test]
fn fields_count_more_than_the_url() {
    let config = |document: &str| {
        let settings: Settings = toml::from_str(document).unwrap();
        settings.build().unwrap()
    };
    let hosts = |config: &Config| -> Vec<String> {
        config.hosts().iter().map(ToString::to_string).collect()
    };
    let both =
        config("url = 'postgres://db1:1,db2:2/shop?connect_timeout=3&writer_size=4'\nhost = 'db3'");
    assert_eq!(hosts(&both), ["db3:5432"]);
    assert_eq!(both.pool().connect_timeout, Duration::from_secs(3));
    assert_eq!(both.pool().writer_size, 4);
    let both = config(
        "url = 'postgres://db1,db2/shop?writer_size=4&target=standby'\nport = 7\nwriter_size = 5\ntarget_session_attrs = 'any'",
    );
    assert_eq!(hosts(&both), ["db1:7", "db2:7"]);
    assert_eq!(both.pool().writer_size, 5);
    assert_eq!(both.target(), Target::Any);
    // libpq's own unit under libpq's own key.
    let timeout = |value: &str| {
        config(&format!("host = 'db1'\nconnect_timeout = {value}"))
            .pool()
            .connect_timeout
    };
    assert_eq!(timeout("3"), Duration::from_secs(3));
    assert_eq!(timeout("'3'"), Duration::from_secs(3));
    assert_eq!(timeout("'300ms'"), Duration::from_millis(300));
    let user_timeout = |value: &str| {
        let config = config(&format!("host = 'db1'\ntcp_user_timeout = {value}"));
        format!("{config:?}").contains("user_timeout: 1.5s")
    };
    assert!(user_timeout("1500") && user_timeout("'1.5s'") && user_timeout("'1500ms'"));
    // What JSON has for nothing is nothing.
    let settings: Settings = serde_json::from_str(r#"{"host": "db1", "max_lag": null}"#).unwrap();
    assert_eq!(settings.max_lag, None);
    let zone = config("host = 'db1'\nreader_strategy = 'zone-affinity: eu-1a'");
    assert!(format!("{:?}", zone.reader_strategy()).contains("eu-1a"));
}
