//! `leadpool-with-cluster cargo test`: runs a program while there is a cluster, and ends as it ends.
//!
//! For tests that read where the server is from the environment, such as those of `#[sqlx::test]`:
//! `DATABASE_URL` names the primary, `CLUSTER_URL` all hosts.

use std::{env, error::Error, process::ExitCode};

use leadpool_testkit::Cluster;
use tokio::process::Command;

const USAGE: &str = "usage: leadpool-with-cluster [--standbys N] PROGRAM [ARGUMENT]...";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("leadpool-with-cluster: {error}");
            ExitCode::from(125)
        }
    }
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).peekable();
    let mut servers = Cluster::builder();
    if arguments.next_if(|first| first == "--standbys").is_some() {
        let standbys = arguments.next().ok_or(USAGE)?;
        let standbys = standbys.to_str().and_then(|text| text.parse().ok());
        servers = servers.standbys(standbys.ok_or(USAGE)?);
    }
    let program = arguments.next().ok_or(USAGE)?;
    let servers = servers.start().await?;
    let mut child = Command::new(&program)
        .args(arguments)
        .env("DATABASE_URL", servers.host_url(servers.primary())?)
        .env("CLUSTER_URL", servers.url())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.to_string_lossy()))?;
    let status = tokio::select! {
        status = child.wait() => status?,
        // The terminal told the program too; the servers stay until it has ended.
        _ = tokio::signal::ctrl_c() => child.wait().await?,
    };
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}
