//! A COMMIT without an answer: keep its evidence, and ask later what became of it.
//!
//! `outcome setup` makes the tables, `outcome` writes an order, and `outcome '<evidence>'`, with what
//! that printed, asks.

use std::{env, time::Duration};

use leadpool::{
    Error, Pool,
    outcome::{Evidence, Outcome},
};

async fn set_up(pool: &Pool) -> Result<(), Error> {
    pool.create_token_table().await?;
    let client = pool.get().await?;
    let sql = "CREATE TABLE IF NOT EXISTS orders (id bigserial, item text)";
    Ok(client.batch_execute(sql).await?)
}

async fn order(pool: &Pool) -> Result<(), Error> {
    let written = pool
        .tx()
        .name("order")
        .deadline(Duration::from_secs(5))
        // Whoever waits for this one waits no longer: somebody else asks later. Without this line
        // the rest of the deadline is spent on finding out, and there is hardly ever a doubt left.
        .resolve_within(Duration::ZERO)
        .run(|tx| async move {
            tx.execute("INSERT INTO orders (item) VALUES ('tea')", &[])
                .await?;
            Ok(())
        })
        .await;
    match written {
        Ok(()) => println!("written"),
        Err(Error::Unknown(in_doubt)) => match &in_doubt.evidence {
            // To a file, a queue, a table of another database.
            Some(evidence) => println!("in doubt: {evidence}"),
            None => println!("in doubt, and evidence is switched off"),
        },
        // Nothing was written.
        Err(error) => return Err(error),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder(&env::var("DATABASE_URL")?)
        // Proves also what the servers' log can't, for one insert more in each transaction.
        .configure(|config| config.token_table("leadpool_token"))
        .build()
        .await?;
    let kept = match env::args().nth(1) {
        None => return Ok(order(&pool).await?),
        Some(argument) if argument == "setup" => return Ok(set_up(&pool).await?),
        Some(kept) => kept,
    };
    let evidence: Evidence = kept.parse()?;
    match pool.resolve(&evidence, Duration::from_secs(10)).await? {
        Outcome::Committed => println!("it was written"),
        Outcome::NotCommitted => println!("it was not, and will not be"),
    }
    // Now and then, tokens that prove nothing any more.
    while pool.clean_tokens(1_000).await? == 1_000 {}
    Ok(())
}
