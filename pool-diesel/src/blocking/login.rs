//! How libpq logs in to a host of the cluster.

use std::{fmt::Write as _, path::Path, time::Duration};

use diesel::{Connection as _, ConnectionError, PgConnection};
use leadpool::{
    Config, HostAddr,
    adapter::{Login, demands, encryption, has_connect_hooks},
    config::{RootCert, SslCertMode, SslMode},
};

use super::Error;

/// The least that libpq takes ([PostgreSQL documentation, section
/// 34.1.2](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CONNECT-TIMEOUT)).
const SHORTEST: u64 = 2;

/// libpq's keywords and values for one host. It may hold a password.
///
/// What is said explicitly can't come from libpq's environment.
pub(super) fn conninfo(config: &Config, host: &HostAddr, login: &Login) -> String {
    let login = login.driver();
    let mut text = Conninfo::default();
    text.add("host", host.name());
    let addresses = login.get_hostaddrs();
    let address = addresses.first().map(ToString::to_string);
    text.add("hostaddr", &address.unwrap_or_default());
    text.add("port", &host.port().to_string());
    text.add("target_session_attrs", "any");
    text.add_if("user", login.get_user());
    let password = login.get_password().map(String::from_utf8_lossy);
    text.add_if("password", password.as_deref());
    text.add_if("dbname", login.get_dbname());
    text.add_if("application_name", login.get_application_name());
    text.add_if("options", login.get_options());
    let limit = seconds(config.pool().connect_timeout).max(SHORTEST);
    text.add("connect_timeout", &limit.to_string());
    text.add("keepalives", if login.get_keepalives() { "1" } else { "0" });
    if login.get_keepalives() {
        let idle = seconds(login.get_keepalives_idle());
        text.add("keepalives_idle", &idle.to_string());
        let interval = login.get_keepalives_interval().map(seconds);
        text.add_if(
            "keepalives_interval",
            interval.map(|n| n.to_string()).as_deref(),
        );
        let count = login.get_keepalives_retries();
        text.add_if("keepalives_count", count.map(|n| n.to_string()).as_deref());
    }
    let user_timeout = login.get_tcp_user_timeout().map(Duration::as_millis);
    text.add_if(
        "tcp_user_timeout",
        user_timeout.map(|n| n.to_string()).as_deref(),
    );
    text.add_encryption(config);
    for (key, value) in demands(config) {
        text.add(key, &value);
    }
    text.0
}

fn mode(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        // What is not known here must not be weaker than what is.
        _ => "verify-full",
    }
}

/// Whole ones, and none too few.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[derive(Default)]
struct Conninfo(String);

impl Conninfo {
    fn add(&mut self, key: &str, value: &str) {
        let value = value.replace('\\', r"\\").replace('\'', r"\'");
        // Writing to a string can't fail.
        let _ = write!(self.0, "{key}='{value}' ");
    }

