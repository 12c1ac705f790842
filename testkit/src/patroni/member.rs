//! One host: its Patroni, and the PostgreSQL that it runs.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_postgres::Client;

use super::{PatroniPrograms, netns, rest::Endpoint};
use crate::{
    Error, log,
    process::{RunAs, free_shared_memory, processes_in, signal, signal_all},
    session, wait,
};

/// The variable that tells a callback which host it runs on.
const HOST_VARIABLE: &str = "TESTKIT_HOST";

/// Where everything of a member is.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) rest: SocketAddr,
    pub(super) data_dir: PathBuf,
    /// Where Patroni works: its processes are found by it.
    pub(super) work_dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) config: PathBuf,
    pub(super) launcher: PathBuf,
    pub(super) ca: Option<PathBuf>,
    pub(super) namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Its Patroni runs, or its PostgreSQL alone.
    Up,
    Frozen,
    Down,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) places: Places,
    programs: PatroniPrograms,
    run_as: RunAs,
    state: Mutex<(Run, Option<Child>)>,
}

impl Member {
    pub(super) fn new(places: Places, programs: &PatroniPrograms, run_as: &RunAs) -> Self {
        Self {
            places,
            programs: programs.clone(),
            run_as: run_as.clone(),
            state: Mutex::new((Run::Down, None)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Run, Option<Child>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn run(&self) -> Run {
        self.lock().0
    }

    pub(super) fn patroni_runs(&self) -> bool {
        match &mut self.lock().1 {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Starts Patroni, which starts PostgreSQL or takes over the one that runs.
    pub(super) fn start(&self) -> Result<(), Error> {
        if self.patroni_runs() {
            return Err(self.error("its Patroni runs already"));
        }
        let places = &self.places;
        self.run_as.make_dir(&places.work_dir)?;
        let mut command = match self.programs.python() {
            Some(python) => {
                let mut command = self.run_as.command(python);
                command.arg(&places.launcher);
                command
            }
            None => self.run_as.command(self.programs.patroni()),
        };
        command
            .arg(&places.config)
            .current_dir(&places.work_dir)
            .env("HOME", &places.work_dir)
            .env(HOST_VARIABLE, places.index.to_string());
        without_foreign_settings(&mut command);
        let mut command = netns::enter(places.namespace.as_deref(), command);
        log::write_to(&mut command, &places.log)?;
        let child = command.spawn().map_err(Error::io("starting patroni"))?;
        *self.lock() = (Run::Up, Some(child));
        Ok(())
    }

    /// Waits until Patroni takes requests.
    pub(super) async fn wait_rest(&self, limit: Duration) -> Result<(), Error> {
        self.until(limit, "Patroni to take requests", || async {
            if !self.patroni_runs() {
                let log = log::tail(&self.places.log);
                return Err(self.error(&format!("Patroni ended: {log}")));
            }
            let connecting = TcpStream::connect(self.places.rest);
            let connected = tokio::time::timeout(Duration::from_secs(1), connecting).await;
            Ok(matches!(connected, Ok(Ok(_))))
        })
        .await
    }

    fn patroni_pid(&self) -> Option<i32> {
        let state = self.lock();
        state
            .1
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
    }

    /// The postmaster is no child of this process: its lock file names it.
    fn postmaster(&self) -> Option<i32> {
        let text = fs::read_to_string(self.places.data_dir.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        // A killed server leaves the file, and its number may have gone to another process.
        processes_in(&self.places.data_dir)
            .contains(&pid)
            .then_some(pid)
    }

    /// Sends a signal to every process: to Patroni first, so that it restarts nothing.
    fn signal_host(&self, which: Signal) {
        signal_all(&self.places.work_dir, self.patroni_pid(), which);
        signal_all(&self.places.data_dir, self.postmaster(), which);
    }

    /// Kills Patroni; its PostgreSQL goes on.
    pub(super) fn kill_patroni(&self) {
        signal_all(&self.places.work_dir, self.patroni_pid(), Signal::KILL);
        self.reap();
    }

    /// Kills the postmaster; its children notice by themselves, and Patroni starts another.
    pub(super) fn kill_postmaster(&self) -> Result<(), Error> {
        let pid = self.postmaster();
        let pid = pid.ok_or_else(|| self.error("its PostgreSQL does not run"))?;
        signal(pid, Signal::KILL);
        Ok(())
    }

    /// Kills everything.
    pub(super) fn kill(&self) {
        self.signal_host(Signal::KILL);
        self.reap();
        free_shared_memory(&self.places.data_dir);
        self.lock().0 = Run::Down;
    }

    fn reap(&self) {
        let child = self.lock().1.take();
        if let Some(mut child) = child {
            // It has got SIGKILL, or has ended: this returns at once.
            let _ = child.wait();
        }
    }

    /// Ends Patroni, which stops PostgreSQL and gives up the leader key first.
    pub(super) async fn stop(&self, limit: Duration) -> Result<(), Error> {
        let pid = self.patroni_pid();
        let pid = pid.ok_or_else(|| self.error("its Patroni does not run"))?;
        signal(pid, Signal::TERM);
        self.until(limit, "Patroni to stop", || async {
            Ok(!self.patroni_runs())
        })
        .await?;
        self.reap();
        self.wait_gone(limit).await?;
        self.lock().0 = Run::Down;
        Ok(())
    }

    /// Waits for the end of what has been told to end.
    pub(super) async fn wait_gone(&self, limit: Duration) -> Result<(), Error> {
        self.until(limit, "the server's processes to end", || async {
            Ok(processes_in(&self.places.data_dir).is_empty())
        })
        .await
    }

    pub(super) fn freeze(&self) -> Result<(), Error> {
        if self.run() == Run::Down {
            return Err(self.error("does not run"));
        }
        self.signal_host(Signal::STOP);
        self.lock().0 = Run::Frozen;
        Ok(())
    }

    pub(super) fn thaw(&self) {
        self.signal_host(Signal::CONT);
        let mut state = self.lock();
        if state.0 == Run::Frozen {
            state.0 = Run::Up;
        }
    }

    pub(super) async fn connect(&self, limit: Duration) -> Result<Client, Error> {
        let opening = session::open(self.places.index, self.places.addr);
        tokio::time::timeout(limit, opening)
            .await
            .map_err(|_| self.timeout("a session", limit))?
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint {
            addr: self.places.rest,
            ca: self.places.ca.clone(),
        }
    }

    /// Waits for a condition.
    pub(super) async fn until<Fut>(
        &self,
        limit: Duration,
        what: &str,
        holds: impl FnMut() -> Fut,
    ) -> Result<(), Error>
    where
        Fut: Future<Output = Result<bool, Error>>,
    {
        wait::until(limit, holds, |waited| self.timeout(what, waited)).await
    }

    pub(super) fn timeout(&self, what: &str, waited: Duration) -> Error {
        Error::Timeout {
            host: self.places.index,
            what: what.to_owned(),
            waited,
            log: log::tail(&self.places.log),
        }
    }

    pub(super) fn error(&self, problem: &str) -> Error {
        Error::State {
            host: self.places.index,
            problem: problem.to_owned(),
        }
    }
}

/// Patroni, etcd and libpq take settings from the environment, which are not meant for a test.
pub(super) fn without_foreign_settings(command: &mut Command) {
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let prefixes = ["PATRONI_", "ETCD_", "PG"];
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
}
