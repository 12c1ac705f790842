//! What the environment may say. None of these changes that of the process.

use std::fs;

use leadpool::{Config, Target, config::Settings};
use proptest::prelude::*;

/// Variables, and how the settings show that come of them, or the key and a word of the error.
type Expected = Result<&'static [(&'static str, &'static str)], (&'static str, &'static str)>;
const ENVIRONMENTS: &[(&[(&str, &str)], Expected)] = &[
    (
        &[
            ("PGHOST", "db1,db2"),
            ("PGPORT", "6432"),
            ("PGDATABASE", "shop"),
            ("PGUSER", "app"),
            ("PGAPPNAME", "till"),
        ],
        Ok(&[
            ("host", "db1,db2"),
            ("port", "6432"),
            ("dbname", "shop"),
            ("user", "app"),
            ("application_name", "till"),
        ]),
    ),
    (
        &[
            ("PGHOST", "db1"),
            ("PGCONNECT_TIMEOUT", "3"),
            ("PGTARGETSESSIONATTRS", "any"),
            ("PGLOADBALANCEHOSTS", "random"),
        ],
        Ok(&[
            ("connect_timeout", "3s"),
            ("target_session_attrs", "any"),
            ("load_balance_hosts", "random"),
        ]),
    ),
    (
        &[
            ("PGHOST", "db1"),
            ("PGCHANNELBINDING", "disable"),
            ("PGCLIENTENCODING", "utf8"),
            ("PGSSLMODE", "disable"),
            ("PGHOSTADDR", "::1"),
        ],
        Ok(&[
            ("channel_binding", "disable"),
            ("sslmode", "disable"),
            ("hostaddr", "::1"),
        ]),
    ),
    (
        &[
            ("PGHOST", "db1"),
            ("PGOPTIONS", "-c a=1"),
            ("PGTZ", "Europe/Berlin"),
            ("PGDATESTYLE", "iso, dmy"),
            ("PGGEQO", "off"),
        ],
        Ok(&[(
            "options",
            "-c a=1 -c datestyle=iso,\\ dmy -c timezone=Europe/Berlin -c geqo=off",
        )]),
    ),
    // Empty is as not set; what is not libpq's, or of no use here, is passed over.
    (
        &[
            ("PGHOST", "db1"),
            ("PGPORT", ""),
            ("PGDATA", "/x"),
            ("PGGSSENCMODE", "disable"),
            ("LEADPOOL_SEED", "1"),
        ],
        Ok(&[("host", "db1")]),
    ),
    // Leadpool's own count more than all else, also for what the other says.
    (
        &[
            ("LEADPOOL__HOST", "db2"),
            ("PGHOST", "db1"),
            ("PGUSER", "app"),
            ("leadpool__writer_size", "3"),
        ],
        Ok(&[("host", "db2"), ("user", "app"), ("writer_size", "3")]),
    ),
    (
        &[
            ("LEADPOOL__CHECKOUT_TIMEOUT__SECS", "5"),
            ("LEADPOOL__CHECKOUT_TIMEOUT__NANOS", "7"),
            ("PGHOST", "db1"),
        ],
        Ok(&[("checkout_timeout", "5000000.007us")]),
    ),
    // A connection string counts more than variables.
    (
        &[
            ("DATABASE_URL", "postgres://app@db1/shop?target=standby"),
            ("PGHOST", "db2"),
            ("PGDATABASE", "x"),
            ("PGPORT", "7"),
            ("PGTARGETSESSIONATTRS", "any"),
        ],
        Ok(&[
            ("url", "postgres://app@db1/shop?target=standby"),
            ("port", "7"),
        ]),
    ),
    (
        &[
            ("DATABASE_URL", "mysql://x"),
            ("LEADPOOL__URL", "host=db1 options='-c a=1'"),
            ("PGTZ", "UTC"),
        ],
        Ok(&[
            ("url", "host=db1 options='-c a=1'"),
            ("options", "-c a=1 -c timezone=UTC"),
        ]),
    ),
    (
        &[("DATABASE_URL", "mysql://x"), ("LEADPOOL__HOST", "db1")],
        Ok(&[("host", "db1")]),
    ),
    // Errors name the variable.
    (
        &[("PGHOST", "db1"), ("PGTZ", "UTC\0")],
        Err(("PGTZ", "zero byte")),
    ),
    (&[("PGUSER", "app")], Err(("host", "at least one host"))),
    (
        &[("PGHOST", "db1"), ("PGPORT", "x")],
        Err(("PGPORT", "1 to 65535")),
    ),
    (
        &[("PGHOST", "db1"), ("PGCONNECT_TIMEOUT", "soon")],
        Err(("PGCONNECT_TIMEOUT", "with a unit")),
    ),
    (
        &[("PGHOST", "db1"), ("PGCONNECT_TIMEOUT", "0")],
        Err(("PGCONNECT_TIMEOUT", "at least")),
    ),
    (
        &[("PGHOST", "db1"), ("PGCLIENTENCODING", "LATIN1")],
        Err(("PGCLIENTENCODING", "UTF8")),
    ),
    (
        &[("PGHOST", "db1"), ("PGGSSENCMODE", "require")],
        Err(("PGGSSENCMODE", "GSSAPI")),
    ),
    (
        &[("PGHOST", "db1"), ("PGREQUIREPEER", "x")],
        Err(("PGREQUIREPEER", "not supported")),
    ),
    (
        &[("PGHOST", "db1"), ("LEADPOOL__WRITTER_SIZE", "1")],
        Err(("LEADPOOL__WRITTER_SIZE", "writer_size")),
    ),
    (
        &[("PGHOST", "db1"), ("LEADPOOL__WRITER_SIZE", "")],
        Err(("LEADPOOL__WRITER_SIZE", "whole number")),
    ),
    (
        &[("PGHOST", "db1"), ("LEADPOOL__WRITER_SIZE", "0")],
        Err(("LEADPOOL__WRITER_SIZE", "at least 1")),
    ),
    (
        &[
            ("PGHOST", "db1"),
            ("LEADPOOL__LAZY", "1"),
            ("leadpool__lazy", "0"),
        ],
        Err(("leadpool__lazy", "twice")),
    ),
    (
        &[
            ("PGHOST", "db1"),
            ("LEADPOOL__LAZY", "1"),
            ("LEADPOOL__LAZY__X", "0"),
        ],
        Err(("LEADPOOL__LAZY__X", "a table")),
    ),
    (
        &[("PGHOST", "db1"), ("PGSERVICE", "shop")],
        Err(("PGSERVICE", "PGSERVICEFILE")),
    ),
    (
        &[
            ("PGHOST", "db1"),
            ("PGSERVICE", "shop"),
            ("HOME", "/nowhere"),
        ],
        Err(("PGSERVICE", "/nowhere/.pg_service.conf")),
    ),
];

