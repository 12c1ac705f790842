//! Finding Patroni and etcd.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{Error, PgInstall, process::RunAs, system};

/// The programs that a [`PatroniCluster`](crate::PatroniCluster) runs.
///
/// ```no_run
/// let programs = leadpool_testkit::PatroniPrograms::find()?;
/// println!("Patroni {} and {}", programs.version(), programs.etcd().display());
/// # Ok::<(), leadpool_testkit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PatroniPrograms {
    patroni: PathBuf,
    python: Option<PathBuf>,
    version: String,
    etcd: PathBuf,
    postgres: PgInstall,
}

impl PatroniPrograms {
    /// Looks for Patroni at `PATRONI_BIN`, on `PATH` and in `/opt/patroni/bin`, for etcd at
    /// `ETCD_BIN` and on `PATH`, and for PostgreSQL as [`PgInstall::find`] does. The variables
    /// name the program, or its folder.
    ///
    /// # Errors
    ///
    /// [`Error::ProgramMissing`] says where it looked and how to install it; those of
    /// [`PgInstall::find`]; [`Error::Unavailable`] if this is not Linux.
    pub fn find() -> Result<Self, Error> {
        if !cfg!(target_os = "linux") {
            return Err(Error::Unavailable {
                what: "a Patroni cluster",
                problem: "it is for Linux only: its processes are found through /proc".to_owned(),
            });
        }
        let postgres = PgInstall::find()?;
        for needed in ["pg_basebackup", "pg_controldata", "pg_isready", "pg_rewind"] {
            if !postgres.bin_dir().join(needed).exists() {
                return Err(Error::BadInstall {
                    path: postgres.bin_dir().to_owned(),
                    problem: format!("there is no `{needed}`, which Patroni calls"),
                });
            }
        }
        let patroni = locate("patroni")?;
        let etcd = locate("etcd")?;
        let (python, version) = ask_version(&patroni)?;
        Ok(Self {
            patroni,
            python,
            version,
            etcd,
            postgres,
        })
    }

    /// Patroni's program.
    #[must_use]
    pub fn patroni(&self) -> &Path {
        &self.patroni
    }

    /// Patroni's version, for instance `4.1.5`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// etcd's program.
    #[must_use]
    pub fn etcd(&self) -> &Path {
        &self.etcd
    }

    /// The PostgreSQL that Patroni runs.
    #[must_use]
    pub fn postgres(&self) -> &PgInstall {
        &self.postgres
    }

    /// The interpreter that Patroni's program names, if Patroni can be imported there.
    pub(super) fn python(&self) -> Option<&Path> {
        self.python.as_deref()
    }
}

/// See [`PatroniCluster::install_command`](crate::PatroniCluster::install_command).
pub(super) fn install_command() -> Option<Vec<Vec<String>>> {
    if !system::is_like(&["debian", "ubuntu"]) {
        return None;
    }
    let mut commands = Vec::new();
    if search("etcd").is_none() {
        // Or the package starts a server of its own, now and at each boot. This is how systemd
        // masks a unit that does not exist yet.
        let mask = "mkdir -p /etc/systemd/system && \
                    { test -e /etc/systemd/system/etcd.service || \
                    ln -s /dev/null /etc/systemd/system/etcd.service; }";
        commands.push(vec!["sh", "-c", mask]);
    }
    let mut commands = system::as_root(commands);
    commands.extend(system::apt_get(&["etcd-server", "patroni"])?);
    Some(commands)
}

fn locate(program: &'static str) -> Result<PathBuf, Error> {
    let (variable, more) = places(program);
    search(program).ok_or_else(|| Error::ProgramMissing {
        program,
        looked: match env::var_os(variable) {
            Some(path) => format!("{variable}={}", Path::new(&path).display()),
            None => [variable, "PATH"]
                .into_iter()
                .chain(more)
                .collect::<Vec<_>>()
                .join(", "),
        },
        install: install_command().map_or_else(
            || format!("package {program}"),
            |commands| system::shown(&commands),
        ),
    })
}

fn search(program: &str) -> Option<PathBuf> {
    let (variable, more) = places(program);
    let candidates = match env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.is_dir() => vec![path.join(program)],
        Some(path) => vec![path],
        None => {
            let folders = system::on_path().into_iter().chain(more.map(PathBuf::from));
            folders.map(|folder| folder.join(program)).collect()
        }
    };
    candidates.into_iter().find(|path| path.is_file())
}

/// The variable that names a program, and a folder beyond `PATH`.
fn places(program: &str) -> (&'static str, Option<&'static str>) {
    match program {
        "patroni" => ("PATRONI_BIN", Some("/opt/patroni/bin")),
        _ => ("ETCD_BIN", None),
    }
}

/// Patroni's version, and the interpreter that can import it.
fn ask_version(patroni: &Path) -> Result<(Option<PathBuf>, String), Error> {
    let run_as = RunAs::find()?;
    let last_word = |text: &[u8]| -> Option<String> {
        let text = String::from_utf8_lossy(text);
        let word = text.split_whitespace().last()?;
        let is_version = word.starts_with(|c: char| c.is_ascii_digit());
        is_version.then(|| word.to_owned())
    };
    if let Some(python) = interpreter(patroni) {
        let script = "from patroni.version import __version__; print(__version__)";
        let asked = run_as.command(&python).args(["-c", script]).output();
        if let Some(version) = asked.ok().and_then(|asked| last_word(&asked.stdout)) {
            return Ok((Some(python), version));
        }
    }
    let bad = |problem: String| Error::BadInstall {
        path: patroni.to_owned(),
        problem,
    };
    // As the user that will run it: a program in root's home is of no use to another.
    let asked = run_as
        .command(patroni)
        .arg("--version")
        .output()
        .map_err(|error| bad(format!("can't be run: {error}")))?;
    let version = last_word(&asked.stdout).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&asked.stderr);
        bad(format!("`--version` tells no version: {}", errors.trim()))
    })?;
    Ok((None, version))
}

/// The interpreter in the first line of a script, or beside it, where virtual environments have
/// theirs.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let text = fs::read(script).ok()?;
    let text = String::from_utf8_lossy(&text);
    let named = text.lines().next()?.strip_prefix("#!")?.trim();
    let named = PathBuf::from(named);
    let is_python = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("python")
    };
    if is_python(&named) {
        return Some(named);
    }
    let beside = script.with_file_name("python3");
    beside.exists().then_some(beside)
}
