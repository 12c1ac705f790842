//! Metrics for Prometheus: prints them as a scraper would get them, at the start and after each
//! change of the writer. Runs until stopped, or until the writer has changed as often as the first
//! argument says.

use std::env;

use leadpool::{Event, Pool, observe::METRICS};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// Fits waits of microseconds and outages of a minute.
const SECONDS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0,
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before the pool: counters are bound to the recorder that is there when it is made. A service
    // would let the exporter listen (its feature `http-listener`) instead of printing.
    let exporter = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()?;
    let pool = Pool::builder(&env::var("DATABASE_URL")?)
        .configure(|config| config.pool_name("orders"))
        .build()
        .await?;
    let mut events = pool.cluster().events();
    let mut left = env::args()
        .nth(1)
        .map_or(Ok(u32::MAX), |changes| changes.parse())?;
    loop {
        let writer = pool.cluster().topology().writer.clone();
        let answer: i32 = pool
            .run_tx(|tx| async move { Ok(tx.query_one("SELECT 42", &[]).await?.get(0)) })
            .await?;
        exporter.run_upkeep();
        println!("{}", exporter.render());
        println!(
            "# {} metrics are known, and the answer is {answer}",
            METRICS.len()
        );
        if left == 0 {
            return Ok(());
        }
        left -= 1;
        loop {
            match events.next().await {
                // The first one may tell of the writer that is there already.
                Some(Event::WriterChanged { to, .. }) if to.is_some() && to != writer => break,
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}