#[test]
fn the_environment_is_read() {
    for (variables, expected) in ENVIRONMENTS {
        let settings = Settings::default().with_vars(variables.iter().copied());
        match (settings.clone().build(), expected) {
            (Ok(_), Ok(fields)) => {
                let mut expected = Settings::default();
                for (key, value) in *fields {
                    let json = serde_json::json!({ *key: value }).to_string();
                    let one: Settings = serde_json::from_str(&json).unwrap();
                    let shown = format!("{one:?}");
                    let shown = shown
                        .trim_start_matches("Settings { ")
                        .trim_end_matches(" .. }");
                    assert!(
                        format!("{settings:?}").contains(shown),
                        "{settings:?} lacks {shown}"
                    );
                    expected.url = expected.url.or(one.url);
                }
                assert_eq!(settings.url, expected.url);
            }
            (Err(error), Err((key, advice))) => {
                assert_eq!(error.key(), *key, "{variables:?}: {error}");
                assert!(error.to_string().contains(advice), "{variables:?}: {error}");
            }
            (built, _) => panic!("{variables:?}: {built:?}"),
        }
    }
}

#[test]
fn what_a_file_says_is_between_leadpools_variables_and_libpqs() {
    let settings: Settings = toml::from_str(
        "url = 'postgres://app@db1/shop'\nhost = 'db2'\nwriter_size = 4\ntarget = 'any'",
    )
    .unwrap();
    let read = |variables: &[(&str, &str)]| {
        let settings = settings.clone().with_vars(variables.iter().copied());
        settings.build().unwrap()
    };
    let names = |config: &Config| config.hosts()[0].to_string();
    let config = read(&[
        ("PGHOST", "db9"),
        ("DATABASE_URL", "host=db8"),
        ("PGTARGETSESSIONATTRS", "standby"),
    ]);
    assert_eq!(
        (names(&config), config.target()),
        ("db2:5432".to_owned(), Target::Any)
    );
    let config = read(&[("LEADPOOL__HOST", "db3"), ("LEADPOOL__WRITER_SIZE", "5")]);
    assert_eq!(
        (names(&config), config.pool().writer_size),
        ("db3:5432".to_owned(), 5)
    );
    // A connection string of the operator's is not overruled by the file's field.
    let config = read(&[("LEADPOOL__URL", "postgres://db4:7/shop?writer_size=6")]);
    assert_eq!(
        (names(&config), config.pool().writer_size),
        ("db4:7".to_owned(), 6)
    );
}

