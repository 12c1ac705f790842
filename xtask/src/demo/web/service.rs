//! The service: one of the examples, in a process of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Stdio},
    time::Duration,
};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

use crate::{Result, postgres, requests::is_answered};

/// How long it may take to begin. It waits for a writer meanwhile.
const BEGINNING: Duration = Duration::from_secs(60);
/// How long it may take to end. It drains its pool meanwhile.
const END: Duration = Duration::from_secs(40);

/// A web service of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Example {
    /// axum and tokio-postgres.
    Axum,
    /// axum and sqlx.
    AxumSqlx,
    /// axum and diesel-async.
    AxumDiesel,
    /// actix-web and sqlx.
    ActixSqlx,
    /// actix-web, and diesel in threads. It is built with libpq.
    ActixDiesel,
}

impl Example {
    /// Has cargo build it, and says where it is.
    pub(super) fn build(self) -> Result<PathBuf> {
        let (name, is_blocking) = match self {
            Self::Axum => ("web_axum", false),
            Self::AxumSqlx => ("web_axum_sqlx", false),
            Self::AxumDiesel => ("web_axum_diesel", false),
            Self::ActixSqlx => ("web_actix_sqlx", false),
            Self::ActixDiesel => ("web_actix_diesel", true),
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = process::Command::new(cargo);
        build
            .args(["build", "--package", "leadpool-examples", "--bin", name])
            .args([
                "--manifest-path",
                concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            ])
            .arg("--message-format=json-render-diagnostics")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        if is_blocking {
            let libpq = postgres::find_or_install_libpq()?;
            build.args(["--features", "diesel-blocking"]);
            build.envs(libpq.variable());
        }
        println!("building the service `{name}`");
        let output = build.output()?;
        if !output.status.success() {
            return Err(format!("the service `{name}` could not be built").into());
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let program = messages.lines().find_map(|line| executable(line, name));
        program.ok_or_else(|| format!("cargo does not say where `{name}` is").into())
    }
}

/// Where a program is, if that is what
/// [cargo tells](https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages).
fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["target"]["name"] != name {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

/// A service that runs.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    program: Child,
    /// Passes on what it prints, so that it never waits for a reader.
    _printing: JoinSet<()>,
}

impl Service {
    /// Starts it in the folder, and returns when it answers.
    pub(super) async fn start(
        program: &Path,
        folder: &Path,
        url: &str,
        listen: SocketAddr,
    ) -> Result<Self> {
        let program = program
            .canonicalize()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut program = Command::new(program)
            .current_dir(folder)
            .env("DATABASE_URL", url)
            .env("LISTEN", listen.to_string())
            .env("TOKEN_KEY", key())
            .env("DASHBOARD", "everybody")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A Ctrl-C at the terminal is for the demo, which ends the service.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = program.stdout.take().ok_or("the service has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = match timeout(BEGINNING, listening(&mut lines)).await {
            Ok(address) => address?,
            Err(_) => return Err("the service does not begin to listen".into()),
        };
        // One that has just begun to listen may not yet hear that it is told to end.
        if !is_answered(address).await {
            return Err(format!("the service listens on {address}, and does not answer").into());
        }
        let mut printing = JoinSet::new();
        printing.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("{line}");
            }
        });
        Ok(Self {
            address,
            program,
            _printing: printing,
        })
    }

    /// Waits for its end, which is none that it should have.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> String {
        match self.program.wait().await {
            Ok(status) => format!("the service ended by itself: {status}"),
            Err(error) => format!("the service can't be waited for: {error}"),
        }
    }

    /// Tells it to end, and sees it do so.
    pub(super) async fn end(mut self) -> Result<()> {
        let pid = self.program.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        match timeout(END, self.program.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the service did not end well: {status}").into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err("the service does not end, and is killed".into()),
        }
    }
}

async fn listening(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<SocketAddr> {
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.strip_prefix("listening on ") {
            return Ok(address.parse()?);
        }
        println!("{line}");
    }
    Err("the service ended before it listened".into())
}

/// What the service signs its tokens with. They die with the demo, so it need not be a good secret.
fn key() -> String {
    format!("{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_tells_of_a_program() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"web"},"executable":"/t/web"}"#;
        assert_eq!(executable(line, "web"), Some("/t/web".into()));
        assert_eq!(executable(line, "other"), None);
        let library = r#"{"reason":"compiler-artifact","target":{"name":"web"},"executable":null}"#;
        assert_eq!(executable(library, "web"), None);
        assert_eq!(executable("no json", "web"), None);
    }
}
