//! etcd, where Patroni keeps who the leader is.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;

use super::{member::without_foreign_settings, netns, rest::Endpoint};
use crate::{
    Error, log,
    process::{RunAs, signal_all},
    wait::{self, LIMIT},
};

/// A single etcd server.
#[derive(Debug)]
pub(super) struct Etcd {
    program: PathBuf,
    run_as: RunAs,
    dir: PathBuf,
    log: PathBuf,
    addr: SocketAddr,
    peers: SocketAddr,
    namespace: Option<String>,
    child: Mutex<Option<Child>>,
}

impl Etcd {
    pub(super) fn new(
        program: &Path,
        run_as: &RunAs,
        dir: &Path,
        (addr, peers): (SocketAddr, SocketAddr),
        namespace: Option<String>,
    ) -> Self {
        Self {
            program: program.to_owned(),
            run_as: run_as.clone(),
            dir: dir.join("etcd"),
            log: dir.join("log-etcd"),
            addr,
            peers,
            namespace,
            child: Mutex::new(None),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it with the data that it has, and waits until it is healthy.
    pub(super) async fn start(&self) -> Result<(), Error> {
        if self.lock().is_some() {
            return Err(self.error("it runs already"));
        }
        self.run_as.make_dir(&self.dir)?;
        let (clients, peers) = (
            format!("http://{}", self.addr),
            format!("http://{}", self.peers),
        );
        let mut command = self.run_as.command(&self.program);
        command
            .args(["--name", "etcd"])
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("etcd={peers}")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "250"])
            // Its processes are found by it.
            .current_dir(&self.dir);
        without_foreign_settings(&mut command);
        let mut command = netns::enter(self.namespace.as_deref(), command);
        log::write_to(&mut command, &self.log)?;
        let child = command.spawn().map_err(Error::io("starting etcd"))?;
        *self.lock() = Some(child);
        self.wait_healthy().await
    }

    async fn wait_healthy(&self) -> Result<(), Error> {
        let endpoint = Endpoint {
            addr: self.addr,
            ca: None,
        };
        let healthy = || async {
            if self.has_exited() {
                return Err(self.error("it ended"));
            }
            let asked = endpoint.request("GET", "/health", None);
            let answer = tokio::time::timeout(Duration::from_secs(1), asked).await;
            Ok(matches!(answer, Ok(Ok(answer)) if answer.body.contains("\"true\"")))
        };
        let late = |_| self.error("it did not become healthy in time");
        wait::until(LIMIT, healthy, late).await
    }

    fn has_exited(&self) -> bool {
        match &mut *self.lock() {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// Kills it; its data stays.
    pub(super) fn kill(&self) {
        let child = self.lock().take();
        if let Some(mut child) = child {
            signal_all(&self.dir, i32::try_from(child.id()).ok(), Signal::KILL);
            // It has got SIGKILL: this returns at once.
            let _ = child.wait();
        }
    }

    fn error(&self, problem: &str) -> Error {
        Error::Etcd {
            problem: problem.to_owned(),
            log: log::tail(&self.log),
        }
    }
}