#[test]
fn a_service_counts_more_than_variables_and_less_than_a_string() {
    let folder = tempfile();
    let file = folder.join("pg_service.conf");
    fs::write(&file, "[shop]\nhost=db1\nport=6432\nuser=app\npassword=hunter2\n[bad]\nhost=db1\npasword=hunter2\n[broken]\nhunter2\n").unwrap();
    let at = file.to_str().unwrap();
    let read = |service: &str, more: &[(&str, &str)]| {
        let variables = [("PGSERVICE", service), ("PGSERVICEFILE", at)];
        Settings::default()
            .with_vars(variables.iter().chain(more).copied())
            .build()
    };
    let config = read("shop", &[("PGHOST", "db9"), ("PGDATABASE", "x")]).unwrap();
    assert_eq!(config.hosts()[0].to_string(), "db1:6432");
    let config = read("shop", &[("DATABASE_URL", "postgres://db2:1/x")]).unwrap();
    assert_eq!(config.hosts()[0].to_string(), "db2:1");
    for (service, key, advice) in [
        ("bad", "PGSERVICE: pasword", "password"),
        ("broken", "PGSERVICE", "line 10"),
        ("none", "PGSERVICE", "no service"),
    ] {
        let error = read(service, &[]).unwrap_err();
        assert_eq!(error.key(), key, "{error}");
        assert!(error.to_string().contains(advice), "{error}");
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
    // The one for all users comes second.
    let folder_text = folder.to_str().unwrap();
    let variables = [
        ("PGSERVICE", "shop"),
        ("HOME", "/nowhere"),
        ("PGSYSCONFDIR", folder_text),
    ];
    assert!(Settings::default().with_vars(variables).build().is_ok());
    fs::remove_dir_all(folder).unwrap();
}

/// A folder of this test's own.
fn tempfile() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("leadpool-settings-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[cfg(unix)]
#[test]
fn what_is_not_utf8_is_told_if_it_is_ours() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    let bytes = || OsString::from_vec(vec![b'x', 0xff]);
    let host = || (OsString::from("PGHOST"), OsString::from("db1"));
    for name in ["PGUSER", "LEADPOOL__USER", "DATABASE_URL"] {
        let mut variables = vec![(OsString::from(name), bytes())];
        if name != "DATABASE_URL" {
            variables.push(host());
        }
        let error = Settings::default()
            .with_vars(variables)
            .build()
            .unwrap_err();
        assert_eq!(error.key(), name, "{error}");
    }
    let foreign = [
        host(),
        (OsString::from("OTHER"), bytes()),
        (bytes(), bytes()),
    ];
    assert!(Settings::default().with_vars(foreign).build().is_ok());
}

/// Something wrong with one key, and a password in all the places where one can be.
#[test]
fn no_failure_shows_a_secret() {
    for wrong in [
        "LEADPOOL__WRITER_SIZE",
        "LEADPOOL__X",
        "PGPORT",
        "LEADPOOL__HOST_ZONE",
        "PGSERVICE",
    ] {
        for secret in [
            "LEADPOOL__PASSWORD",
            "LEADPOOL__PASSWORD__X",
            "PGPASSWORD",
            "LEADPOOL__URL",
            "DATABASE_URL",
        ] {
            let value = match secret.ends_with("URL") {
                true => "postgres://app:hunter2@db1/shop",
                false => "hunter2",
            };
            let settings =
                Settings::default().with_vars([("PGHOST", "db1"), (wrong, "!"), (secret, value)]);
            let shown = format!("{settings:?}");
            let error = settings.build().unwrap_err();
            let shown = format!("{shown} {error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

proptest! {
    /// Whatever the environment says, nothing panics, and no password shows.
    #[test]
    fn no_environment_makes_it_panic(
        names in proptest::collection::vec("(LEADPOOL__[A-Z_]{0,20}|PG[A-Z]{2,8}|DATABASE_URL|LEADPOOL__(HOST|URL|WRITER_SIZE|HOST_ZONE|MAX_LAG|PASSWORD__X))", 0..4),
        value in "[a-z0-9:/@=,. -]{0,30}",
    ) {
        let mut variables: Vec<(String, String)> = names.into_iter().map(|name| (name, value.clone())).collect();
        variables.push(("PGPASSWORD".to_owned(), "hunter2X".to_owned()));
        let settings = Settings::default().with_vars(variables);
        let shown = format!("{settings:?} {:?}", serde_json::to_string(&settings));
        let shown = format!("{shown} {:?}", settings.build());
        prop_assert!(!shown.contains("hunter2X"), "{shown}");
    }
}
