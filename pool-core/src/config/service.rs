//! libpq's connection service file
//! ([PostgreSQL documentation, section 34.17](https://www.postgresql.org/docs/current/libpq-pgservice.html)).

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{ConfigError, env::Env};

/// The keys and values of the service that `PGSERVICE` names.
pub(super) fn read(env: &Env) -> Result<Vec<(String, String)>, ConfigError> {
    let Some(service) = env.text("PGSERVICE")? else {
        return Ok(Vec::new());
    };
    // The user's own file, and only if it does not describe the service the one for all.
    let of_user = match env.text("PGSERVICEFILE")? {
        Some(file) => Some(PathBuf::from(file)),
        None => env
            .text("HOME")?
            .map(|home| Path::new(&home).join(".pg_service.conf")),
    };
    let of_all = env.text("PGSYSCONFDIR")?;
    let of_all = of_all.map(|folder| Path::new(&folder).join("pg_service.conf"));
    for file in of_user.iter().chain(&of_all) {
        if let Some(text) = contents(file)? {
            if let Some(pairs) = parse(&text, &service, file)? {
                return Ok(pairs);
            }
        }
    }
    let looked: Vec<String> = of_user
        .iter()
        .chain(&of_all)
        .map(|file| file.display().to_string())
        .collect();
    Err(ConfigError::invalid(
        "PGSERVICE",
        match looked.is_empty() {
            true => format!("service `{service}`: set PGSERVICEFILE to the file that describes it"),
            false => format!("no service `{service}` in {}", looked.join(" nor in ")),
        },
    ))
}

fn contents(file: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let problem = format!("{} can't be read: {error}", file.display());
            Err(ConfigError::invalid("PGSERVICE", problem))
        }
    }
}

/// One section of the file; `None` if it is not there.
fn parse(
    text: &str,
    service: &str,
    file: &Path,
) -> Result<Option<Vec<(String, String)>>, ConfigError> {
    let mut pairs: Option<Vec<(String, String)>> = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if pairs.is_some() {
                break;
            }
            if section.strip_suffix(']') == Some(service) {
                pairs = Some(Vec::new());
            }
            continue;
        }
        let Some(pairs) = &mut pairs else {
            continue;
        };
        // Of the line itself nothing: it may be a password.
        let wrong = |problem: &str| {
            let place = format!("{}, line {}", file.display(), at + 1);
            ConfigError::invalid("PGSERVICE", format!("{place}: {problem}"))
        };
        if line.starts_with("ldap://") {
            return Err(wrong("leadpool asks no LDAP server"));
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("each key is followed by = and a value"))?;
        let (key, value) = (key.trim(), value.trim());
        if key == "service" || key == "servicefile" {
            return Err(wrong("a service can't refer to another"));
        }
        // As in libpq the first counts.
        if !pairs.iter().any(|(known, _)| known == key) {
            pairs.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# all of them\n\nstray\n[shop]\nhost=db1,db2\n port = 6432 \n\
                        host=ignored\npassword=a=b c\n\n[other]\nhost=db9\n[bad]\nhunter2\n[nested]\nservice=shop\n\
                        [ldap]\nldap://x\n";

    #[test]
    fn sections_are_read() {
        let section = |name| parse(FILE, name, Path::new("f"));
        let pairs = section("shop").unwrap().unwrap();
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("host", "db1,db2"), ("port", "6432"), ("password", "a=b c")]
        );
        assert_eq!(section("none").unwrap(), None);
        for (name, problem) in [
            ("bad", "followed by ="),
            ("nested", "another"),
            ("ldap", "LDAP"),
        ] {
            let error = section(name).unwrap_err().to_string();
            assert!(
                error.contains(problem) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
