//! What TLS costs: nothing at a checkout of an idle connection; something in a round trip, and when
//! a connection is opened. Both pools are on the same server.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool::{Pool, deadpool_postgres::Object};
use leadpool_benches::{Turn, in_turns};
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

fn checkouts(pool: &Pool) -> Turn<'_> {
    Box::new(move |times| {
        Box::pin(async move {
            for _ in 0..times {
                drop(pool.get().await.unwrap());
            }
        })
    })
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let rivals = runtime.block_on(Rivals::start());
    let turns = rivals.both().map(|(name, pool)| (name, checkouts(pool)));
    runtime.block_on(in_turns("tls_checkout", turns.into()));
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
