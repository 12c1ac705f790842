//! One server: its folder, its address, its process.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Child,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use tokio_postgres::Client;

use crate::{
    Error, PgInstall, Proxy,
    address::free_addr,
    log,
    process::{RunAs, free_shared_memory, processes_in, signal, signal_all},
    session,
    wait::{self, LIMIT},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Running,
    Frozen,
    Stopped,
    Removed,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) install: PgInstall,
    pub(crate) run_as: RunAs,
    pub(crate) proxy: Option<Arc<Proxy>>,
    ip: IpAddr,
    port: AtomicU16,
    state: Mutex<(Run, Option<Child>)>,
}

impl Host {
    pub(crate) fn new(
        index: usize,
        dir: &std::path::Path,
        install: &PgInstall,
        run_as: &RunAs,
        addr: SocketAddr,
        proxy: Option<Arc<Proxy>>,
    ) -> Self {
        Self {
            index,
            data_dir: dir.join(format!("d{index}")),
            log: dir.join(format!("log{index}")),
            install: install.clone(),
            run_as: run_as.clone(),
            proxy,
            ip: addr.ip(),
            port: AtomicU16::new(addr.port()),
            state: Mutex::new((Run::Stopped, None)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Run, Option<Child>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run(&self) -> Run {
        self.lock().0
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.load(Ordering::Relaxed))
    }

    /// Starts the server and waits until it takes connections. On its very first start it moves
    /// to another port when somebody has taken its own.
    pub(crate) async fn start(&self, may_move: bool) -> Result<(), Error> {
        self.wait_gone().await?;
        for _ in 0..10 {
            let before = fs::metadata(&self.log).map(|log| log.len()).unwrap_or(0);
            self.spawn()?;
            match self.wait_ready().await {
                Ok(()) => return Ok(()),
                Err(error) if !may_move => return Err(error),
                Err(error) => {
                    if !log::since(&self.log, before).contains("Address already in use") {
                        return Err(error);
                    }
                    self.kill();
                    let addr = free_addr(self.ip)?;
                    self.port.store(addr.port(), Ordering::Relaxed);
                    if let Some(proxy) = &self.proxy {
                        proxy.set_target(addr);
                    }
                }
            }
        }
        Err(self.state_error("found no free port in ten tries"))
    }

    fn spawn(&self) -> Result<(), Error> {
        let addr = self.addr();
        let mut command = self.run_as.command(self.install.bin_dir().join("postgres"));
        command.arg("-D").arg(&self.data_dir).args([
            "-h",
            &addr.ip().to_string(),
            "-p",
            &addr.port().to_string(),
        ]);
        log::write_to(&mut command, &self.log)?;
        // What a killed server left; it would be taken for a running one if its number has been
        // given to another process.
        let _ = fs::remove_file(self.data_dir.join("postmaster.pid"));
        let child = command.spawn().map_err(Error::io("starting postgres"))?;
        *self.lock() = (Run::Running, Some(child));
        Ok(())
    }

    async fn wait_ready(&self) -> Result<(), Error> {
        self.until("the server to accept connections", || async {
            if self.has_exited() {
                return Err(
                    self.state_error(&format!("the server ended: {}", log::tail(&self.log)))
                );
            }
            let Ok(client) = self.connect().await else {
                return Ok(false);
            };
            let shown = client.query_one("SHOW data_directory", &[]).await;
            match shown {
                Ok(row) if row.get::<_, &str>(0) == self.data_dir.to_string_lossy() => Ok(true),
                Ok(row) => Err(self.state_error(&format!(
                    "another server answers at {}: {}; Address already in use",
                    self.addr(),
                    row.get::<_, &str>(0)
                ))),
                Err(_) => Ok(false),
            }
        })
        .await
    }

    fn has_exited(&self) -> bool {
        match &mut self.lock().1 {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        }
    }

    fn postmaster(&self) -> Option<i32> {
        let state = self.lock();
        state
            .1
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Kills every process of the server.
    pub(crate) fn kill(&self) {
        signal_all(&self.data_dir, self.postmaster(), Signal::KILL);
        self.reap();
        free_shared_memory(&self.data_dir);
    }

    /// Kills the postmaster alone; its children notice by themselves.
    pub(crate) fn kill_postmaster(&self) {
        if let Some(pid) = self.postmaster() {
            signal(pid, Signal::KILL);
        }
        self.reap();
    }

    fn reap(&self) {
        let mut state = self.lock();
        if let Some(mut child) = state.1.take() {
            // It has got SIGKILL, or has ended: this returns at once.
            let _ = child.wait();
        }
        if state.0 != Run::Removed {
            state.0 = Run::Stopped;
        }
    }

    /// Stops the server by a signal to the postmaster, and waits for its end.
    pub(crate) async fn stop(&self, how: Signal) -> Result<(), Error> {
        if let Some(pid) = self.postmaster() {
            signal(pid, how);
        }
        self.until("the server to stop", || async { Ok(self.has_exited()) })
            .await?;
        self.reap();
        self.wait_gone().await
    }

    /// A backend may need a moment longer than its postmaster, and holds its memory until then.
    async fn wait_gone(&self) -> Result<(), Error> {
        self.until("the server's processes to end", || async {
            Ok(processes_in(&self.data_dir).is_empty())
        })
        .await
    }

    pub(crate) fn freeze(&self) {
        signal_all(&self.data_dir, self.postmaster(), Signal::STOP);
        self.lock().0 = Run::Frozen;
    }

    /// Stops one of its processes; the postmaster if none is named.
    pub(crate) fn freeze_process(&self, pid: Option<i32>) {
        if let Some(pid) = pid.or_else(|| self.postmaster()) {
            signal(pid, Signal::STOP);
        }
    }

    pub(crate) fn thaw(&self) {
        signal_all(&self.data_dir, self.postmaster(), Signal::CONT);
        let mut state = self.lock();
        if state.0 == Run::Frozen {
            state.0 = Run::Running;
        }
    }

    pub(crate) fn remove(&self) {
        self.kill();
        self.lock().0 = Run::Removed;
    }

    /// Connects past the proxy.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        self.connect_to("postgres", "postgres").await
    }

    /// Connects past the proxy, as somebody else.
    pub(crate) async fn connect_to(&self, user: &str, database: &str) -> Result<Client, Error> {
        let opening = session::open_as(self.index, self.addr(), user, database);
        tokio::time::timeout(LIMIT, opening)
            .await
            .map_err(|_| self.timeout("a session", LIMIT))?
    }

    /// Runs statements over a connection of their own.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Error> {
        let client = self.connect().await?;
        client
            .batch_execute(sql)
            .await
            .map_err(Error::sql(self.index))
    }

    /// Asks for one text.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Option<String>, Error> {
        let client = self.connect().await?;
        let row = client
            .query_one(sql, &[])
            .await
            .map_err(Error::sql(self.index))?;
        Ok(row.get(0))
    }

