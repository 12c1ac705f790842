//! What a service that ends does not wait for.

use crate::monitor::Cluster;

/// Ends what is streamed to clients without an end of its own, as a [`Watcher`](super::Watcher)
/// does: a server that waits for its open connections would wait for those in vain.
///
/// ```no_run
/// # fn f(pool: leadpool::Pool) {
/// // Told to end: no new requests, and then
/// leadpool::web::end_streams(pool.cluster());
/// # }
/// ```
pub fn end_streams(cluster: &Cluster) {
    cluster.service_end().cancel();
}
