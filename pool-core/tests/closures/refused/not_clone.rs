//! A closure that owns what can't be cloned.

struct Ticket(i64);

async fn hand_in(pool: &leadpool::Pool, ticket: Ticket) -> Result<(), leadpool::Error> {
    pool.run_tx(async move |tx| {
        let ticket = ticket;
        tx.execute("DELETE FROM tickets WHERE id = $1", &[&ticket.0]).await?;
        Ok(())
    })
    .await
}

fn main() {
    let _ = hand_in;
}
