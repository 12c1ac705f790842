//! Finding PostgreSQL.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, system};

const OLDEST: u32 = 14;

/// A PostgreSQL server's programs.
///
/// ```no_run
/// let install = leadpool_testkit::PgInstall::find()?;
/// println!("PostgreSQL {} in {}", install.major(), install.bin_dir().display());
/// # Ok::<(), leadpool_testkit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PgInstall {
    bin: PathBuf,
    major: u32,
}

impl PgInstall {
    /// Looks at `PG_BIN`, `pg_config`, the usual folders of Debian, Ubuntu, Fedora and Homebrew,
    /// and `PATH`, in this order. Of several versions in the usual folders the newest is taken.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] says where it looked and how to install it.
    pub fn find() -> Result<Self, Error> {
        if let Some(bin) = env::var_os("PG_BIN") {
            return Self::at(PathBuf::from(bin));
        }
        let mut looked = vec!["PG_BIN".to_owned()];
        let asked = Command::new("pg_config").arg("--bindir").output();
        let asked = asked
            .ok()
            .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
            .filter(|bin| bin.is_absolute());
        looked.push("pg_config".to_owned());
        if let Some(found) = asked.and_then(|bin| Self::at(bin).ok()) {
            return Ok(found);
        }
        let mut found = Vec::new();
        for (parent, prefix, rest) in [
            ("/usr/lib/postgresql", "", "bin"),
            ("/usr", "pgsql-", "bin"),
            ("/opt/homebrew/opt", "postgresql", "bin"),
            ("/usr/local/opt", "postgresql", "bin"),
            ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
        ] {
            looked.push(format!("{parent}/{prefix}*/{rest}"));
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    found.extend(Self::at(entry.path().join(rest)).ok());
                }
            }
        }
        if let Some(newest) = found.into_iter().max_by_key(|install| install.major) {
            return Ok(newest);
        }
        looked.push("PATH".to_owned());
        system::on_path()
            .into_iter()
            .find_map(|bin| Self::at(bin).ok())
            .ok_or_else(|| Error::NotInstalled {
                looked: looked.join(", "),
                install: Self::install_command().map_or_else(
                    || "package postgresql".to_owned(),
                    |commands| system::shown(&commands),
                ),
            })
    }

    /// Takes the programs in a folder.
    ///
    /// # Errors
    ///
    /// [`Error::BadInstall`] if there is no server, or one older than PostgreSQL 14.
    pub fn at(bin: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = bin.into();
        let bad = |problem: String| Error::BadInstall {
            path: path.clone(),
            problem,
        };
        let output = Command::new(path.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| bad(format!("no program `postgres` can be run there: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let major = text
            .split_whitespace()
            .nth(2)
            .and_then(|version| {
                let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
                digits.parse().ok()
            })
            .ok_or_else(|| bad(format!("`postgres --version` printed {text:?}")))?;
        if major < OLDEST {
            return Err(bad(format!(
                "PostgreSQL {major} is too old: {OLDEST} or newer is needed"
            )));
        }
        if !path.join("initdb").exists() {
            return Err(bad("there is no `initdb`".to_owned()));
        }
        Ok(Self { bin: path, major })
    }

    /// The folder with the programs.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// The major version, for instance 17.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The commands that install PostgreSQL through this system's package manager, each as its
    /// words; `None` where the system is not known. They do not start a server.
    #[must_use]
    pub fn install_command() -> Option<Vec<Vec<String>>> {
        if let Some(commands) = system::apt_get(&["postgresql"]) {
            return Some(commands);
        }
        let install = if system::is_like(&["fedora", "rhel"]) {
            "dnf install -y postgresql-server postgresql-contrib"
        } else if cfg!(target_os = "macos") {
            "brew install postgresql@17"
        } else {
            return None;
        };
        Some(system::as_root(vec![install.split(' ').collect()]))
    }
}
