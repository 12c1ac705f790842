//! Which certificates of servers are taken, and what is said of the others.

use std::{env, process::Command, time::SystemTime};

use leadpool::{
    Config, Error, HostAddr, Pool,
    discovery::{Discovering, Discovery, View},
    error::TlsError,
};
use leadpool_testkit::Cluster as Servers;
use rcgen::{BasicConstraints, DnType, IsCa, KeyPair, SerialNumber, date_time_ymd};

use crate::support::*;

/// The TLS error at the root of another.
fn tls_error(error: &Error) -> TlsError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return tls.clone();
        }
        next = error.source();
    }
    panic!("not of TLS: {error}");
}

/// A pool that is connected while the server has a good certificate.
async fn trusting(authority: &Authority, folder: &Folder) -> (Servers, Pool) {
    let good = authority.sign(&["127.0.0.1"]);
    let root = root(&folder.put("root.crt", &authority.pem()));
    let servers = start(Some(good.server()), &[], 0).await;
    let url = url(
        &servers,
        "127.0.0.1",
        &format!("sslmode=verify-full&{root}"),
    );
    let pool = connect(&url).await.unwrap();
    (servers, pool)
}

/// What a checkout says of that certificate.
async fn checkout_of(servers: &Servers, pool: &Pool, leaf: &Leaf) -> (TlsError, String) {
    servers.set_tls(0, &leaf.server()).await.unwrap();
    let error = soon("a refusal", pool.get()).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    let text = error.to_string();
    let host = servers.addr(0).unwrap().to_string();
    assert!(text.contains(&host), "{text}");
    (tls_error(&error), text)
}

#[tokio::test]
async fn wrong_names_expired_and_foreign_certificates_are_refused_with_host_and_reason() {
    let (authority, folder) = (Authority::new("here"), Folder::new());
    let (servers, pool) = trusting(&authority, &folder).await;

    let wrong = authority.sign(&["db9.example", "10.0.0.9"]);
    let (error, text) = checkout_of(&servers, &pool, &wrong).await;
    assert!(
        matches!(&error, TlsError::WrongName { host, names, .. }
        if host == "127.0.0.1" && names == &["db9.example", "10.0.0.9"]),
        "{error:?}"
    );
    assert!(
        text.contains("is for db9.example, 10.0.0.9, not for 127.0.0.1"),
        "{text}"
    );

    let expired = authority.sign_with(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let (error, text) = checkout_of(&servers, &pool, &expired).await;
    assert!(matches!(&error, TlsError::Expired { since, .. } if *since < SystemTime::now()));
    assert!(
        text.contains("out of date since 2021-02-03T00:00:00Z"),
        "{text}"
    );

    let early = authority.sign_with(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let (error, text) = checkout_of(&servers, &pool, &early).await;
    assert!(matches!(error, TlsError::NotYetValid { .. }), "{text}");
    assert!(text.contains("4000-01-01"), "{text}");

    // One of another authority, of one with the same name, and one of its own.
    for other in ["there", "here"] {
        let foreign = Authority::new(other).sign(&["127.0.0.1"]);
        let (error, text) = checkout_of(&servers, &pool, &foreign).await;
        assert!(matches!(error, TlsError::UnknownIssuer { .. }), "{text}");
        assert!(
            text.contains(other) && text.contains("sslrootcert"),
            "{text}"
        );
    }

    // And with a good one it goes on.
    servers
        .set_tls(0, &authority.sign(&["127.0.0.1"]).server())
        .await
        .unwrap();
    let client = pool.get().await.unwrap();
    assert!(is_encrypted(&client).await);
}

#[tokio::test]
async fn the_monitor_tells_why_it_is_not_let_in() {
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &Authority::new("there").pem()));
    let leaf = Authority::new("here").sign(&["127.0.0.1"]);
    let servers = start(Some(leaf.server()), &[], 0).await;
    let url = url(
        &servers,
        "127.0.0.1",
        &format!("sslmode=verify-full&{root}"),
    );
    let pool = connect_with(&url, |config| config.lazy(true))
        .await
        .unwrap();
    seen(&pool, "a refusal", |topology| {
        topology.hosts()[0].problem.is_some()
    })
    .await;
    let short = std::time::Duration::from_millis(50);
    let error = pool
        .timeout_get(leadpool::Target::Primary, short)
        .await
        .unwrap_err();
    let Error::NoHost(error) = &error else {
        panic!("{error}");
    };
    let host = servers.addr(0).unwrap().to_string();
    let told = |line: &String| line.contains(&host) && line.contains("not trusted");
    assert!(error.seen.iter().any(told), "{error}");
}

