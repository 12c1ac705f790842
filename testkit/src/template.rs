//! The cached data folder that all hosts of all clusters start as a copy of.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use crate::{Error, PgInstall, process::RunAs};

/// Changes when what is below does, so that old templates are not used.
const FORMAT: u32 = 2;

/// Small, quick, unsafe against power loss, and complete enough for `pg_rewind`. What a killed
/// server leaves of `mmap`ed memory goes with its data folder; of POSIX memory it would stay.
const CONF: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = on
wal_log_hints = on
hot_standby_feedback = on
wal_keep_size = 128MB
shared_buffers = 8MB
dynamic_shared_memory_type = mmap
autovacuum = off
jit = off
min_wal_size = 2MB
max_wal_size = 64MB
max_connections = 100
wal_receiver_timeout = 2s
wal_sender_timeout = 2s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 50ms
checkpoint_timeout = 1h
log_line_prefix = '%m [%p] '
";

const HBA: &str = "
host all         all 127.0.0.0/8 trust
host all         all ::1/128     trust
host replication all 127.0.0.0/8 trust
host replication all ::1/128     trust
";

/// Puts a fresh data folder at `target`: a copy of the cached one, or with `fresh` one with a
/// system identifier of its own.
pub(crate) async fn data_dir(
    install: &PgInstall,
    run_as: &RunAs,
    target: &Path,
    fresh: bool,
) -> Result<(), Error> {
    if fresh {
        return init(install, run_as, target).await;
    }
    let template = cached(install, run_as).await?;
    copy(run_as, &template, target).await
}

/// Copies a data folder with its owners and modes.
pub(crate) async fn copy(run_as: &RunAs, from: &Path, to: &Path) -> Result<(), Error> {
    let mut cp = run_as.command("cp");
    cp.arg("-Rp").arg(from).arg(to);
    run_as.run(cp).await.map(drop)
}

async fn cached(install: &PgInstall, run_as: &RunAs) -> Result<PathBuf, Error> {
    let mut hasher = DefaultHasher::new();
    (install.bin_dir(), install.major(), FORMAT, CONF, HBA).hash(&mut hasher);
    let cache = env::temp_dir().join(format!("leadpool-testkit-cache-{}", run_as.tag()));
    run_as.make_dir(&cache)?;
    let template = cache.join(format!("pg{}-{:016x}", install.major(), hasher.finish()));
    if template.join("PG_VERSION").exists() {
        return Ok(template);
    }
    // Made beside, then renamed: several processes may be doing the same.
    let name = format!("new-{}-{:x}", std::process::id(), unique());
    let new = cache.join(name);
    init(install, run_as, &new).await?;
    if fs::rename(&new, &template).is_err() {
        // Another was first.
        let _ = fs::remove_dir_all(&new);
    }
    Ok(template)
}

fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    RandomState::new().hash_one(0)
}

async fn init(install: &PgInstall, run_as: &RunAs, target: &Path) -> Result<(), Error> {
    let mut initdb = run_as.command(install.bin_dir().join("initdb"));
    initdb
        .arg("-D")
        .arg(target)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "-N", "-k"])
        .args(["--no-locale", "--no-instructions", "--wal-segsize=1"]);
    run_as.run(initdb).await?;
    let conf = target.join("postgresql.conf");
    let text = fs::read_to_string(&conf).map_err(Error::io(conf.display().to_string()))?;
    fs::write(&conf, text + CONF).map_err(Error::io(conf.display().to_string()))?;
    let hba = target.join("pg_hba.conf");
    fs::write(&hba, HBA).map_err(Error::io(hba.display().to_string()))
}
