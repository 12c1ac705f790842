//! Connection strings, as they come and with a password in them. The password goes behind the
//! first line where there is something before it, and before the rest.

#![no_main]

use std::collections::HashSet;

use leadpool::{
    Config,
    config::{ConfigBuilder, ConfigError},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Two passwords, one as long as the other. Nothing that is shown may tell which of them it was.
const PASSWORDS: [&str; 2] = ["hunter2X", "zzTOP9qq"];

/// Where a password can stand: text before it that belongs to it, the password, and what follows.
const PLACES: &[fn(&str, &str, &str) -> ConfigBuilder] = &[
    |before, password, rest| {
        let password = format!("{before}{password}");
        let password = utf8_percent_encode(&password, NON_ALPHANUMERIC);
        Config::builder(&format!("postgres://app:{password}@{rest}"))
    },
    // Nothing is escaped, and all of it is meant to be the password.
    |before, password, rest| {
        Config::builder(&format!("postgres://app:{before}{password}{rest}@db1/shop"))
    },
    |before, password, rest| {
        Config::builder(&format!(
            "postgres://db1/shop?{before}&password={password}{rest}"
        ))
    },
    |before, password, rest| {
        let password = format!("{before}{password}");
        let password = password.replace('\\', "\\\\").replace('\'', "\\'");
        Config::builder(&format!("password='{password}' {rest}"))
    },
    |_, password, rest| Config::builder(&format!("host=db1 password={password}{rest}")),
    |before, password, rest| Config::builder(before).password(password.to_owned() + rest),
];

fuzz_target!(|text: &str| -> Corpus {
    if PASSWORDS.iter().any(|password| text.contains(password)) {
        return Corpus::Reject;
    }
    match Config::from_url(text) {
        Ok(config) => check_config(&config),
        Err(error) => check_error(&error),
    }
    match Config::from_aws(text) {
        Ok(config) => check_config(&config),
        Err(error) => check_error(&error),
    }
    let (before, rest) = text.split_once('\n').unwrap_or(("", text));
    for place in PLACES {
        let [one, two] = PASSWORDS.map(|password| {
            let (shown, error) = match place(before, password, rest).build() {
                Ok(config) => {
                    check_config(&config);
                    (format!("{config:?}"), None)
                }
                Err(error) => {
                    check_error(&error);
                    (format!("{error} {error:?}"), Some(error))
                }
            };
            assert!(!shown.contains(password), "{shown}");
            error
        });
        assert_eq!(one, two);
    }
    Corpus::Keep
});

fn check_config(config: &Config) {
    let hosts = config.hosts();
    assert!(!hosts.is_empty());
    assert!(
        hosts
            .iter()
            .all(|host| host.port() != 0 && !host.name().is_empty())
    );
    assert_eq!(hosts.iter().collect::<HashSet<_>>().len(), hosts.len());
}

/// An error names a key: a word, or nothing at all of what was written.
fn check_error(error: &ConfigError) {
    let key = error.key();
    let is_word = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    assert!(is_word || key == "(unreadable)", "{error}");
    assert!(!error.to_string().is_empty());
}
