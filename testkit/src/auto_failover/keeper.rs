//! One `pg_autoctl` and the server that it keeps: a host, or the monitor.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use crate::{
    Error, PgInstall,
    address::free_addr,
    daemon::Daemon,
    host::Run,
    process::{RunAs, free_shared_memory, signal_all},
    template,
};

/// Where a formation is, and with which programs.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) pg_autoctl: PathBuf,
    pub(super) install: PgInstall,
    pub(super) run_as: RunAs,
}

impl Place {
    /// Makes the folders that all share.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        self.run_as.make_dir(&self.dir)?;
        self.run_as.make_dir(&self.sockets())?;
        self.make_programs()
    }

    /// Where `pg_autoctl` finds the servers.
    pub(super) fn sockets(&self) -> PathBuf {
        self.dir.join("s")
    }

    fn programs(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// PostgreSQL's programs as `pg_autoctl` shall find them. It starts the monitor's server with
    /// `-h *` and has no option against it: here it listens on loopback instead. And what copies
    /// whole data folders does not wait for the disk.
    fn make_programs(&self) -> Result<(), Error> {
        let (real, bin) = (self.install.bin_dir(), self.programs());
        self.run_as.make_dir(&bin)?;
        let failed = |path: &Path| Error::io(path.display().to_string());
        for program in fs::read_dir(real).map_err(failed(real))? {
            let program = program.map_err(failed(real))?.path();
            let Some(name) = program.file_name() else {
                continue;
            };
            let (place, quoted) = (bin.join(name), program.display());
            let script = match name.to_str() {
                Some("postgres") => format!("{ON_LOOPBACK}exec '{quoted}' \"$@\"\n"),
                Some("pg_basebackup" | "pg_rewind") => {
                    format!("#!/bin/sh\nexec '{quoted}' --no-sync \"$@\"\n")
                }
                _ => {
                    symlink(&program, &place).map_err(failed(&place))?;
                    continue;
                }
            };
            fs::write(&place, script).map_err(failed(&place))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&place, mode).map_err(failed(&place))?;
        }
        Ok(())
    }
}

const ON_LOOPBACK: &str = "#!/bin/sh
for word do
  shift
  [ \"$word\" = '*' ] && word=127.0.0.1
  set -- \"$@\" \"$word\"
done
";

/// A server with its `pg_autoctl`. Dropping it kills both.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) daemon: Daemon,
    data_dir: PathBuf,
    sockets: PathBuf,
    pg_autoctl: PathBuf,
    pg_ctl: PathBuf,
    run: Mutex<Run>,
}

impl Keeper {
    /// A host, by its index; nothing of it exists yet.
    pub(super) fn host(place: &Place, index: usize) -> Result<Self, Error> {
        Self::new(place, format!("host{index}"), &index.to_string())
    }

    pub(super) fn monitor(place: &Place) -> Result<Self, Error> {
        Self::new(place, "monitor".to_owned(), "m")
    }

    fn new(place: &Place, name: String, short: &str) -> Result<Self, Error> {
        let title = format!("pg_autoctl of {name}");
        Ok(Self {
            name,
            addr: free_addr(Ipv4Addr::LOCALHOST.into())?,
            daemon: Daemon::new(title, &place.dir, &format!("h{short}"), &place.run_as)?,
            data_dir: place.dir.join(format!("d{short}")),
            sockets: place.sockets(),
            pg_autoctl: place.pg_autoctl.clone(),
            pg_ctl: place.programs().join("pg_ctl"),
            run: Mutex::new(Run::Stopped),
        })
    }

