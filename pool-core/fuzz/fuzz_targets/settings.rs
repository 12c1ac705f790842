//! Settings: variables of the environment, `NAME=value` a line, and documents in JSON. With a
//! password beside them.

#![no_main]

use leadpool::config::{ConfigError, Settings};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Two passwords, one as long as the other. Nothing that is shown may tell which of them it was.
const PASSWORDS: [&str; 2] = ["hunter2X", "zzTOP9qq"];

fuzz_target!(|text: &str| -> Corpus {
    // Files of services are not for a fuzzer to name.
    let names_files = ["PGSERVICEFILE", "PGSYSCONFDIR", "HOME"].iter();
    if PASSWORDS
        .iter()
        .chain(names_files)
        .any(|word| text.contains(word))
    {
        return Corpus::Reject;
    }
    check("", document(text));
    let [one, two] = PASSWORDS.map(|password| {
        let json = serde_json::Value::from(password);
        check(
            password,
            document(&text.replace("SECRET", &format!("\"password\": {json}"))),
        );
        let secret = [
            ("PGPASSWORD", password.to_owned()),
            (
                "DATABASE_URL",
                format!("postgres://app:{password}@db1/shop"),
            ),
        ];
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let others = lines.map(|(name, value)| (name, value.to_owned()));
        // Of two of a name the last counts.
        check(
            password,
            Some(Settings::default().with_vars(others.chain(secret))),
        )
    });
    assert_eq!(one, two);
    Corpus::Keep
});

fn document(text: &str) -> Option<Settings> {
    serde_json::from_str(text).ok()
}

/// Builds them; what is written is read as the same.
fn check(password: &str, settings: Option<Settings>) -> Option<ConfigError> {
    let settings = settings?;
    let written = serde_json::to_string(&settings);
    let shown = format!("{settings:?} {written:?}");
    if let Ok(written) = written {
        let again = document(&written).expect("what was written is a document");
        assert_eq!(
            serde_json::to_string(&again).expect("it was written before"),
            written
        );
    }
    let built = settings.build();
    let shown = format!("{shown} {built:?}");
    assert!(password.is_empty() || !shown.contains(password), "{shown}");
    let error = built.err()?;
    assert!(!error.key().is_empty());
    Some(error)
}
