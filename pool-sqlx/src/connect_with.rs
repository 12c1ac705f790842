//! From sqlx's own options of a connection.

use std::path::PathBuf;

use leadpool::{
    Config, HostAddr,
    config::{ConfigBuilder, SslMode},
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{PgPoolOptions, Pool};

impl PgPoolOptions {
    /// Connects with sqlx's own options of a connection, as `sqlx::test` passes them, or as an
    /// application has built them.
    ///
    /// They name one host. The others of its cluster are added with
    /// [`ConfigBuilder::host`](leadpool::config::ConfigBuilder::host), or found by a
    /// [source](Self::discovery). Host, login and TLS hold for leadpool's own connections too.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect). `Configuration` also where certificates were given as text:
    /// leadpool reads them from files.
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), sqlx::Error> {
    /// use leadpool_sqlx::{PgPoolOptions, leadpool::HostAddr};
    /// use sqlx::postgres::PgConnectOptions;
    ///
    /// let options = PgConnectOptions::new().host("db1").username("app").database("shop");
    /// let pool = PgPoolOptions::new()
    ///     .configure(|config| config.host(HostAddr::new("db2", 5432)))
    ///     .connect_with(options)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(self, options: PgConnectOptions) -> Result<Pool, sqlx::Error> {
        let builder = builder(&options)?;
        self.told(options).connect_as(builder).await
    }

    /// Makes the pool without waiting, as [`connect_lazy`](Self::connect_lazy), with sqlx's own
    /// options of a connection.
    ///
    /// # Errors
    ///
    /// As [`connect_lazy`](Self::connect_lazy) and [`connect_with`](Self::connect_with).
    pub fn connect_lazy_with(self, options: PgConnectOptions) -> Result<Pool, sqlx::Error> {
        let builder = builder(&options)?;
        self.told(options).connect_lazy_as(builder)
    }

    /// What was said of connections before counts less than options that are complete.
    fn told(mut self, options: PgConnectOptions) -> Self {
        self.connect_options = Some(options);
        self
    }
}

impl Pool {
    /// Connects with default options of the pool: see [`PgPoolOptions::connect_with`].
    ///
    /// # Errors
    ///
    /// As [`PgPoolOptions::connect_with`].
    ///
    /// # Cancel safety
    ///
    /// As [`PgPoolOptions::connect_with`].
    pub async fn connect_with(options: PgConnectOptions) -> Result<Self, sqlx::Error> {
        PgPoolOptions::new().connect_with(options).await
    }

    /// Connects with default options of the pool when it is used: see
    /// [`PgPoolOptions::connect_lazy_with`].
    ///
    /// # Errors
    ///
    /// As [`PgPoolOptions::connect_lazy_with`].
    pub fn connect_lazy_with(options: PgConnectOptions) -> Result<Self, sqlx::Error> {
        PgPoolOptions::new().connect_lazy_with(options)
    }
}

/// What sqlx's options say, as leadpool's configuration.
fn builder(options: &PgConnectOptions) -> Result<ConfigBuilder, sqlx::Error> {
    let name = match options.get_socket() {
        Some(path) => path.to_string_lossy().into_owned(),
        None => bare(options.get_host()).to_owned(),
    };
    let mut builder = Config::builder("")
        .host(HostAddr::new(name, options.get_port()))
        .user(options.get_username());
    if let Some(database) = options.get_database() {
        builder = builder.dbname(database);
    }
    if let Some(name) = options.get_application_name() {
        builder = builder.application_name(name);
    }
    let mode = match options.get_ssl_mode() {
        PgSslMode::Disable => Some(SslMode::Disable),
        PgSslMode::Allow => Some(SslMode::Allow),
        // The default of both.
        PgSslMode::Prefer => None,
        PgSslMode::Require => Some(SslMode::Require),
        PgSslMode::VerifyCa => Some(SslMode::VerifyCa),
        PgSslMode::VerifyFull => Some(SslMode::VerifyFull),
    };
    if let Some(mode) = mode {
        builder = builder.ssl_mode(mode);
    }
    // The rest can be read in a URL only, which sqlx makes without quoting those.
    let url = options.clone().host("h").username("u").database("d");
    let url = url.to_url_lossy();
    if let Some(password) = url.password() {
        let password = percent_encoding::percent_decode_str(password);
        builder = builder.password(password.decode_utf8_lossy());
    }
    for (key, value) in url.query_pairs() {
        builder = match &*key {
            "sslrootcert" => builder.ssl_root_cert(file(&key, &value)?),
            "sslcert" => builder.ssl_cert(file(&key, &value)?),
            "sslkey" => builder.ssl_key(file(&key, &value)?),
            _ => builder,
        };
    }
    Ok(builder)
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// The file of a certificate or key, as sqlx shows it.
fn file(key: &str, shown: &str) -> Result<PathBuf, sqlx::Error> {
    match shown.strip_prefix("file: ") {
        Some(path) => Ok(path.into()),
        None => {
            let text =
                format!("`{key}` was given as text: leadpool reads files only, write it to one");
            Err(sqlx::Error::Configuration(text.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &PgConnectOptions) -> Config {
        builder(options).unwrap().build().unwrap()
    }

    #[test]
    fn everything_is_taken_over() {
        let options = PgConnectOptions::new_without_pgpass()
            .host("db1")
            .port(6543)
            .username("a@b/c")
            .password("p:w/ü%")
            .database("shop & co")
            .application_name("till")
            .ssl_mode(PgSslMode::Require);
        let config = config(&options);
        assert_eq!(config.hosts(), [HostAddr::new("db1", 6543)]);
        assert_eq!(config.ssl_mode(), SslMode::Require);
        let login = leadpool::adapter::Login::configured(&config, &config.hosts()[0]);
        let login = login.driver();
        assert_eq!(login.get_user(), Some("a@b/c"));
        assert_eq!(login.get_password(), Some("p:w/ü%".as_bytes()));
        assert_eq!(login.get_dbname(), Some("shop & co"));
        assert_eq!(login.get_application_name(), Some("till"));
    }

    #[test]
    fn every_way_to_name_a_host() {
        let host = |options: PgConnectOptions| config(&options).hosts()[0].clone();
        let new = PgConnectOptions::new_without_pgpass;
        assert_eq!(host(new().host("::1").port(5)), HostAddr::new("::1", 5));
        assert_eq!(host(new().host("[::1]").port(5)), HostAddr::new("::1", 5));
        let socket = host(new().socket("/run/pg").port(5));
        assert_eq!(socket, HostAddr::new("/run/pg", 5));
    }

    #[test]
    fn files_are_found_and_texts_refused() {
        let new = PgConnectOptions::new_without_pgpass;
        let options = new().host("db1").ssl_root_cert("/etc/ca.pem");
        let built = builder(&options.ssl_mode(PgSslMode::VerifyFull)).unwrap();
        assert!(format!("{built:?}").contains("/etc/ca.pem"));
        let text = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----".to_vec();
        let error = builder(&new().ssl_root_cert_from_pem(text)).unwrap_err();
        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }
}
