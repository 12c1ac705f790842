//! What the figures were found on.

use std::{fmt, fs, path::Path, process::Command, thread};

use leadpool_testkit::PgInstall;

use crate::Result;

/// Facts, in the order in which they are shown.
pub(super) struct Machine(Vec<(&'static str, String)>);

impl Machine {
    /// Looks around; what can't be found out is said to be unknown.
    pub(super) fn look(root: &Path, install: &PgInstall, quick: bool) -> Result<Self> {
        let unknown = || "unknown".to_owned();
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
        let cores = thread::available_parallelism()?.to_string();
        let memory = field("/proc/meminfo", "MemTotal")
            .and_then(|total| total.split(' ').next()?.parse::<f64>().ok())
            .map_or_else(unknown, |kib| format!("{:.0} GiB", kib / 1024.0 / 1024.0));
        let kernel = says(Command::new("uname").args(["-s", "-r"]));
        let server = install.bin_dir().join("postgres");
        let server = says(Command::new(server).arg("--version"));
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let rustc = says(Command::new(rustc).arg("--version"));
        let commit = says(
            Command::new("git")
                .args(["describe", "--always", "--dirty", "--exclude", "*"])
                .current_dir(root),
        );
        let date = says(Command::new("date").args(["-u", "+%Y-%m-%d"]));
        let mut facts = vec![
            ("processor", cpu),
            ("cores", cores),
            ("memory", memory),
            ("kernel", kernel.unwrap_or_else(unknown)),
            ("server", server.unwrap_or_else(unknown)),
            ("compiler", rustc.unwrap_or_else(unknown)),
            ("commit", commit.unwrap_or_else(unknown)),
            ("date", date.unwrap_or_else(unknown)),
        ];
        if quick {
            let note = "too short to be relied on (`--quick`)";
            facts.push(("run", note.to_owned()));
        }
        Ok(Self(facts))
    }
}

/// The first value of this name, in a file of `name : value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn says(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(facts) = self;
        writeln!(f, "| | |\n|---|---|")?;
        for (name, value) in facts {
            writeln!(f, "| {name} | {value} |")?;
        }
        Ok(())
    }
}
