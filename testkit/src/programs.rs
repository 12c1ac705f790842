//! Finding the programs that a stack has beside PostgreSQL's own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, PgInstall,
    system::{apt_get, shown},
};

/// A program in `PATH`, or where the programs of administrators are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|program| program.is_file())
}

/// The PostgreSQL to use: the default one if it has the extension, or else the newest that has.
pub(crate) fn install_with(library: &str) -> Result<Option<PgInstall>, Error> {
    let default = PgInstall::find()?;
    if has_library(&default, library) {
        return Ok(Some(default));
    }
    if env::var_os("PG_BIN").is_some() {
        return Ok(None);
    }
    let others = fs::read_dir("/usr/lib/postgresql");
    Ok(others
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| PgInstall::at(version.path().join("bin")).ok())
        .filter(|install| has_library(install, library))
        .max_by_key(PgInstall::major))
}

fn has_library(install: &PgInstall, library: &str) -> bool {
    let beside = install.bin_dir().join("../lib");
    if beside.join(library).is_file() {
        return true;
    }
    let asked = Command::new(install.bin_dir().join("pg_config"))
        .arg("--pkglibdir")
        .output();
    asked.is_ok_and(|output| {
        let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Path::new(&dir).join(library).is_file()
    })
}

/// The commands that install a stack's packages; of PostgreSQL's own version where the name has
/// `NN`.
pub(crate) fn install_command(packages: &[&str]) -> Option<Vec<Vec<String>>> {
    apt_get(
        &for_version(packages)
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    )
}

/// Says what is missing, and how to install it.
pub(crate) fn missing(stack: &'static str, missing: &str, packages: &[&str]) -> Error {
    Error::Missing {
        stack,
        missing: missing.to_owned(),
        install: install_command(packages).map_or_else(
            || format!("Debian's packages: {}", for_version(packages).join(" ")),
            |commands| shown(&commands),
        ),
    }
}

fn for_version(packages: &[&str]) -> Vec<String> {
    let major = PgInstall::find().map_or_else(|_| "NN".to_owned(), |pg| pg.major().to_string());
    packages
        .iter()
        .map(|name| name.replace("NN", &major))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_packages() {
        let error = missing("a stack", "`it`", &["it-cli", "postgresql-NN-it"]).to_string();
        assert!(
            error.starts_with("a stack needs `it`; install it ("),
            "{error}"
        );
        let version =
            PgInstall::find().map_or_else(|_| "NN".to_owned(), |pg| pg.major().to_string());
        assert!(
            error.contains(&format!(" it-cli postgresql-{version}-it)")),
            "{error}"
        );
        let Some(commands) = install_command(&["it-cli"]) else {
            return;
        };
        let [.., update, install] = &commands[..] else {
            panic!("{commands:?}");
        };
        assert!(update.ends_with(&["apt-get".to_owned(), "update".to_owned()]));
        assert_eq!(install.last().map(String::as_str), Some("it-cli"));
    }
}
