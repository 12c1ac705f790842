//! The URL of one Patroni.

use std::fmt;

use hyper::{
    Uri,
    http::uri::{Authority, Scheme},
};

use super::{PatroniError, members::quote};

/// Where one Patroni listens: scheme, host and port, nothing else.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    is_https: bool,
    /// Without brackets, in lower case.
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads a URL that the application gives. Its path must be empty.
    pub(super) fn parse(url: &str) -> Result<Self, PatroniError> {
        let error = |problem| PatroniError::Url {
            url: quote(&without_login(url)),
            problem,
        };
        let (endpoint, path) = read(url).map_err(error)?;
        match path.as_str() {
            "" | "/" => Ok(endpoint),
            _ => Err(error(
                "give scheme, host and port only: the path is Patroni's own",
            )),
        }
    }

    /// Reads the `api_url` of a member, which ends in `/patroni`.
    pub(super) fn parse_api_url(url: &str) -> Option<Self> {
        let (endpoint, path) = read(url).ok()?;
        matches!(path.as_str(), "" | "/" | "/patroni").then_some(endpoint)
    }

    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    /// The name or address, without brackets, in lower case.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What the header `Host` says.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The endpoint and the path.
fn read(url: &str) -> Result<(Endpoint, String), &'static str> {
    let uri: Uri = url
        .parse()
        .map_err(|_| "is not a URL such as http://10.0.0.1:8008")?;
    let is_https = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        _ => return Err("must begin with http:// or https://"),
    };
    let authority = uri.authority().map_or("", Authority::as_str);
    if authority.contains('@') {
        return Err("user and password don't belong here: use `basic_auth`");
    }
    if uri.query().is_some() || url.contains('#') {
        return Err("give scheme, host and port only");
    }
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    if host.is_empty() {
        return Err("names no host");
    }
    // `Uri` takes a port that is too large for no port.
    let named_port = authority.rsplit_once(':').map(|(_, port)| port);
    let named_port = named_port.filter(|port| !port.ends_with(']'));
    let port = match (named_port, uri.port_u16()) {
        (None, _) if is_https => 443,
        (None, _) => 80,
        (Some(_), Some(port)) if port != 0 => port,
        _ => return Err("its port must be 1 to 65535"),
    };
    let endpoint = Endpoint {
        is_https,
        host: host.to_ascii_lowercase(),
        port,
    };
    Ok((endpoint, uri.path().to_owned()))
}

/// The URL without what may be a password.
fn without_login(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://***@{after}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, same) in [
            ("http://10.0.0.1:8008", "http://10.0.0.1:8008"),
            ("http://10.0.0.1:8008/", "http://10.0.0.1:8008"),
            ("https://DB1.example.com", "https://db1.example.com:443"),
            ("http://db1", "http://db1:80"),
            ("http://[::1]:8008", "http://[::1]:8008"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), same, "{url}");
        }
    }

    #[test]
    fn bad_urls_are_named_and_say_what_to_do() {
        for (url, problem) in [
            ("", "is not a URL"),
            ("db1", "must begin with http://"),
            ("db1:8008", "must begin with http://"),
            ("/cluster", "must begin with http://"),
            ("ftp://db1:8008", "must begin with http://"),
            ("http://", "is not a URL"),
            ("http://:8008", "names no host"),
            ("http://db1:0", "1 to 65535"),
            ("http://db1:65536", "1 to 65535"),
            ("http://db1:", "1 to 65535"),
            ("http://db1:x", "1 to 65535"),
            ("http://db1:8008/cluster", "path"),
            ("http://db1:8008?lag=1", "scheme, host and port"),
            ("http://db1:8008/#x", "scheme, host and port"),
            ("http://a b", "is not a URL"),
            ("http://db1\n:8008", "is not a URL"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(problem), "{url}: {error}");
            let named = url.replace('\n', "\\n");
            assert!(error.contains(&named), "{url}: {error}");
        }
    }

    #[test]
    fn a_login_in_a_url_is_refused_and_not_repeated() {
        for url in [
            "http://admin:hunter2@db1:8008",
            "http://hunter2@db1",
            "admin:hunter2@db1:8008",
            "http://hunter2:hunter2@hunter2@db1",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
