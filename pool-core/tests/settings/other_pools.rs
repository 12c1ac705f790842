//! Configurations of deadpool-postgres and of tokio-postgres.

use std::time::Duration;

use deadpool_postgres::{ManagerConfig, PoolConfig, QueueMode, RecyclingMethod, Timeouts};
use leadpool::{Config, config::ConfigError};

fn deadpool_config() -> deadpool_postgres::Config {
    let mut config = deadpool_postgres::Config::new();
    config.url =
        Some("postgres://app:secret@db1:1,db2/shop?connect_timeout=9&writer_size=3".to_owned());
    config
}

#[test]
fn deadpools_configuration_is_taken_over() {
    let mut theirs = deadpool_config();
    theirs.user = Some("other".to_owned());
    theirs.dbname = Some(String::new());
    theirs.options = Some("-c a=1".to_owned());
    theirs.application_name = Some("till".to_owned());
    theirs.host = Some("db3".to_owned());
    theirs.hosts = Some(vec!["/run/x".to_owned(), "db5".to_owned()]);
    theirs.port = Some(3);
    theirs.ports = Some(vec![4, 5]);
    theirs.hostaddrs = Some((1..=5).map(|n| [10, 0, 0, n].into()).collect());
    theirs.ssl_mode = Some(deadpool_postgres::SslMode::Disable);
    theirs.connect_timeout = Some(Duration::from_millis(1_500));
    theirs.keepalives = Some(false);
    theirs.keepalives_idle = Some(Duration::from_millis(2_500));
    theirs.target_session_attrs = Some(deadpool_postgres::TargetSessionAttrs::Any);
    theirs.channel_binding = Some(deadpool_postgres::ChannelBinding::Disable);
    theirs.load_balance_hosts = Some(deadpool_postgres::LoadBalanceHosts::Disable);
    theirs.manager = Some(ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    });
    theirs.pool = Some(PoolConfig {
        max_size: 7,
        timeouts: Timeouts {
            wait: Some(Duration::from_secs(2)),
            create: Some(Duration::from_secs(1)),
            recycle: Some(Duration::from_secs(3)),
        },
        queue_mode: QueueMode::Fifo,
    });
    let config = Config::from_deadpool_postgres(&theirs)
        .unwrap()
        .build()
        .unwrap();
    let ours: leadpool::config::ConfigBuilder = Config::builder(
        "host=db1,db2,db3,/run/x,db5 port=1,5432,3,4,5 \
         hostaddr=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5 user=other password=secret dbname=shop \
         options='-c a=1' application_name=till keepalives=0 target_session_attrs=any \
         channel_binding=disable load_balance_hosts=disable connect_timeout=1 sslmode=disable \
         writer_size=7 reader_size=7 checkout_timeout=2s",
    );
    let ours = format!("{:?}", ours.build().unwrap());
    let ours = ours.replace("keepalives_idle: 5s", "keepalives_idle: 2.5s");
    assert_eq!(format!("{config:?}"), ours);
}

/// As the driver reads them: each host of a URL has a port, said or not.
#[test]
fn hosts_are_added_to_those_of_the_url() {
    for (url, host, port, expected) in [
        (
            "postgres://db1,db2/shop",
            "db3",
            7,
            "db1:5432 db2:5432 db3:7",
        ),
        (
            "postgres://db1:6,db2/shop",
            "db3",
            7,
            "db1:6 db2:5432 db3:7",
        ),
        ("postgres:///shop", "db3", 7, "db3:7"),
        ("host=db1 port=6", "db3", 7, "db1:6 db3:7"),
        ("host=db1,db2", "db3", 7, "db1:7 db2:7 db3:7"),
    ] {
        let mut theirs = deadpool_postgres::Config::new();
        theirs.url = Some(url.to_owned());
        theirs.host = Some(host.to_owned());
        theirs.port = Some(port);
        let config = Config::from_deadpool_postgres(&theirs).unwrap();
        let config = config.build().unwrap();
        let hosts: Vec<String> = config.hosts().iter().map(ToString::to_string).collect();
        assert_eq!(hosts.join(" "), expected, "{url}");
        // What the driver makes of it: as many ports as hosts, or one for all.
        theirs.dbname = Some("shop".to_owned());
        let driver = theirs.get_pg_config().unwrap();
        let ports = driver.get_ports();
        assert_eq!(driver.get_hosts().len(), hosts.len(), "{url}");
        for (at, host) in config.hosts().iter().enumerate() {
            assert_eq!(ports.get(at).unwrap_or(&ports[0]), &host.port(), "{url}");
        }
    }
}

