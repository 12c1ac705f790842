//! Running the server's programs as somebody whom PostgreSQL accepts, and finding its processes.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::Error;

/// Who runs the servers. PostgreSQL refuses to run as root.
#[derive(Clone, Debug)]
pub(crate) struct RunAs {
    /// User and group, when this process is root and has to step down.
    user: Option<(u32, u32)>,
}

impl RunAs {
    pub(crate) fn find() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self { user: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(Error::io("/etc/passwd"))?;
        let entry = |name: &str| {
            passwd.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                if fields.first() != Some(&name) {
                    return None;
                }
                Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
            })
        };
        let user = entry("postgres").or_else(|| entry("nobody"));
        Ok(Self {
            user: Some(user.ok_or_else(|| {
                Error::State {
                    host: 0,
                    problem: "running as root, and there is neither a user postgres nor nobody to \
                          run the servers as"
                        .to_owned(),
                }
            })?),
        })
    }

    /// A name for what belongs to this user.
    pub(crate) fn tag(&self) -> u32 {
        self.user
            .map_or_else(|| geteuid().as_raw(), |(user, _)| user)
    }

    /// A command that runs as the servers' user, with the same process id as the one spawned.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.user {
            None => Command::new(program),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={user}"))
                    .arg(format!("--regid={group}"))
                    .args(["--clear-groups", "--inh-caps=-all"])
                    .arg(program);
                command
            }
        };
        command
            .stdin(Stdio::null())
            .env("LC_ALL", "C")
            .current_dir("/");
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, command: Command) -> Result<String, Error> {
        let shown = format!("{command:?}");
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::io(shown.clone()))?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if output.status.success() {
            Ok(text)
        } else {
            Err(Error::Command {
                command: shown,
                output: text,
            })
        }
    }

    /// Makes a folder that the servers' user owns.
    pub(crate) fn make_dir(&self, path: &Path) -> Result<(), Error> {
        let what = path.display().to_string();
        fs::create_dir_all(path).map_err(Error::io(what.clone()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io(what.clone()))?;
        self.give(path)
    }

    /// Gives a file to the servers' user.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).map_err(Error::io(path.display().to_string()))?;
        }
        Ok(())
    }
}

/// All processes of the server with that data folder. Every process of PostgreSQL works in its
/// data folder, so this also finds those whose parent has died.
pub(crate) fn processes_in(data_dir: &Path) -> Vec<i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir))
        .collect()
}

/// Sends a signal; a process that is gone is no mistake.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to all processes of a server, until there is none that has not got it.
pub(crate) fn signal_all(data_dir: &Path, first: Option<i32>, which: Signal) {
    let mut reached = Vec::new();
    // The postmaster first, so that it starts no more.
    if let Some(pid) = first {
        signal(pid, which);
        reached.push(pid);
    }
    for _ in 0..100 {
        let new: Vec<i32> = processes_in(data_dir)
            .into_iter()
            .filter(|pid| !reached.contains(pid))
            .collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            signal(pid, which);
            reached.push(pid);
        }
    }
}

/// Frees the System V segment that a killed server leaves. The system has room for some thousands,
/// and then no server starts any more. It is named in the seventh line of the lock file
/// ([PostgreSQL documentation, section 19.4.1](https://www.postgresql.org/docs/current/kernel-resources.html#SYSVIPC)).
pub(crate) fn free_shared_memory(data_dir: &Path) {
    let lock_file = data_dir.join("postmaster.pid");
    let text = fs::read_to_string(&lock_file).unwrap_or_default();
    let segment = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1));
    if let Some(segment) = segment {
        // It may be gone; and without the program nothing is lost but the segment.
        let _ = Command::new("ipcrm")
            .args(["-m", segment])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = fs::remove_file(lock_file);
    }
}
