//! Finding the library that programs on libpq are built with.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error,
    system::{apt_get, as_root, is_like, shown},
};

/// PostgreSQL's library for clients, for programs that are built with it, as those on diesel's
/// `PgConnection`.
///
/// ```no_run
/// let libpq = leadpool_testkit::Libpq::find()?;
/// let mut build = std::process::Command::new("cargo");
/// build.arg("build").envs(libpq.variable());
/// # Ok::<(), leadpool_testkit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Libpq {
    /// Where `pq-sys` does not look by itself.
    folder: Option<PathBuf>,
}

/// What says where it is, to `pq-sys` too.
const VARIABLE: &str = "PQ_LIB_DIR";
/// Where Homebrew keeps what it does not link into the usual folders.
const APART: [&str; 3] = [
    "/opt/homebrew/opt/libpq/lib",
    "/usr/local/opt/libpq/lib",
    "/home/linuxbrew/.linuxbrew/opt/libpq/lib",
];

impl Libpq {
    /// Looks where the crate `pq-sys` does: at `PQ_LIB_DIR`, `pkg-config`, `pg_config`, and the
    /// folders of the linker; then in those of Homebrew.
    ///
    /// # Errors
    ///
    /// [`Error::ProgramMissing`] says where it looked and how to install it.
    pub fn find() -> Result<Self, Error> {
        let is_known = match env::var_os(VARIABLE) {
            // Then `pq-sys` looks nowhere else.
            Some(folder) => is_in(Path::new(&folder)),
            None => {
                runs("pkg-config", &["--exists", "libpq"]).is_some()
                    || runs("pg_config", &["--libdir"]).is_some_and(|dir| is_in(&dir))
                    || FILES.iter().any(|file| {
                        // The bare name comes back where there is no such file.
                        let asked = format!("-print-file-name={file}");
                        runs("cc", &[&asked]).is_some_and(|path| path.is_absolute())
                    })
            }
        };
        if is_known {
            return Ok(Self { folder: None });
        }
        let apart = APART.iter().map(Path::new).find(|folder| is_in(folder));
        match apart {
            Some(folder) if env::var_os(VARIABLE).is_none() => Ok(Self {
                folder: Some(folder.to_owned()),
            }),
            _ => Err(Error::ProgramMissing {
                program: "libpq to build with",
                looked: format!(
                    "{VARIABLE}, pkg-config, pg_config, cc, {}",
                    APART.join(", ")
                ),
                install: Self::install_command().map_or_else(
                    || "package libpq-dev or libpq-devel".to_owned(),
                    |commands| shown(&commands),
                ),
            }),
        }
    }

    /// The variable that `pq-sys` has to be told the folder with, where it does not find it by
    /// itself.
    #[must_use]
    pub fn variable(&self) -> Option<(&'static str, &Path)> {
        Some((VARIABLE, self.folder.as_deref()?))
    }

    /// The commands that install it through this system's package manager, each as its words;
    /// `None` where the system is not known.
    #[must_use]
    pub fn install_command() -> Option<Vec<Vec<String>>> {
        if let Some(commands) = apt_get(&["libpq-dev"]) {
            return Some(commands);
        }
        let install = if is_like(&["fedora", "rhel"]) {
            "dnf install -y libpq-devel"
        } else if cfg!(target_os = "macos") {
            "brew install libpq"
        } else {
            return None;
        };
        Some(as_root(vec![install.split(' ').collect()]))
    }
}

const FILES: [&str; 3] = ["libpq.so", "libpq.dylib", "libpq.a"];

fn is_in(folder: &Path) -> bool {
    FILES.iter().any(|file| folder.join(file).is_file())
}

/// What a program prints, unless it fails or is not there.
fn runs(program: &str, args: &[&str]) -> Option<PathBuf> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().into();
    output.status.success().then_some(text)
}
