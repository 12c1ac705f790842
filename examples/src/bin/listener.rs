//! Notifications that follow the writer, and what to do about a gap.

use std::env;

use leadpool::{ListenerEvent, Pool};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    let mut listener = pool.listener();
    listener.listen("orders").await?;
    // From here on nothing is missed: read what is there now, then wait for what comes.

    let client = pool.get().await?;
    for order in ["order 1", "order 2"] {
        client
            .execute("SELECT pg_notify('orders', $1)", &[&order])
            .await?;
    }
    while let Some(event) = listener.next().await {
        match event {
            ListenerEvent::Notification(notification) => {
                println!("{}", notification.payload);
                match notification.payload.as_str() {
                    // In place of a failover: the listener's connection is cut off.
                    "order 2" => {
                        let cut_off = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                                       WHERE query LIKE 'LISTEN %' AND usename = current_user";
                        client.execute(cut_off, &[]).await?;
                    }
                    "order 3" => break,
                    _ => {}
                }
            }
            // Nobody listened for a moment: what was notified then is lost.
            ListenerEvent::Gap(_) => {
                println!("listening again, read everything anew");
                let sql = "SELECT pg_notify('orders', 'order 3')";
                client.execute(sql, &[]).await?;
            }
            _ => {}
        }
    }
    Ok(())
}