    /// Waits for a condition.
    pub(crate) async fn until<Fut>(
        &self,
        what: &str,
        holds: impl FnMut() -> Fut,
    ) -> Result<(), Error>
    where
        Fut: Future<Output = Result<bool, Error>>,
    {
        wait::until(LIMIT, holds, |waited| self.timeout(what, waited)).await
    }

    pub(crate) fn timeout(&self, what: &str, waited: Duration) -> Error {
        Error::Timeout {
            host: self.index,
            what: what.to_owned(),
            waited,
            log: log::tail(&self.log),
        }
    }

    pub(crate) fn state_error(&self, problem: &str) -> Error {
        Error::State {
            host: self.index,
            problem: problem.to_owned(),
        }
    }

    /// Writes what distinguishes a standby from a primary.
    pub(crate) fn write_standby_files(&self, primary: SocketAddr) -> Result<(), Error> {
        let signal = self.data_dir.join("standby.signal");
        fs::write(&signal, "").map_err(Error::io(signal.display().to_string()))?;
        self.run_as.give(&signal)?;
        self.write_auto_conf(&format!(
            "primary_conninfo = '{}'\n",
            self.conninfo_to(primary)
        ))
    }

    /// Where a stopped server's last checkpoint record begins: with it a clean shutdown ends.
    /// `None` if the installation lacks the program that tells.
    pub(crate) async fn last_checkpoint(&self) -> Result<Option<String>, Error> {
        let program = self.install.bin_dir().join("pg_controldata");
        if !program.exists() {
            return Ok(None);
        }
        let mut command = self.run_as.command(program);
        command.arg("-D").arg(&self.data_dir);
        let told = self.run_as.run(command).await?;
        let value = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name == "Latest checkpoint location").then(|| value.trim().to_owned())
        };
        Ok(told.lines().find_map(value))
    }

    /// Makes a primary of a stopped standby's files.
    pub(crate) fn write_primary_files(&self) -> Result<(), Error> {
        let _ = fs::remove_file(self.data_dir.join("standby.signal"));
        self.write_auto_conf("")
    }

    fn write_auto_conf(&self, text: &str) -> Result<(), Error> {
        let conf = self.data_dir.join("postgresql.auto.conf");
        fs::write(&conf, text).map_err(Error::io(conf.display().to_string()))?;
        self.run_as.give(&conf)
    }

    pub(crate) fn conninfo_to(&self, primary: SocketAddr) -> String {
        format!(
            "host={} port={} user=postgres application_name=host{}",
            primary.ip(),
            primary.port(),
            self.index
        )
    }
}
