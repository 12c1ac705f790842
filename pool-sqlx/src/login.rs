//! How sqlx logs in to a host of the cluster.

use leadpool::{
    Config, HostAddr,
    adapter::{Login, demands, encryption, has_connect_hooks, is_rejection},
    config::SslMode,
};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};

use crate::PgPoolOptions;

/// sqlx's options for one host: login, TLS and settings of the cluster, the rest from the
/// application.
pub(crate) fn connect_options(
    options: &PgPoolOptions,
    config: &Config,
    host: &HostAddr,
    login: &Login,
) -> PgConnectOptions {
    let login = login.driver();
    let mut connect = match &options.connect_options {
        Some(options) => options.clone(),
        None => PgConnectOptions::new_without_pgpass(),
    };
    let is_socket = host.name().starts_with('/');
    connect = if is_socket {
        connect.socket(host.name())
    } else {
        let address = login.get_hostaddrs().first();
        let name = address.map_or_else(|| host.name().to_owned(), ToString::to_string);
        connect.host(&name)
    };
    connect = connect.port(host.port());
    if let Some(user) = login.get_user() {
        connect = connect.username(user);
    }
    if let Some(password) = login.get_password() {
        connect = connect.password(&String::from_utf8_lossy(password));
    }
    if let Some(database) = login.get_dbname() {
        connect = connect.database(database);
    }
    if let Some(name) = login.get_application_name() {
        connect = connect.application_name(name);
    }
    if let Some(settings) = login.get_options().and_then(settings) {
        connect = connect.options(settings);
    }
    match is_socket {
        // There is no network to be protected from.
        true => connect.ssl_mode(PgSslMode::Disable),
        false => encrypted(connect, config),
    }
}

/// With leadpool's TLS, if anything is said of it there.
fn encrypted(mut connect: PgConnectOptions, config: &Config) -> PgConnectOptions {
    let Some(encryption) = encryption(config) else {
        return connect;
    };
    connect = connect.ssl_mode(match encryption.mode {
        SslMode::Disable => PgSslMode::Disable,
        // sqlx has no `allow`, and would never encrypt.
        SslMode::Allow | SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        // What is not known here must not be weaker than what is.
        _ => PgSslMode::VerifyFull,
    });
    if let Some(root_cert) = encryption.root_cert {
        connect = connect.ssl_root_cert(root_cert);
    }
    if let Some((cert, key)) = encryption.client {
        connect = connect.ssl_client_cert(cert).ssl_client_key(key);
    }
    connect
}

/// Refuses what leadpool can be told, and sqlx can't.
pub(crate) fn check(config: &Config, owns_cluster: bool) -> Result<(), sqlx::Error> {
    let refused = |what: &str, why: &str| {
        let text = format!("`{what}`: {why}");
        Err(sqlx::Error::Configuration(text.into()))
    };
    if let Some((demand, _)) = demands(config).first() {
        return refused(
            demand,
            "sqlx can't keep to it: leave it out, or use leadpool::Pool",
        );
    }
    // One that is shared may have them for another pool.
    if owns_cluster && has_connect_hooks(config) {
        return refused(
            "on_connect",
            "it is for tokio-postgres: use `after_connect`",
        );
    }
    for host in config.hosts() {
        let login = Login::configured(config, host);
        let driver = login.driver();
        if driver
            .get_options()
            .is_some_and(|text| settings(text).is_none())
        {
            return refused("options", "sqlx takes settings only, `-c name=value`");
        }
        if config.ssl_mode() == SslMode::VerifyFull && !driver.get_hostaddrs().is_empty() {
            let why = "sqlx would look for the address in the certificate, not for the name: \
                       leave it out, or use `verify-ca`";
            return refused("hostaddr", why);
        }
    }
    Ok(())
}

/// Whether the host refused the password or token, so that another may be better.
pub(crate) fn is_refused_login(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    let error = database.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| is_rejection(error.code(), error.routine(), error.message()))
}

/// Reads libpq's `options`: `-c name=value` and `--name=value`, with backslashes before spaces that
/// belong to a value. `None` if there is something else, which sqlx could not be told.
///
/// [PostgreSQL documentation, section 34.1.2](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS)
pub(crate) fn settings(options: &str) -> Option<Vec<(String, String)>> {
    let mut words = vec![String::new()];
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => words.last_mut()?.push(chars.next()?),
            c if c.is_ascii_whitespace() => words.push(String::new()),
            c => words.last_mut()?.push(c),
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next()?,
            Some(setting) => setting.to_owned(),
            None => return None,
        };
        let (name, value) = setting.split_once('=')?;
        settings.push((name.to_owned(), value.to_owned()));
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_options() {
        let read = |text| {
            let settings = settings(text)?;
            let shown = settings
                .iter()
                .map(|(name, value)| format!("{name}:{value}"));
            Some(shown.collect::<Vec<_>>())
        };
        let expected = |parts: &[&str]| Some(parts.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(read(""), expected(&[]));
        assert_eq!(
            read(r"-c work_mem=64kB  --geqo=off -csearch_path=a\ b"),
            expected(&["work_mem:64kB", "geqo:off", "search_path:a b"])
        );
        for wrong in ["-d 3", "-c", "-c work_mem", "work_mem=1", "-c a=b\\"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