#[test]
fn what_deadpools_configuration_has_and_leadpool_has_not_is_refused() {
    type Change = fn(&mut deadpool_postgres::Config);
    let changes: &[(Change, &str)] = &[
        (|c| c.url = None, "host"),
        (
            |c| c.url = Some("postgres://app:hunter2@db1@x/".to_owned()),
            "conninfo",
        ),
        (|c| c.hosts = Some(vec!["db3".to_owned()]), "port"),
        (|c| c.host = Some("db3,db4".to_owned()), "host"),
        (|c| c.user = Some("a\0".to_owned()), "user"),
        (|c| c.password = Some("hunter2\0".to_owned()), "password"),
        (
            |c| c.connect_timeout = Some(Duration::ZERO),
            "connect_timeout",
        ),
        (|c| c.pool = Some(PoolConfig::new(0)), "pool.max_size"),
        (
            |c| {
                let pool = c.pool.insert(PoolConfig::new(1));
                pool.timeouts.wait = Some(Duration::ZERO);
            },
            "pool.timeouts.wait",
        ),
        (
            |c| c.pool.insert(PoolConfig::new(1)).queue_mode = QueueMode::Lifo,
            "pool.queue_mode",
        ),
    ];
    for (change, key) in changes {
        let mut theirs = deadpool_config();
        change(&mut theirs);
        let built = Config::from_deadpool_postgres(&theirs).and_then(|builder| builder.build());
        let error = built.expect_err(key);
        assert_eq!(error.key(), *key, "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    for method in [
        RecyclingMethod::Fast,
        RecyclingMethod::Verified,
        RecyclingMethod::Clean,
        RecyclingMethod::Custom("x".to_owned()),
    ] {
        let mut theirs = deadpool_config();
        theirs.manager = Some(ManagerConfig {
            recycling_method: method.clone(),
        });
        let builder = Config::from_deadpool_postgres(&theirs).unwrap();
        let config = builder.build().unwrap();
        assert_eq!(config.session().recycling, method.into());
    }
}

#[test]
fn the_drivers_configuration_is_taken_over() {
    let text = "host=db1,/run/x port=1,2 hostaddr=10.0.0.1,10.0.0.2 user=app password=secret \
                dbname=shop options='-c a=1' application_name=till sslmode=require connect_timeout=3 \
                tcp_user_timeout=3 keepalives=0 keepalives_idle=9 keepalives_interval=2 \
                keepalives_retries=4 target_session_attrs=read-only channel_binding=require \
                load_balance_hosts=random";
    let driver: tokio_postgres::Config = text.parse().unwrap();
    let config = Config::from_tokio_postgres(&driver)
        .unwrap()
        .build()
        .unwrap();
    // libpq's words for the same: it counts one time in milliseconds, the driver in seconds.
    let text = text.replace("keepalives_retries", "keepalives_count");
    let text = text.replace("tcp_user_timeout=3", "tcp_user_timeout=3000");
    let ours = Config::from_url(&text).unwrap();
    assert_eq!(format!("{config:?}"), format!("{ours:?}"));

    let driver: tokio_postgres::Config = "host=db1".parse().unwrap();
    let config = Config::from_tokio_postgres(&driver)
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        format!("{config:?}"),
        format!("{:?}", Config::from_url("host=db1").unwrap())
    );

    // `Debug` has all of its fields but `ssl_negotiation`: a new one must be taken over too.
    let fields = format!("{:#?}", tokio_postgres::Config::new());
    let fields: Vec<&str> = fields
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        fields,
        [
            "user",
            "password",
            "dbname",
            "options",
            "application_name",
            "ssl_mode",
            "host",
            "hostaddr",
            "port",
            "connect_timeout",
            "tcp_user_timeout",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_retries",
            "target_session_attrs",
            "channel_binding",
            "load_balance_hosts",
        ]
    );
}

#[test]
fn what_the_drivers_configuration_has_and_leadpool_has_not_is_refused() {
    let error = |driver: &tokio_postgres::Config| -> ConfigError {
        let built = Config::from_tokio_postgres(driver).and_then(|builder| builder.build());
        built.unwrap_err()
    };
    let mut driver = tokio_postgres::Config::new();
    assert_eq!(error(&driver).key(), "host");
    driver.host("db1").password([0xff]);
    assert_eq!(error(&driver).key(), "password");
    driver.password("x").host("a,b");
    assert_eq!(error(&driver).key(), "host");
}
