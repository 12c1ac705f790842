//! The keys of libpq's connection strings.
//!
//! [PostgreSQL documentation, section 34.1.2](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).

use super::{
    ConfigError,
    knobs::{KEYS, KNOBS, LIBPQ},
};

const NO_GSS: &str = "there is no GSSAPI; leave it out";
const NO_FILE: &str = "pass the value itself";
const NO_SUCH: &str = "leave it out";

/// What libpq reads and leadpool does not, with what to do about it.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("gssdelegation", NO_GSS),
    ("gssencmode", NO_GSS),
    ("gsslib", NO_GSS),
    ("krbsrvname", NO_GSS),
    ("max_protocol_version", NO_SUCH),
    ("min_protocol_version", NO_SUCH),
    ("oauth_client_id", NO_SUCH),
    ("oauth_client_secret", NO_SUCH),
    ("oauth_issuer", NO_SUCH),
    ("oauth_scope", NO_SUCH),
    (
        "replication",
        "a pool has no use for replication connections",
    ),
    ("requirepeer", NO_SUCH),
    ("requiressl", "say `sslmode=require`"),
    ("scram_client_key", NO_SUCH),
    ("scram_server_key", NO_SUCH),
    ("service", NO_FILE),
    ("servicefile", NO_FILE),
    ("sslcompression", NO_SUCH),
    ("sslkeylogfile", NO_SUCH),
    (
        "sslpassword",
        "decrypt the key (`openssl pkey`), and let nobody else read its file",
    ),
];

/// Accepts the keys of connection strings; the error says what is the matter with another.
pub(super) fn check(key: &str) -> Result<(), ConfigError> {
    match LIBPQ.contains(&key) || KNOBS.contains(&key) {
        true => Ok(()),
        false => Err(refuse(key)),
    }
}

/// What is the matter with a key that is not read.
pub(super) fn refuse(key: &str) -> ConfigError {
    if let Some((_, hint)) = UNSUPPORTED.iter().find(|(name, _)| *name == key) {
        return ConfigError::Unsupported {
            key: key.to_owned(),
            hint,
        };
    }
    let suggestion = KEYS
        .iter()
        .map(|known| (distance(key, known), *known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known);
    ConfigError::UnknownKey {
        // What is not a plain word is no misspelt key, and might be part of a password.
        key: if !key.is_empty()
            && key.len() <= 40
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            key.to_owned()
        } else {
            "(unreadable)".to_owned()
        },
        suggestion,
    }
}

/// How many letters have to be added, removed or changed to get from one word to the other
/// (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_table_only() {
        for key in LIBPQ.iter().chain(KNOBS) {
            assert!(check(key).is_ok(), "{key}");
            assert!(UNSUPPORTED.iter().all(|(name, _)| name != key), "{key}");
            assert_eq!(KEYS.iter().filter(|name| *name == key).count(), 1, "{key}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("host", "host"), 0);
        assert_eq!(distance("hosst", "host"), 1);
        assert_eq!(distance("pasword", "password"), 1);
        assert_eq!(distance("x", "application_name"), usize::MAX);
    }
}
