//! Connection strings: libpq's URLs and keyword/value lists, as key and value pairs.
//!
//! [PostgreSQL documentation, section 34.1.1](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING).

use percent_encoding::percent_decode_str;

use super::ConfigError;

/// Reads a connection string of either kind, of keys that `check` lets pass, each once. No other key
/// gets into an error: what is no key may be the rest of a password.
pub(super) fn parse(text: &str, check: Check) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Pairs {
        list: Vec::new(),
        check,
    };
    pairs.read(text)?;
    Ok(pairs.list)
}

/// What keys there are.
pub(super) type Check = fn(&str) -> Result<(), ConfigError>;

/// What has been read so far.
struct Pairs {
    list: Vec<(String, String)>,
    check: Check,
}

impl Pairs {
    fn read(&mut self, text: &str) -> Result<(), ConfigError> {
        let url = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        match url {
            Some(rest) => parse_url(rest, self),
            None if text.contains("://") && !text.contains('=') => {
                Err(syntax("a URL begins with postgres:// or postgresql://"))
            }
            None => parse_keywords(text, self),
        }
    }

    fn add(&mut self, key: &str, value: String) -> Result<(), ConfigError> {
        (self.check)(key)?;
        if self.list.iter().any(|(known, _)| known == key) {
            return Err(ConfigError::DuplicateKey {
                key: key.to_owned(),
            });
        }
        self.list.push((key.to_owned(), value));
        Ok(())
    }
}

fn syntax(problem: &'static str) -> ConfigError {
    ConfigError::Syntax { problem }
}

/// `[user[:password]@][host[:port][,...]][/dbname][?key=value[&...]]`
fn parse_url(rest: &str, pairs: &mut Pairs) -> Result<(), ConfigError> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };

    let hosts = match authority.split_once('@') {
        // What follows may be the rest of a password: not a word of it into an error.
        Some((_, hosts)) if hosts.contains('@') => {
            return Err(syntax("write an @ in the user name or password as %40"));
        }
        None if rest.contains('@') && authority.contains(':') => {
            return Err(syntax(
                "write a / in the user name or password as %2F, and a ? as %3F",
            ));
        }
        Some((login, hosts)) => {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            if !user.is_empty() {
                pairs.add("user", decode("user", user)?)?;
            }
            if let Some(password) = password {
                pairs.add("password", decode("password", password)?)?;
            }
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        parse_hosts(hosts, pairs)?;
    }
    let dbname = path.strip_prefix('/').unwrap_or(path);
    // Perhaps the rest of a password, of which the part before an @ was taken for all.
    let has_login = authority.contains('@');
    if dbname.contains('@') || (has_login && query.is_some_and(|query| query.contains('@'))) {
        return Err(syntax(
            "write an @ in the user name, password, database name or a parameter as %40",
        ));
    }
    if !dbname.is_empty() {
        pairs.add("dbname", decode("dbname", dbname)?)?;
    }
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| syntax("after the ? each parameter is key=value"))?;
        let key = decode("conninfo", key)?;
        (pairs.check)(&key)?;
        let value = decode(&key, value)?;
        pairs.add(&key, value)?;
    }
    Ok(())
}

fn parse_hosts(hosts: &str, pairs: &mut Pairs) -> Result<(), ConfigError> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for element in hosts.split(',') {
        let (name, port) = match element.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(|| {
                    ConfigError::invalid("host", "an IPv6 address in brackets lacks the ]")
                })?;
                match rest.strip_prefix(':') {
                    Some(port) => (name, port),
                    None if rest.is_empty() => (name, ""),
                    None => {
                        return Err(ConfigError::invalid(
                            "host",
                            "after an IPv6 address in brackets only :port may follow",
                        ));
                    }
                }
            }
            None => element.split_once(':').unwrap_or((element, "")),
        };
        let name = decode("host", name)?;
        if name.contains(',') {
            return Err(ConfigError::invalid("host", "a name can't hold a comma"));
        }
        names.push(name);
        ports.push(decode("port", port)?);
    }
    pairs.add("host", names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.add("port", ports.join(","))?;
    }
    Ok(())
}

fn decode(key: &str, text: &str) -> Result<String, ConfigError> {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let digits = rest.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(ConfigError::invalid(
                key,
                "a % must be followed by two hexadecimal digits; write the sign itself as %25",
            ));
        }
        rest = &rest[at + 3..];
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| ConfigError::invalid(key, "is not UTF-8 once decoded"))?;
    if decoded.contains('\0') {
        return Err(ConfigError::invalid(key, "can't hold a zero byte"));
    }
    Ok(decoded.into_owned())
}

/// `key = value ...`, with quotes and backslashes as libpq has them.
fn parse_keywords(text: &str, pairs: &mut Pairs) -> Result<(), ConfigError> {
    if text.contains('\0') {
        return Err(syntax("it can't hold a zero byte"));
    }
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let after = after
            .trim_start()
            .strip_prefix('=')
            .ok_or_else(|| syntax("each key is followed by = and a value"))?;
        let (value, after) = value(after.trim_start())?;
        pairs.add(key, value)?;
        rest = after.trim_start();
    }
    Ok(())
}

/// One value and what comes after it.
fn value(text: &str) -> Result<(String, &str), ConfigError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => value.push(escaped),
                None if quoted => break,
                None => {}
            },
            '\'' if quoted => {
                let after = &text[at + 1..];
                if after.starts_with(|c: char| !c.is_whitespace()) {
                    return Err(syntax("a space must follow a quoted value"));
                }
                return Ok((value, after));
            }
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(syntax("a quoted value lacks its closing quote"));
    }
    Ok((value, ""))
}
