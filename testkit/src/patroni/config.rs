//! What a Patroni is told: its configuration file, and how it is launched.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde_json::{Value, json};

use super::{PatroniPrograms, builder::Settings, member::Places};
use crate::system;

/// The name of the cluster in etcd.
pub(super) const SCOPE: &str = "leadpool";

/// What starts Patroni where its interpreter is known.
pub(super) const LAUNCHER: &str = include_str!("launcher.py");

/// The configuration of one member. JSON is valid YAML.
pub(super) fn of_member(
    settings: &Settings,
    programs: &PatroniPrograms,
    places: &Places,
    etcd: SocketAddr,
    tls: Option<&Path>,
) -> Value {
    let mut parameters = json!({
        "fsync": "off",
        "full_page_writes": "on",
        "wal_log_hints": "on",
        "hot_standby_feedback": "on",
        "wal_keep_size": "64MB",
        "shared_buffers": "8MB",
        // As in the template of a plain cluster: nothing is to stay of killed servers.
        "dynamic_shared_memory_type": "mmap",
        "min_wal_size": "2MB",
        "max_wal_size": "64MB",
        "autovacuum": "off",
        "jit": "off",
        "max_connections": 100,
        "wal_receiver_timeout": "2s",
        "wal_sender_timeout": "2s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "200ms",
        "checkpoint_timeout": "1h",
        "log_line_prefix": "%m [%p] ",
    });
    for (key, value) in &settings.conf {
        parameters[key] = json!(value);
    }
    let network = match places.addr.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        _ => "127.0.0.0/8".to_owned(),
    };
    let mut restapi = json!({ "listen": places.rest, "connect_address": places.rest });
    if let Some(tls) = tls {
        restapi["certfile"] = json!(tls.join("rest.pem"));
        restapi["keyfile"] = json!(tls.join("rest.key"));
        restapi["cafile"] = json!(tls.join("ca.pem"));
    }
    let mut config = json!({
        "scope": SCOPE,
        "name": places.name,
        "restapi": restapi,
        "etcd3": { "hosts": etcd.to_string() },
        "bootstrap": {
            "dcs": {
                "ttl": settings.ttl,
                "loop_wait": settings.loop_wait,
                "retry_timeout": settings.retry_timeout,
                "maximum_lag_on_failover": 1_048_576,
                "failsafe_mode": settings.failsafe,
                "synchronous_mode": settings.synchronous,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    "remove_data_directory_on_rewind_failure": true,
                    "remove_data_directory_on_diverged_timelines": true,
                    "parameters": parameters,
                },
            },
            "initdb": [
                { "encoding": "UTF8" },
                { "locale": "C" },
                { "auth": "trust" },
                { "wal-segsize": "1" },
                "no-sync",
                "data-checksums",
            ],
        },
        "postgresql": {
            "listen": places.addr,
            "connect_address": places.addr,
            "data_dir": places.data_dir,
            "bin_dir": programs.postgres().bin_dir(),
            "pgpass": places.work_dir.join("pgpass"),
            "authentication": {
                "superuser": { "username": "postgres" },
                "replication": { "username": "replicator" },
            },
            "pg_hba": [
                format!("host all all {network} trust"),
                format!("host replication all {network} trust"),
            ],
            "basebackup": [{ "checkpoint": "fast" }, "no-sync"],
            "parameters": { "unix_socket_directories": "" },
        },
    });
    if !settings.callback.is_empty() {
        // Patroni splits it by the rules of a shell.
        let command = system::shell_line(&settings.callback);
        config["postgresql"]["callbacks"] = json!({
            "on_start": command,
            "on_stop": command,
            "on_restart": command,
            "on_reload": command,
            "on_role_change": command,
        });
    }
    config
}
