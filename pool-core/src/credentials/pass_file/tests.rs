//! What a line fits, and which files are read.

use std::sync::Mutex;

use proptest::prelude::*;
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
};

use super::*;

fn found(text: &str, [host, port, dbname, user]: [&str; 4]) -> Option<String> {
    let host = HostAddr::new(host, port.parse().unwrap());
    let request = CredentialRequest::new(host, user, dbname);
    find(text, &Entry::of(&request)).map(|secret| secret.expose().to_owned())
}

#[test]
fn which_line_fits() {
    let app = ["db1", "5432", "shop", "app"];
    for (text, asked, password) in [
        ("db1:5432:shop:app:secret", app, Some("secret")),
        ("db1:5432:shop:app:secret\r\n", app, Some("secret")),
        ("DB1:5432:shop:app:secret\n", app, Some("secret")),
        // Each field counts.
        ("db2:5432:shop:app:secret", app, None),
        ("db1:5433:shop:app:secret", app, None),
        ("db1:5432:till:app:secret", app, None),
        ("db1:5432:shop:till:secret", app, None),
        ("db1:5432:Shop:app:secret", app, None),
        // Wildcards, each field's own, and none within a word.
        ("*:*:*:*:secret", app, Some("secret")),
        ("db1:*:*:app:secret", app, Some("secret")),
        ("*:*:*:till:secret", app, None),
        ("db*:*:*:*:secret", app, None),
        (r"\*:*:*:*:secret", app, None),
        // The first line that fits.
        ("db2:*:*:*:a\ndb1:*:*:*:b\n*:*:*:*:c", app, Some("b")),
        ("*:*:*:*:c\ndb1:*:*:*:b", app, Some("c")),
        ("db1:*:*:*:\n*:*:*:*:c", app, None),
        // Comments, empty lines, and what is no entry.
        ("# db1:*:*:*:a\n\n*:*:*:*:b", app, Some("b")),
        ("#:5432:shop:app:a", ["#", "5432", "shop", "app"], None),
        ("db1:5432:shop:app\n*:*:*:*:b", app, Some("b")),
        ("db1", app, None),
        ("", app, None),
        // Escapes, and where the password ends.
        (r"*:*:*:*:a\:b\\c", app, Some(r"a:b\c")),
        (r"*:*:*:*:\s\e\c", app, Some("sec")),
        (r"*:*:*:*:secret\", app, Some(r"secret\")),
        ("*:*:*:*:secret:rest", app, Some("secret")),
        ("*:*:*:*: sec ret ", app, Some(" sec ret ")),
        ("*:*:*:*:pässwört", app, Some("pässwört")),
        (
            r"\:\:1:5432:a\\b:c\:d:secret",
            ["::1", "5432", r"a\b", "c:d"],
            Some("secret"),
        ),
        // Sockets at their usual places.
        (
            "localhost:*:*:*:secret",
            ["/tmp", "5432", "shop", "app"],
            Some("secret"),
        ),
        (
            "localhost:*:*:*:secret",
            ["/var/run/postgresql", "5432", "shop", "app"],
            Some("secret"),
        ),
        (
            "/srv/pg:*:*:*:secret",
            ["/srv/pg", "5432", "shop", "app"],
            Some("secret"),
        ),
    ] {
        assert_eq!(found(text, asked).as_deref(), password, "{text:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_read_is_refused_by_its_name() {
    use std::os::unix::fs::PermissionsExt as _;

    let path = env::temp_dir().join(format!("leadpool-passfile-{}", std::process::id()));
    fs::write(&path, "*:*:*:*:hunter2").unwrap();
    let file = PassFile::new(&path);
    let request = CredentialRequest::new(HostAddr::new("db1", 5432), "app", "shop");
    let entry = Entry::of(&request);
    for (mode, usable) in [
        (0o600, true),
        (0o400, true),
        (0o640, false),
        (0o604, false),
        (0o610, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match file.find(&entry) {
            Ok(found) => assert!(usable && found.is_some(), "{mode:o}"),
            Err(error) => {
                assert!(!usable && error.is_permanent(), "{mode:o}");
                let text = format!("{error} {error:?}");
                assert!(
                    text.contains("`passfile`") && text.contains("leadpool-passfile"),
                    "{text}"
                );
                assert!(text.contains(&format!("{mode:04o}")), "{text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(!file.find(&entry).unwrap_err().is_permanent());
    let folder = PassFile::new(env::temp_dir());
    assert!(folder.find(&entry).unwrap_err().is_permanent());
}

/// Keeps which rows are told, and with which fields.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Layer<Registry> for Told {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, Registry>) {
        let told = (event.metadata().name(), format!("{event:?}"));
        self.0.lock().unwrap().push(told);
    }
}

#[cfg(unix)]
#[test]
fn one_that_nobody_named_is_ignored_with_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;

    let told = Told::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    let file = PassFile::default();
    let request = CredentialRequest::new(HostAddr::new("db1", 5432), "app", "shop");
    let entry = Entry::of(&request);
    let subscriber = tracing_subscriber::registry().with(told.clone());
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(file.find_by_default(&path, &entry), None);
        assert!(told.0.lock().unwrap().is_empty(), "it may be missing");
        fs::write(&path, "*:*:*:*:hunter2").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for _ in 0..2 {
            assert_eq!(file.find_by_default(&path, &entry), None);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(file.find_by_default(&path, &entry).is_some());
    });
    let told = told.0.lock().unwrap();
    let [(name, fields)] = &told[..] else {
        panic!("once: {told:?}");
    };
    assert_eq!(*name, rows::PASS_FILE_IGNORED.name);
    for part in [
        path.to_str().unwrap(),
        "0640",
        "file.path",
        "leadpool.problem",
    ] {
        assert!(fields.contains(part), "{part} in {fields}");
    }
    assert!(!fields.contains("hunter2"), "{fields}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a*:#\\\\\r\né]{0,60}") {
        let _found = found(&text, ["a", "1", "a", "a"]);
    }

    #[test]
    fn what_is_escaped_is_found_again(
        host in "[a-z.:]{1,10}",
        dbname in "[^\0\r\n]{1,10}",
        user in "[^\0\r\n]{1,10}",
        password in "[^\0\r\n]{1,10}",
    ) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let line = format!(
            "{}:5432:{}:{}:{}",
            escape(&host), escape(&dbname), escape(&user), escape(&password)
        );
        let found = found(&line, [&host, "5432", &dbname, &user]);
        prop_assert_eq!(found, Some(password));
    }
}
