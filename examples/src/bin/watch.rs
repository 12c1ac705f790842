//! The topology, the gauges, and the stream of events. Runs until stopped, or for as many seconds
//! as the first argument says.

use std::{env, time::Duration};

use leadpool::Pool;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    let mut events = pool.cluster().events();
    for host in pool.cluster().topology().hosts() {
        println!("{}", host.describe());
    }
    for sub_pool in pool.status().sub_pools {
        println!("{}: {:?}", sub_pool.host, sub_pool.counts);
    }
    let seconds = env::args()
        .nth(1)
        .map_or(Ok(u64::MAX), |seconds| seconds.parse())?;
    let watching = async {
        while let Some(event) = events.next().await {
            println!("{event:?}");
        }
    };
    // Its end is what was asked for.
    drop(tokio::time::timeout(Duration::from_secs(seconds), watching).await);
    Ok(())
}
