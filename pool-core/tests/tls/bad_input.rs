//! Mistakes that show when the configuration is built. Each is told with its key and its file, and
//! without a word of what the file holds.

use std::{fs, os::unix::fs::PermissionsExt as _};

use leadpool::{
    Config,
    config::{ConfigError, RootCert, SslCertMode, SslMode, SslNegotiation, TlsVersion},
    tokio_postgres::config::ChannelBinding,
};

use crate::support::*;

fn build(parameters: &str) -> Result<Config, ConfigError> {
    Config::from_url(&format!("postgres://db1/shop?{parameters}"))
}

/// A certificate, its key, and everything that may be wrong with them.
struct Files {
    folder: Folder,
    leaf: Leaf,
}

impl Files {
    fn new() -> Self {
        let leaf = Authority::new("here").sign(&["app"]);
        let folder = Folder::new();
        folder.put("good.crt", &leaf.certificate.pem());
        folder.put("good.key", &leaf.key.serialize_pem());
        Self { folder, leaf }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }

    /// The error names the key, the file and the reason, and nothing of the key's contents.
    fn refuses(&self, parameters: &str, key: &str, file: &str, reason: &str) {
        let Err(error) = build(parameters) else {
            panic!("{parameters}: is taken");
        };
        let text = format!("{error} {error:?}");
        assert_eq!(error.key(), key, "{text}");
        assert!(text.contains(&self.path(file)), "{text}");
        assert!(text.contains(reason), "{text}");
        let secret = self.leaf.key.serialize_pem();
        let secret = secret.lines().nth(1).unwrap();
        assert!(!text.contains(&secret[..20]), "{text}");
        // Nor as a list of bytes.
        let bytes = format!("{:?}", &secret.as_bytes()[..8]);
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
}

#[test]
fn malformed_and_unreadable_files_are_told_by_key_and_file() {
    let files = Files::new();
    let pem = files.leaf.certificate.pem();
    files.folder.put("empty", "");
    files.folder.put("nonsense", "nonsense");
    files.folder.put("cut", &pem[..pem.len() / 2]);
    files.folder.put(
        "no_certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let secret = files.leaf.key.serialize_pem();
    let secret = secret.lines().nth(1).unwrap();
    files
        .folder
        .put("broken", &format!("-----BEGIN {secret}\n"));
    fs::create_dir(files.folder.path("folder")).unwrap();
    for (file, reason) in [
        ("missing", "can't be read"),
        ("empty", "holds no certificate"),
        ("nonsense", "holds no certificate"),
        ("cut", "not PEM"),
        ("no_certificate", "can't be used"),
        ("good.key", "holds no certificate"),
        ("broken", "a BEGIN line is broken"),
        ("folder", "is no file"),
    ] {
        let root = format!("sslrootcert={}", files.path(file));
        // In the weakest mode that may use it too.
        files.refuses(&root, "sslrootcert", file, reason);
        if file != "no_certificate" {
            let client = format!(
                "sslcert={}&sslkey={}",
                files.path(file),
                files.path("good.key")
            );
            files.refuses(&client, "sslcert", file, reason);
        }
    }
    let root = format!("sslrootcert={}", files.path("good.crt"));
    for (file, reason) in [
        ("missing", "can't be read"),
        ("nonsense", "holds no revocation list"),
        ("good.crt", "holds no revocation list"),
    ] {
        let crl = format!("{root}&sslcrl={}", files.path(file));
        files.refuses(&crl, "sslcrl", file, reason);
    }
    let crl = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let crl = files.folder.put("broken.crl", crl);
    let error = build(&format!("{root}&sslcrl={}", crl.display())).unwrap_err();
    assert_eq!(error.key(), "sslcrl", "{error}");
    for (dir, reason) in [
        ("missing", "can't be read"),
        ("folder", "no revocation list"),
    ] {
        let dirs = format!("{root}&sslcrldir={}", files.path(dir));
        files.refuses(&dirs, "sslcrldir", dir, reason);
    }
    // Where there is no TLS at all nothing is read.
    assert!(build("sslmode=disable&sslrootcert=/missing").is_ok());
}

#[test]
fn keys_that_others_can_read_that_fit_no_certificate_or_are_encrypted_are_refused() {
    let files = Files::new();
    let with = |key: &str| {
        format!(
            "sslcert={}&sslkey={}",
            files.path("good.crt"),
            files.path(key)
        )
    };
    assert!(build(&with("good.key")).is_ok());
    let owned_by_root =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(files.folder.path("good.key")).unwrap())
            == 0;
    for (mode, is_private) in [
        (0o400, true),
        (0o640, owned_by_root),
        (0o660, false),
        (0o604, false),
        (0o601, false),
        (0o644, false),
    ] {
        let path = files.folder.path("good.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if is_private {
            assert!(build(&with("good.key")).is_ok(), "{mode:o}");
        } else {
            files.refuses(&with("good.key"), "sslkey", "good.key", "chmod 0600");
        }
    }
    let other = Authority::new("here").sign(&["app"]);
    files.folder.put("other.key", &other.key.serialize_pem());
    files.folder.put("nonsense.key", "nonsense");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    files.folder.put("encrypted.key", encrypted);
    // A line that is no PEM, and would be quoted by a library that is asked why.
    let secret = files.leaf.key.serialize_pem();
    let secret = secret.lines().nth(1).unwrap().to_owned();
    files
        .folder
        .put("broken.key", &format!("-----BEGIN {secret}\n{secret}\n"));
    for (key, reason) in [
        ("missing.key", "can't be read"),
        ("other.key", "good.crt"),
        ("nonsense.key", "holds no private key"),
        ("encrypted.key", "is encrypted"),
        ("broken.key", "holds no private key"),
        ("good.crt", "holds no private key"),
    ] {
        files.refuses(&with(key), "sslkey", key, reason);
    }
}

#[test]
fn unknown_words_and_contradictions_name_their_keys() {
    for (parameters, key, reason) in [
        ("sslmode=on", "sslmode", "verify-full"),
        ("sslmode=verify_full", "sslmode", "verify-full"),
        ("sslmode=verify-full", "sslrootcert", "whom to trust"),
        ("sslmode=verify-ca", "sslrootcert", "whom to trust"),
        (
            "sslmode=require&sslrootcert=system",
            "sslmode",
            "verify-full",
        ),
        ("sslnegotiation=maybe", "sslnegotiation", "direct"),
        ("sslnegotiation=direct", "sslnegotiation", "require"),
        ("sslcertmode=sometimes", "sslcertmode", "allow"),
        ("sslcertmode=require", "sslcert", "client certificate"),
        ("sslkey=/x", "sslkey", "certificate"),
        ("sslsni=yes", "sslsni", "0 or 1"),
        (
            "ssl_min_protocol_version=TLSv1",
            "ssl_min_protocol_version",
            "older ones are broken",
        ),
        (
            "ssl_max_protocol_version=TLSv1.1",
            "ssl_max_protocol_version",
            "TLSv1.2",
        ),
        (
            "ssl_min_protocol_version=SSLv3",
            "ssl_min_protocol_version",
            "TLSv1.2",
        ),
        (
            "ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
            "ssl_min_protocol_version",
            "greater",
        ),
        (
            "channel_binding=require&sslmode=disable",
            "channel_binding",
            "TLS",
        ),
        ("sslpassword=x", "sslpassword", "decrypt the key"),
        ("requiressl=1", "requiressl", "sslmode=require"),
    ] {
        let error = build(parameters).unwrap_err();
        assert_eq!(error.key(), key, "{parameters}: {error}");
        assert!(error.to_string().contains(reason), "{parameters}: {error}");
    }
}

#[test]
fn the_builder_says_the_same_as_the_url() {
    let files = Files::new();
    let parameters = format!(
        "sslmode=verify-full&sslrootcert={root}&sslcert={root}&sslkey={key}&sslsni=0&\
         sslnegotiation=direct&sslcertmode=require&ssl_min_protocol_version=TLSv1.2&\
         ssl_max_protocol_version=TLSv1.3&channel_binding=require",
        root = files.path("good.crt"),
        key = files.path("good.key"),
    );
    let by_url = build(&parameters).unwrap();
    let by_builder = Config::builder("postgres://db1/shop")
        .ssl_mode(SslMode::VerifyFull)
        .ssl_root_cert(files.folder.path("good.crt"))
        .ssl_cert(files.folder.path("good.crt"))
        .ssl_key(files.folder.path("good.key"))
        .ssl_sni(false)
        .ssl_negotiation(SslNegotiation::Direct)
        .ssl_cert_mode(SslCertMode::Require)
        .ssl_min_protocol_version(TlsVersion::Tls12)
        .ssl_max_protocol_version(TlsVersion::Tls13)
        .channel_binding(ChannelBinding::Require)
        .build()
        .unwrap();
    assert_eq!(by_url.tls(), by_builder.tls());
    assert_eq!(format!("{by_url:?}"), format!("{by_builder:?}"));
    let root = files.folder.path("good.crt");
    assert_eq!(by_url.tls().ssl_root_cert, Some(RootCert::File(root)));
    assert_eq!(
        build("sslmode=REQUIRE").unwrap().ssl_mode(),
        SslMode::Require
    );
    assert_eq!(build("sslmode=").unwrap().ssl_mode(), SslMode::Prefer);
}

#[test]
fn keys_never_show() {
    let files = Files::new();
    let config = build(&format!(
        "sslcert={}&sslkey={}",
        files.path("good.crt"),
        files.path("good.key")
    ))
    .unwrap();
    let secret = files.leaf.key.serialize_pem();
    let secret = secret.lines().nth(1).unwrap();
    assert!(!format!("{config:?}").contains(&secret[..20]));
}