    fn add_if(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn add_encryption(&mut self, config: &Config) {
        let found = encryption(config);
        let found_mode = found.as_ref().map(|found| found.mode);
        self.add(
            "sslmode",
            mode(found_mode.unwrap_or_else(|| config.ssl_mode())),
        );
        let found_root = found.as_ref().and_then(|found| found.root_cert.as_deref());
        let root = match trusts_system(config) {
            true => Some(Path::new(SYSTEM)),
            false => found_root,
        };
        let client = found.as_ref().and_then(|found| found.client.as_ref());
        let cert = match config.tls().ssl_cert_mode {
            SslCertMode::Disable => Some(Path::new(NOWHERE)),
            _ => client.map(|(cert, _)| cert.as_path()),
        };
        let key = client.map(|(_, key)| key.as_path());
        // An empty value is none, and none of the environment's.
        for (name, path) in [("sslrootcert", root), ("sslcert", cert), ("sslkey", key)] {
            let path = path.map(Path::to_string_lossy).unwrap_or_default();
            self.add(name, &path);
        }
    }
}

/// What libpq calls those whom the system trusts, since PostgreSQL 16.
const SYSTEM: &str = "system";
/// Where nothing is.
const NOWHERE: &str = "/nonexistent/leadpool";

fn trusts_system(config: &Config) -> bool {
    config.tls().ssl_root_cert == Some(RootCert::System)
}

/// Refuses what leadpool can be told, and the libpq that this is linked with can't.
pub(super) fn check(config: &Config, owns_cluster: bool) -> Result<(), Error> {
    // One that is shared may have them for another pool.
    if owns_cluster && has_connect_hooks(config) {
        return refused("`on_connect`: it is for tokio-postgres: use `connection_customizer`");
    }
    let host = HostAddr::new("localhost", 5432);
    let mut text = Conninfo(conninfo(config, &host, &Login::configured(config, &host)));
    if let Some(said) = objection(&text) {
        return refused(&format!(
            "libpq refuses a setting, perhaps since it is of an older release: {said}; leave it \
             out, link a newer libpq, or use leadpool::Pool"
        ));
    }
    // As old as what it takes for the name of a file otherwise.
    text.add("require_auth", "");
    if trusts_system(config) && objection(&text).is_some() {
        return refused(
            "`sslrootcert=system`: this libpq is older than 16, and does not know it: name a \
             file, link a newer libpq, or use leadpool::Pool",
        );
    }
    Ok(())
}

fn refused(why: &str) -> Result<(), Error> {
    Err(Error::Pool(leadpool::Error::user(why.to_owned())))
}

/// What libpq has against it. It looks at all of it before it looks for the host, which is a socket
/// that is not there.
fn objection(text: &Conninfo) -> Option<String> {
    let mut text = Conninfo(text.0.clone());
    text.add("host", NOWHERE);
    text.add("hostaddr", "");
    match PgConnection::establish(&text.0) {
        Err(ConnectionError::BadConnection(said)) if !said.contains(&format!("{NOWHERE}/")) => {
            Some(said.trim_end().to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_the_environment_has_no_say() {
        let config =
            Config::builder(r"postgres://app:it%27s%5Ca@db1:6000/sh%20op?connect_timeout=1")
                .build()
                .unwrap();
        let host = HostAddr::new("db1", 6000);
        let text = conninfo(&config, &host, &Login::configured(&config, &host));
        for part in [
            "host='db1' hostaddr='' port='6000' target_session_attrs='any' ",
            r"password='it\'s\\a' ",
            "dbname='sh op' ",
            "connect_timeout='2' ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_libpq_has_to_keep_to_is_told_in_its_words() {
        let config = Config::builder(
            "postgres://app@db1/shop?require_auth=!password,!md5&channel_binding=require&sslsni=0\
             &sslmode=require&ssl_max_protocol_version=TLSv1.2&sslcertmode=disable",
        );
        let host = HostAddr::new("db1", 5432);
        let config = config.build().unwrap();
        let text = conninfo(&config, &host, &Login::configured(&config, &host));
        for part in [
            "require_auth='!password,!md5' ",
            "channel_binding='require' ",
            "sslsni='0' ",
            "sslmode='require' ",
            "ssl_max_protocol_version='TLSv1.2' ",
            "sslcert='/nonexistent/leadpool' ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let plain = Config::from_url("postgres://app@db1/shop").unwrap();
        let text = conninfo(&plain, &host, &Login::configured(&plain, &host));
        for part in ["sslmode='prefer' ", "sslkey='"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("require"), "{text}");
    }

    #[test]
    fn libpq_says_what_it_does_not_know_and_nothing_of_a_host() {
        let mut text = Conninfo::default();
        text.add("password", "secret");
        assert_eq!(objection(&text), None);
        text.add("sslcrl", "/nonexistent");
        text.add("channel_binding", "prefer");
        assert_eq!(objection(&text), None);
        text.add("a_key_of_tomorrow", "1");
        let said = objection(&text).unwrap();
        assert!(
            said.contains("a_key_of_tomorrow") && !said.contains("secret"),
            "{said}"
        );
        let mut text = Conninfo::default();
        text.add("channel_binding", "perhaps");
        let said = objection(&text).unwrap();
        assert!(said.contains("channel_binding"), "{said}");
    }

    #[test]
    fn who_trusts_the_system_needs_a_libpq_that_knows_of_it() {
        let config = Config::from_url("postgres://app@db1/shop?sslrootcert=system").unwrap();
        let host = HostAddr::new("db1", 5432);
        let text = conninfo(&config, &host, &Login::configured(&config, &host));
        assert!(
            text.contains("sslmode='verify-full' sslrootcert='system' "),
            "{text}"
        );
        let mut newer = Conninfo::default();
        newer.add("require_auth", "");
        let refused = check(&config, true).map_err(|error| error.to_string());
        match objection(&newer) {
            None => refused.unwrap(),
            Some(_) => assert!(refused.unwrap_err().contains("`sslrootcert=system`")),
        }
    }

    #[test]
    fn part_of_a_second_counts_as_one() {
        assert_eq!(seconds(Duration::from_millis(2_001)), 3);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
    }
}
