//! A program that runs beside the servers: repmgrd, pg_autoctl, dnsmasq.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Error,
    process::{RunAs, signal_all},
    wait::POLL,
};

/// It works in a folder of its own, as do the programs that it starts: so they are found, also by
/// the guardian. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    home: PathBuf,
    log: PathBuf,
    run_as: RunAs,
    /// The process, and where in the log its own words begin.
    state: Mutex<(Option<Child>, usize)>,
}

impl Daemon {
    /// Makes its folder in `dir`; `folder` is short, and `name` is for errors.
    pub(crate) fn new(
        name: impl Into<String>,
        dir: &Path,
        folder: &str,
        run_as: &RunAs,
    ) -> Result<Self, Error> {
        let home = dir.join(folder);
        run_as.make_dir(&home)?;
        Ok(Self {
            name: name.into(),
            home,
            log: dir.join(format!("{folder}.log")),
            run_as: run_as.clone(),
            state: Mutex::new((None, 0)),
        })
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Writes a file of its folder.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<PathBuf, Error> {
        let file = self.home.join(file);
        fs::write(&file, text).map_err(Error::io(file.display().to_string()))?;
        self.run_as.give(&file)?;
        Ok(file)
    }

    /// A command that runs as the servers' user, in this folder.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.run_as.command(program);
        command.current_dir(&self.home).env("HOME", &self.home);
        // Ours may be somewhere where the servers' user may not write: repmgr needs it to follow a
        // new primary.
        command.env("TMPDIR", &self.home);
        command
    }

    /// Runs a command to its end, and says what it printed.
    pub(crate) async fn run(&self, command: Command) -> Result<String, Error> {
        self.run_as.run(command).await
    }

    /// Starts it; one that runs is killed before.
    pub(crate) fn spawn(&self, mut command: Command) -> Result<(), Error> {
        self.kill();
        let before = self.all_printed().len();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(Error::io(self.log.display().to_string()))?;
        let errors = log.try_clone().map_err(Error::io("the log"))?;
        command.stdout(Stdio::from(log)).stderr(Stdio::from(errors));
        let child = command
            .spawn()
            .map_err(Error::io(format!("starting {}", self.name)))?;
        *self.lock() = (Some(child), before);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Child>, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_exited(&self) -> bool {
        match &mut self.lock().0 {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// Kills it with all that it has started.
    pub(crate) fn kill(&self) {
        let child = &mut self.lock().0;
        // The number of one that has ended may be another's by now.
        let pid = child.as_mut().and_then(|child| match child.try_wait() {
            Ok(None) => i32::try_from(child.id()).ok(),
            _ => None,
        });
        signal_all(&self.home, pid, Signal::KILL);
        if let Some(mut child) = child.take() {
            // It has got SIGKILL, or has ended: this returns at once.
            let _ = child.wait();
        }
    }

    /// Waits until there is a value; the end of the program is an error.
    pub(crate) async fn until<T, Fut>(
        &self,
        what: &str,
        limit: Duration,
        mut value: impl FnMut() -> Fut,
    ) -> Result<T, Error>
    where
        Fut: Future<Output = Result<Option<T>, Error>>,
    {
        let begun = Instant::now();
        loop {
            if let Some(value) = value().await? {
                return Ok(value);
            }
            if self.has_exited() {
                return Err(self.error(format!("it ended while {what} was waited for")));
            }
            if begun.elapsed() > limit {
                let waited = begun.elapsed();
                return Err(self.error(format!("waited {waited:.1?} for {what}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        let printed = self.all_printed();
        let text = String::from_utf8_lossy(&printed);
        let lines: Vec<&str> = text.lines().collect();
        Error::Program {
            program: self.name.clone(),
            problem: problem.into(),
            log: lines[lines.len().saturating_sub(8)..].join(" | "),
        }
    }

    /// What it has printed since it was last started.
    pub(crate) fn printed(&self) -> String {
        let before = self.lock().1;
        let printed = self.all_printed();
        String::from_utf8_lossy(printed.get(before..).unwrap_or_default()).into_owned()
    }

    /// An unreadable log is an empty one: what it lacks is waited for in vain, with a deadline.
    fn all_printed(&self) -> Vec<u8> {
        fs::read(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
