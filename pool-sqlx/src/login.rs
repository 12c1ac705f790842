//! How sqlx logs in to a host of the cluster.

use leadpool::{Config, HostAddr, adapter};
use sqlx::postgres::PgConnectOptions;

use crate::PgPoolOptions;

/// sqlx's options for one host: the login of the cluster, the rest from the application.
pub(crate) fn connect_options(
    options: &PgPoolOptions,
    config: &Config,
    host: &HostAddr,
) -> PgConnectOptions {
    let login = adapter::login(config, host);
    let mut connect = match &options.connect_options {
        Some(options) => options.clone(),
        None => PgConnectOptions::new_without_pgpass(),
    };
    connect = if host.name().starts_with('/') {
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
    match login.get_options().and_then(settings) {
        Some(settings) => connect.options(settings),
        None => connect,
    }
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
