//! Moving bytes both ways.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_io::Timer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use super::{
    Shared,
    trigger::{Messages, Moment, garble, shutdown},
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
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Whether the client spoke last.
    let asking = AtomicBool::new(false);
    let end = Mutex::new(None);
    tokio::select! {
        () = one(&mut from_client, &mut to_server, Way::ToServer, shared, &asking, &end) => {}
        () = one(&mut from_server, &mut to_client, Way::ToClient, shared, &asking, &end) => {}
    }
    let end = *end.lock().unwrap_or_else(PoisonError::into_inner);
    match end {
        Some(Moment::Stranded) => {
            drop((from_client, to_client));
            std::future::pending::<()>().await;
        }
        // Closed at once, it would take from the server what that has not read yet. The first
        // answer may be that to a question before the message: the server goes on until there is
        // nothing more to read.
        Some(Moment::BeforeAnswer) => {
            drop(to_server);
            drain(&mut from_server).await;
        }
        // As above, but nobody tells the server that the client has gone.
        Some(Moment::AfterAnswers(_)) => {
            drop((from_client, to_client));
            drain(&mut from_server).await;
        }
        // Whoever waits for an answer waits for ever.
        Some(Moment::SilentBefore | Moment::SilentAfter) => std::future::pending().await,
        _ => {}
    }
}

/// Reads until the server has closed the connection.
async fn drain(from_server: &mut OwnedReadHalf) {
    let mut rest = vec![0; 4096];
    while matches!(from_server.read(&mut rest).await, Ok(1..)) {}
}

async fn one(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    way: Way,
    shared: &Shared,
    asking: &AtomicBool,
    end: &Mutex<Option<Moment>>,
) {
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut messages = Messages::default();
        let mut answers = Messages::of_session();
        let mut passed = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            let mut bytes = buffer[..count].to_vec();
            let mut last = false;
            let was_asking = asking.swap(matches!(way, Way::ToServer), Ordering::Relaxed);
            let delay = match way {
                Way::ToServer => {
                    if !was_asking {
                        shared.turned();
                    }
                    messages.push(&bytes);
                    while let Some(message) = messages.next() {
                        let Some(trigger) = shared.triggered(&message) else {
                            continue;
                        };
                        let moment = trigger.moment();
                        if moment == Moment::Garbled {
                            garble(&mut bytes, trigger.text());
                            continue;
                        }
                        *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(moment);
                        match moment {
                            Moment::BeforeForward | Moment::Stranded | Moment::SilentBefore => {
                                return;
                            }
                            Moment::AfterForward | Moment::SilentAfter => last = true,
                            Moment::BeforeAnswer
                            | Moment::ShutdownInAnswer
                            | Moment::AfterAnswers(_)
                            | Moment::Garbled => {}
                        }
                    }
                    shared.mode.borrow().to_server
                }
                Way::ToClient => {
                    let end = *end.lock().unwrap_or_else(PoisonError::into_inner);
                    match end {
                        Some(Moment::BeforeAnswer | Moment::AfterAnswers(0)) => return,
                        Some(Moment::AfterAnswers(count)) => {
                            answers.push(&bytes);
                            (bytes, last) = so_many(&mut answers, &mut passed, count);
                        }
                        Some(Moment::ShutdownInAnswer) => {
                            answers.push(&bytes);
                            (bytes, last) = up_to_the_end(&mut answers);
                        }
                        _ => {}
                    }
                    shared.mode.borrow().to_client
                }
            };
            let sent = queue.send((Instant::now() + delay, bytes));
            if last || sent.is_err() {
                return;
            }
        }
    };
    let writing = async {
        let mut mode = shared.mode.subscribe();
        while let Some((due, bytes)) = queued.recv().await {
            // Tokio's timers are of whole milliseconds, and round up.
            if Instant::now() < due {
                Timer::at(due).await;
            }
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

/// The answers so far, up to the end of the last one that may pass; whether that has come.
fn so_many(answers: &mut Messages, passed: &mut usize, count: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(message) = answers.next() {
        bytes.extend_from_slice(&message);
        *passed += usize::from(message.first() == Some(&b'Z'));
        if *passed == count {
            return (bytes, true);
        }
    }
    (bytes, false)
}

/// The answer so far, with a shutdown in place of its end; whether that has come.
fn up_to_the_end(answers: &mut Messages) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(message) = answers.next() {
        if message.first() == Some(&b'Z') {
            bytes.extend(shutdown());
            return (bytes, true);
        }
        bytes.extend(message);
    }
    (bytes, false)
}
