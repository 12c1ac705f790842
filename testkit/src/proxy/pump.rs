//! Moving bytes both ways.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Shared,
    trigger::{Messages, Moment},
};

#[derive(Clone, Copy)]
enum Way {
    ToServer,
    ToClient,
}

/// Moves bytes both ways until one side closes, or the trigger cuts.
pub(super) async fn both(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    // Small messages must leave when they are written: the proxy is to measure, not to add.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whether the client spoke last.
    let asking = AtomicBool::new(false);
    let swallow = AtomicBool::new(false);
    tokio::select! {
        () = one(from_client, to_server, Way::ToServer, shared, &asking, &swallow) => {}
        () = one(from_server, to_client, Way::ToClient, shared, &asking, &swallow) => {}
    }
}

async fn one(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    shared: &Shared,
    asking: &AtomicBool,
    swallow: &AtomicBool,
) {
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut messages = Messages::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            let bytes = &buffer[..count];
            let mut last = false;
            let was_asking = asking.swap(matches!(way, Way::ToServer), Ordering::Relaxed);
            let delay = match way {
                Way::ToServer => {
                    if !was_asking {
                        shared.turned();
                    }
                    messages.push(bytes);
                    while let Some(message) = messages.next() {
                        match shared.triggered(&message) {
                            Some(Moment::BeforeForward) => return,
                            Some(Moment::AfterForward) => last = true,
                            Some(Moment::BeforeAnswer) => swallow.store(true, Ordering::Relaxed),
                            None => {}
                        }
                    }
                    shared.mode.borrow().to_server
                }
                Way::ToClient => {
                    if swallow.load(Ordering::Relaxed) {
                        return;
                    }
                    shared.mode.borrow().to_client
                }
            };
            let sent = queue.send((Instant::now() + delay, bytes.to_vec()));
            if last || sent.is_err() {
                return;
            }
        }
    };
    let writing = async {
        let mut mode = shared.mode.subscribe();
        while let Some((due, bytes)) = queued.recv().await {
            sleep_until(due).await;
            // A black hole keeps what it gets until the network heals.
            if mode.wait_for(|mode| !mode.silent).await.is_err() {
                return;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    // The reader ends first when a side closes; what is queued still leaves.
    tokio::join!(reading, writing);
}
