//! One refresh of a cluster of twenty hosts: what the state machine needs for it, and what the
//! whole process needs, probes and all.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::{fs, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool::{
    Config, HostAddr, Pool,
    discovery::{Discovering, Discovery, Found, View},
    failover::{Answer, Input, Machine},
    topology::{Lsn, Term},
};
use leadpool_testkit::Cluster as Servers;
use tokio::runtime;

const HOSTS: usize = 20;

fn machine(criterion: &mut Criterion) {
    let hosts: Vec<HostAddr> = (0..HOSTS)
        .map(|at| HostAddr::new(format!("db{at}.example.com"), 5432))
        .collect();
    let config = Config::builder("postgres://db0.example.com/shop")
        .max_lag(Some(Duration::from_secs(1)))
        .build()
        .unwrap();
    let mut machine = Machine::new(&hosts, config.monitor().clone());
    let mut round = 0;
    let mut refresh = || {
        round += 1;
        let now = Duration::from_secs(round);
        let found: Found = hosts.iter().cloned().collect();
        machine.handle(now, Input::Discovered(found));
        for (at, host) in hosts.iter().enumerate() {
            let mut answer = match at {
                0 => Answer::primary(Term::from_timeline(1)),
                _ => Answer::standby(),
            };
            answer.position = Some(Lsn::new(round * 1000));
            answer.system_identifier = Some(7);
            answer.started_at = Some(at as i64);
            let host = host.clone();
            machine.handle(now, Input::Answered { host, answer });
            // The worker makes a picture of each answer.
            std::hint::black_box(machine.topology());
        }
    };
    criterion.bench_function("refresh_20_hosts/state_machine", |bencher| {
        bencher.iter(&mut refresh);
    });
}

/// Names the twenty hosts each time it is asked.
#[derive(Debug)]
struct Named;

impl Discovery for Named {
    fn name(&self) -> &str {
        "named"
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        Box::pin(async { Ok(view.seeds().iter().cloned().collect()) })
    }
}

/// Processor time that this thread has used.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Everything runs on one thread, so its processor time is the pool's. Twenty names lead to one
/// server, whose own time does not count.
fn process(criterion: &mut Criterion) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_servers, pool) = runtime.block_on(async {
        let servers = Servers::builder().standbys(0).start().await.unwrap();
        let addr = servers.addr(0).unwrap();
        let names: Vec<String> = (0..HOSTS).map(|at| format!("db{at}.example.com")).collect();
        let url = format!(
            "host={} hostaddr={} port={} user=postgres dbname=postgres",
            names.join(","),
            vec![addr.ip().to_string(); HOSTS].join(","),
            addr.port()
        );
        let pool = Pool::builder(&url).discovery(Named).build().await.unwrap();
        (servers, pool)
    });
    let refresh = async || {
        let cluster = pool.cluster();
        let before = cluster.topology();
        cluster.probe_now();
        let all_answered = || {
            let topology = cluster.topology();
            let mut hosts = topology.hosts().iter().zip(before.hosts());
            hosts.all(|(now, before)| now.last_answer > before.last_answer)
        };
        while !all_answered() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    criterion.bench_function("refresh_20_hosts/processor_time_with_probes", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let begun = cpu_time();
                for _ in 0..times {
                    refresh().await;
                }
                cpu_time() - begun
            })
        });
    });
}

criterion_group!(benches, machine, process);
criterion_main!(benches);