#[tokio::test]
async fn verify_ca_looks_at_no_name_and_verify_full_at_the_one_that_was_dialled() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &authority.pem()));
    let leaf = authority.sign(&["localhost"]);
    let servers = start(Some(leaf.server()), &[], 0).await;
    let with = |mode: &str| format!("sslmode={mode}&{root}");
    for (name, mode, is_for) in [
        ("localhost", "verify-full", true),
        ("127.0.0.1", "verify-ca", true),
        ("127.0.0.1", "verify-full", false),
    ] {
        let url = url(&servers, name, &with(mode));
        if is_for {
            let pool = connect(&url).await.unwrap();
            assert!(is_encrypted(&pool.get().await.unwrap()).await);
        } else {
            assert!(refusal(&url).await.contains("is for localhost"));
        }
    }
    // An address to dial changes nothing about the name.
    let dial = |name: &str| {
        format!(
            "host={name} hostaddr=127.0.0.1 port={} user=app password=secret dbname=postgres \
             sslmode=verify-full {root}",
            servers.addr(0).unwrap().port()
        )
    };
    connect(&dial("localhost")).await.unwrap();
    let refused = refusal(&dial("db1.example")).await;
    assert!(refused.contains("not for db1.example"), "{refused}");
}

#[tokio::test]
async fn a_common_name_is_taken_where_there_is_no_other_and_a_certificate_may_vouch_for_itself() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let root_crt = root(&folder.put("root.crt", &authority.pem()));
    let named = |name: &'static str| {
        authority.sign_with(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
        })
    };
    let servers = start(Some(named("localhost").server()), &[], 0).await;
    let full = format!("sslmode=verify-full&{root_crt}");
    connect(&url(&servers, "localhost", &full)).await.unwrap();
    servers.set_tls(0, &named("db9").server()).await.unwrap();
    let refused = refusal(&url(&servers, "localhost", &full)).await;
    assert!(
        refused.contains("is for db9, not for localhost"),
        "{refused}"
    );

    // What `openssl req -x509` makes: an authority that is a server too.
    let own = |name: &str, from: i32, until: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        Leaf { certificate, key }
    };
    for (leaf, reason) in [
        (own("localhost", 2020, 4000), None),
        (
            own("db9", 2020, 4000),
            Some("is for db9, not for localhost"),
        ),
        (
            own("localhost", 2020, 2021),
            Some("out of date since 2021-01-01"),
        ),
        (
            own("localhost", 3000, 4000),
            Some("not valid before 3000-01-01"),
        ),
    ] {
        servers.set_tls(0, &leaf.server()).await.unwrap();
        let itself = root(&folder.put("itself.crt", &leaf.certificate.pem()));
        let url = url(
            &servers,
            "localhost",
            &format!("sslmode=verify-full&{itself}"),
        );
        match reason {
            None => drop(connect(&url).await.unwrap()),
            Some(reason) => {
                let refused = refusal(&url).await;
                assert!(refused.contains(reason), "{refused}");
            }
        }
        // Another one of the same name is no reason to trust it.
        let stranger = own("localhost", 2020, 4000);
        let other = root(&folder.put("other.crt", &stranger.certificate.pem()));
        let url = url_of(&servers, &other);
        assert!(!refusal(&url).await.is_empty());
    }
}

