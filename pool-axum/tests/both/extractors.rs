//! What handlers ask for, over each driver.

use super::*;
use crate::drivers::apps;

#[crate::support::test]
async fn a_writer_leads_to_the_primary_and_a_reader_to_a_standby() {
    let servers = start().await;
    let primary = port_of(&servers, servers.primary());
    for (driver, app) in apps(&servers.url()).await {
        let wrote = post(&app, "/writer").await;
        assert_eq!(wrote.status, 200, "{driver}: {wrote:?}");
        assert_eq!(wrote.body, primary, "{driver}");
        until("a reader on a standby", async || {
            let read = get(&app, "/reader").await;
            assert_eq!(read.status, 200, "{driver}: {read:?}");
            read.body.split('/').next() != Some(&primary)
        })
        .await;
    }
    assert_eq!(rows(&servers).await, 4);
}