    /// Makes the server's files before `pg_autoctl` does: small and quick ones.
    pub(super) async fn prepare(
        &self,
        place: &Place,
        fresh: bool,
        conf: &str,
    ) -> Result<(), Error> {
        template::data_dir(&place.install, &place.run_as, &self.data_dir, fresh).await?;
        // Here they go before what the template and `pg_autoctl` have; base backups have them, too.
        let text = format!(
            "unix_socket_directories = '{}'\n\
             checkpoint_completion_target = 0 # or a base backup waits for a slow checkpoint\n\
             {conf}",
            self.sockets.display()
        );
        let local = "local all all trust\nlocal replication all trust\n";
        for (file, text) in [
            ("postgresql.auto.conf", text.as_str()),
            ("pg_hba.conf", local),
        ] {
            let file = self.data_dir.join(file);
            let before = fs::read_to_string(&file).unwrap_or_default();
            fs::write(&file, before + text).map_err(Error::io(file.display().to_string()))?;
        }
        Ok(())
    }

    /// A `pg_autoctl` that knows only of this formation.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.daemon.command(&self.pg_autoctl);
        // In a group of its own: when it stops and its services do not, it signals its whole group.
        command.args(words).process_group(0);
        for folder in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
            command.env(folder, self.daemon.home());
        }
        command
            .env_remove("PG_AUTOCTL_DEBUG")
            .env("PGHOST", &self.sockets)
            .env("PGUSER", "postgres");
        command
    }

    /// Starts `pg_autoctl create`, which goes on as the service.
    pub(super) fn create(&self, kind: &str, options: &[(&str, &str)]) -> Result<(), Error> {
        let mut command = self.command(&["create", kind, "--run", "--skip-pg-hba", "--no-ssl"]);
        command
            .args(["--pgport", &self.addr.port().to_string()])
            .args(["--hostname", &self.addr.ip().to_string()])
            .arg("--pgdata")
            .arg(&self.data_dir)
            .arg("--pgctl")
            .arg(&self.pg_ctl)
            .args(options.iter().flat_map(|(name, value)| [*name, *value]));
        self.spawn(command)
    }

    /// Starts the service of a host that was created before.
    pub(super) fn start(&self) -> Result<(), Error> {
        let mut command = self.command(&["run", "--pgdata"]);
        command.arg(&self.data_dir);
        self.spawn(command)
    }

    fn spawn(&self, command: Command) -> Result<(), Error> {
        self.daemon.spawn(command)?;
        self.set_run(Run::Running);
        Ok(())
    }

    pub(super) fn run(&self) -> Run {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_run(&self, run: Run) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
    }

    /// Kills the server with its `pg_autoctl`: that one first, or it would start another server.
    pub(super) fn kill(&self) {
        self.daemon.kill();
        signal_all(&self.data_dir, None, Signal::KILL);
        free_shared_memory(&self.data_dir);
        self.free_semaphore();
        if self.run() != Run::Removed {
            self.set_run(Run::Stopped);
        }
    }

    pub(super) fn remove(&self) {
        self.kill();
        self.set_run(Run::Removed);
    }

    /// Frees the System V semaphore that a killed `pg_autoctl` leaves. Its number is in the fifth
    /// line of the pid file.
    fn free_semaphore(&self) {
        let folder = self.data_dir.strip_prefix("/").unwrap_or(&self.data_dir);
        let pid_file = self.daemon.home().join("pg_autoctl").join(folder);
        let pid_file = pid_file.join("pg_autoctl.pid");
        let text = fs::read_to_string(&pid_file).unwrap_or_default();
        if let Some(semaphore) = text.lines().nth(4) {
            // It may be gone; and without the program nothing is lost but the semaphore.
            let _ = Command::new("ipcrm")
                .args(["-s", semaphore])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let _ = fs::remove_file(pid_file);
        }
    }

    pub(super) async fn connect(
        &self,
        user: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.addr.ip().to_string())
            .port(self.addr.port())
            .user(user)
            .dbname(database)
            .connect_timeout(Duration::from_secs(5))
            .application_name("testkit");
        let (client, connection) = config.connect(NoTls).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the client, or the server"
        )]
        drop(tokio::spawn(connection));
        Ok(client)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
    }
}
