//! What TLS costs: nothing at a checkout of an idle connection; something in a round trip, and when
//! a connection is opened. Both pools are on the same server.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool::{Pool, deadpool_postgres::Object};
use leadpool_testkit::{Cluster as Servers, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;

/// A pool that encrypts and checks everything, and one that does not.
struct Rivals {
    plain: Pool,
    tls: Pool,
    _servers: Servers,
    _root: NamedTempFile,
}

impl Rivals {
    async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, authority).unwrap();
        let root = NamedTempFile::new().unwrap();
        std::fs::write(root.path(), authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let servers = Servers::builder()
            .standbys(0)
            .tls(ServerTls::new(certificate.pem(), key.serialize_pem()))
            .start()
            .await
            .unwrap();
        let connect = async |parameters: String| {
            let url = format!("{}?{parameters}", servers.url());
            let pool = Pool::connect(&url).await.unwrap();
            drop(pool.get().await.unwrap());
            pool
        };
        let plain = connect("sslmode=disable".to_owned()).await;
        let root_cert = root.path().display();
        let tls = connect(format!("sslmode=verify-full&sslrootcert={root_cert}")).await;
        Self {
            plain,
            tls,
            _servers: servers,
            _root: root,
        }
    }

    fn both(&self) -> [(&'static str, &Pool); 2] {
        [("plain", &self.plain), ("tls", &self.tls)]
    }
}

/// Both in turns, so that what else the machine does meets both: what is left is the difference.
async fn in_turns(rivals: &Rivals) {
    const TURNS: usize = 4_000;
    const EACH: u32 = 500;

    let mut times = [Vec::with_capacity(TURNS), Vec::with_capacity(TURNS)];
    for _ in 0..TURNS {
        for (times, (_, pool)) in times.iter_mut().zip(rivals.both()) {
            let begun = Instant::now();
            for _ in 0..EACH {
                drop(pool.get().await.unwrap());
            }
            times.push(begun.elapsed());
        }
    }
    for (mut times, (name, _)) in times.into_iter().zip(rivals.both()) {
        times.sort();
        let nanoseconds = times[TURNS / 2].as_secs_f64() * 1e9 / f64::from(EACH);
        println!("tls_checkout in turns, median: {name} {nanoseconds:.1} ns");
    }
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let rivals = runtime.block_on(Rivals::start());
    runtime.block_on(in_turns(&rivals));
    let mut group = criterion.benchmark_group("tls_checkout");
    for (name, pool) in rivals.both() {
        group.bench_function(name, |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || drop(pool.get().await.unwrap()));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("tls_round_trip");
    for (name, pool) in rivals.both() {
        let client = runtime.block_on(pool.get()).unwrap();
        group.bench_function(name, |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || drop(client.simple_query("SELECT 1").await.unwrap()));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("tls_open");
    group.sample_size(30);
    for (name, pool) in rivals.both() {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let client = pool.get().await.unwrap();
                drop(Object::take(client));
            });
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
