//! What system this is, and how programs are found and installed on it.

use std::{env, fs, path::PathBuf};

use rustix::process::geteuid;

/// Whether this is one of the distributions, or made from it.
pub(crate) fn is_like(distributions: &[&str]) -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .filter_map(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
        })
        .flat_map(|ids| ids.trim_matches('"').split_whitespace())
        .any(|id| distributions.contains(&id))
}

/// The folders that are looked through for programs.
pub(crate) fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default()
}

/// Lets commands run as root, where that is needed.
pub(crate) fn as_root(commands: Vec<Vec<&str>>) -> Vec<Vec<String>> {
    let sudo = !cfg!(target_os = "macos") && !geteuid().is_root();
    let with_sudo = |command: Vec<&str>| {
        let words = sudo.then_some("sudo").into_iter().chain(command);
        words.map(str::to_owned).collect()
    };
    commands.into_iter().map(with_sudo).collect()
}

/// The commands that install packages of Debian and Ubuntu; `None` elsewhere. They start no
/// PostgreSQL server.
pub(crate) fn apt_get(packages: &[&str]) -> Option<Vec<Vec<String>>> {
    if !is_like(&["debian", "ubuntu"]) {
        return None;
    }
    let mut commands = Vec::new();
    if packages.iter().any(|name| name.starts_with("postgresql")) {
        commands.push(vec!["mkdir", "-p", "/etc/postgresql-common"]);
        // Or the package starts a server of its own on port 5432.
        commands.push(vec![
            "sh",
            "-c",
            "echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf",
        ]);
    }
    commands.push(vec!["apt-get", "update"]);
    let mut install = vec!["apt-get", "install", "-y", "--no-install-recommends"];
    install.extend(packages);
    commands.push(install);
    Some(as_root(commands))
}

/// Commands on one line, for a terminal.
pub(crate) fn shown(commands: &[Vec<String>]) -> String {
    let commands: Vec<String> = commands.iter().map(|argv| shell_line(argv)).collect();
    commands.join(" && ")
}

/// Words as a POSIX shell reads them.
pub(crate) fn shell_line(argv: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:+,@".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let words: Vec<String> = argv.iter().map(quoted).collect();
    words.join(" ")
}