fn url_of(servers: &Servers, root: &str) -> String {
    url(servers, "localhost", &format!("sslmode=verify-ca&{root}"))
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let root = root(&folder.put("root.crt", &authority.pem()));
    let numbered = |serial: u64| {
        authority.sign_with(&["127.0.0.1"], |params| {
            params.serial_number = Some(SerialNumber::from(serial));
        })
    };
    let servers = start(Some(numbered(7).server()), &[], 0).await;
    let lists = folder.path("lists");
    std::fs::create_dir(&lists).unwrap();
    std::fs::write(lists.join("here.r0"), authority.revocation_list(&[7], 4000)).unwrap();
    let crl = |name: &str, text: String| format!("sslcrl={}", folder.put(name, &text).display());
    for (parameters, reason) in [
        (crl("other", authority.revocation_list(&[8], 4000)), None),
        (
            crl("this", authority.revocation_list(&[7, 8], 4000)),
            Some("was revoked"),
        ),
        (
            format!("sslcrldir={}", lists.display()),
            Some("was revoked"),
        ),
        (
            crl("old", authority.revocation_list(&[8], 2025)),
            Some("out of date"),
        ),
        (
            crl(
                "foreign",
                Authority::new("there").revocation_list(&[7], 4000),
            ),
            Some("no revocation list of its issuer"),
        ),
    ] {
        let url = url(
            &servers,
            "127.0.0.1",
            &format!("sslmode=verify-full&{root}&{parameters}"),
        );
        match reason {
            None => drop(connect(&url).await.unwrap()),
            Some(reason) => {
                let refused = refusal(&url).await;
                assert!(refused.contains(reason), "{parameters}: {refused}");
            }
        }
    }
}

/// Names hosts.
#[derive(Debug)]
struct Told([HostAddr; 2]);

impl Discovery for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async { Ok(self.0.iter().cloned().collect()) })
    }
}

#[tokio::test]
async fn a_host_that_discovery_found_is_checked_against_the_name_that_was_found() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let root_crt = root(&folder.put("root.crt", &authority.pem()));
    let servers = start(Some(authority.sign(&["127.0.0.1"]).server()), &[], 1).await;
    let first = format!(
        "postgres://app:secret@127.0.0.1:{}/postgres?sslmode=verify-full&{root_crt}",
        servers.addr(0).unwrap().port()
    );
    let port = |host| servers.addr(host).unwrap().port();
    // The same certificate, and the same server, by two names.
    for (name, is_for) in [("127.0.0.1", true), ("localhost", false)] {
        let known = HostAddr::new("127.0.0.1", port(0));
        let found = HostAddr::new(name, port(1));
        let pool = Pool::builder(&first)
            .configure(|config| config.allowed_hosts("localhost,127.0.0.0/8"))
            .discovery(Told([known, found.clone()]))
            .build()
            .await
            .unwrap();
        seen(&pool, "the host that was found", |topology| {
            topology.host(&found).is_some_and(|host| match is_for {
                true => host.is_reader(),
                false => host
                    .problem
                    .as_deref()
                    .is_some_and(|problem| problem.contains("is for 127.0.0.1, not for localhost")),
            })
        })
        .await;
    }
}

/// The store of the system is what `SSL_CERT_FILE` says, which only another process can be told.
#[tokio::test]
async fn the_systems_store_can_be_trusted() {
    let authority = Authority::new("here");
    let folder = Folder::new();
    let store = folder.put("store.pem", &authority.pem());
    let servers = start(Some(authority.sign(&["localhost"]).server()), &[], 0).await;
    for (url, is_for) in [
        (url(&servers, "localhost", "sslrootcert=system"), true),
        (url(&servers, "127.0.0.1", "sslrootcert=system"), false),
    ] {
        let output = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "certificates::with_the_systems_store",
                "--ignored",
            ])
            .env("SSL_CERT_FILE", &store)
            .env("LEADPOOL_TEST_URL", &url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("running 1 test"), "{text}");
        assert_eq!(output.status.success(), is_for, "{text}");
        assert!(is_for || text.contains("is for localhost"), "{text}");
    }
}

#[tokio::test]
#[ignore = "the other process of the test above"]
async fn with_the_systems_store() {
    let url = env::var("LEADPOOL_TEST_URL").unwrap();
    assert_eq!(
        Config::from_url(&url).unwrap().ssl_mode(),
        leadpool::config::SslMode::VerifyFull
    );
    if !url.contains("localhost") {
        panic!("{}", refusal(&url).await);
    }
    let pool = connect(&url).await.unwrap();
    assert!(is_encrypted(&pool.get().await.unwrap()).await);
}
