//! Which standby reads: a strategy of your own over one of leadpool's, and a limit to how far
//! behind a standby may be.

use std::{env, time::Duration};

use leadpool::{
    Pool, Target,
    routing::{LeastConnections, ReaderStrategy, Readers},
};

/// The first standby while it is at leisure; else the one with the fewest connections in use.
#[derive(Debug)]
struct FirstUpTo {
    in_use: usize,
    beyond: LeastConnections,
}

impl ReaderStrategy for FirstUpTo {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        match readers.in_use(0) < self.in_use {
            true => 0,
            false => self.beyond.pick(readers),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let strategy = FirstUpTo {
        in_use: 2,
        beyond: LeastConnections::new(),
    };
    let pool = Pool::builder(&env::var("DATABASE_URL")?)
        .configure(|config| {
            config
                .reader_strategy(strategy)
                .max_lag(Some(Duration::from_secs(5)))
        })
        .build()
        .await?;
    // Both standbys have to be known for a choice.
    while pool
        .cluster()
        .topology()
        .hosts()
        .iter()
        .filter(|host| host.is_reader())
        .count()
        < 2
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut held = Vec::new();
    for number in 1..=4 {
        let client = pool.get_as(Target::Standby).await?;
        let row = client.query_one("SELECT inet_server_port()", &[]).await?;
        let first = pool
            .cluster()
            .topology()
            .hosts()
            .iter()
            .find(|host| host.is_reader())
            .map(|host| host.addr.port());
        let is_first = first.map(i32::from) == Some(row.get::<_, i32>(0));
        println!(
            "reader {number}: {}",
            if is_first {
                "the first standby"
            } else {
                "another"
            }
        );
        held.push(client);
    }
    Ok(())
}
