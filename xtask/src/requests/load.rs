//! An open loop of requests: each is due at its own moment, whatever became of those before it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep_until, timeout, timeout_at},
};

use super::book::{Answer, Asked, Book, Method};
use crate::Result;

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many files a process has open besides its requests' sockets.
const OTHER_FILES: u64 = 500;
/// How many sockets a request takes, where the service is in the same process.
const SOCKETS: u64 = 2;

/// What is sent, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Requests in a second.
    pub(crate) rate: u32,
    /// How many may be under way at the same time.
    pub(crate) most: u32,
    /// Decides which request writes, and which reads.
    pub(crate) seed: u64,
}

impl Plan {
    /// When a request is due, after the first one.
    fn due(&self, request: u64) -> Duration {
        Duration::from_secs_f64(request as f64 / f64::from(self.rate))
    }

    /// How many are due after so long, the first one included.
    fn due_after(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * f64::from(self.rate)) as u64 + 1
    }
}

/// Clients at work.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    sending: JoinSet<Result<()>>,
}

/// How many requests may be under way: as many as are wanted, if the system lets this process have
/// the sockets. The limit to its files is raised as far as the system admits.
pub(crate) fn places(wanted: u32) -> Result<u32> {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::from(wanted) * SOCKETS + OTHER_FILES;
    let Some(current) = limit.current.filter(|current| *current < needed) else {
        return Ok(wanted);
    };
    let raised = limit.maximum.map_or(needed, |most| most.min(needed));
    if raised > current {
        let current = Some(raised);
        let maximum = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    }
    let places = raised.max(current).saturating_sub(OTHER_FILES) / SOCKETS;
    match u32::try_from(places).unwrap_or(u32::MAX).min(wanted) {
        0 => Err("this process may open too few files: raise its limit (`ulimit -n`)".into()),
        places => Ok(places),
    }
}

/// Asks a service once for its notes: whether it answers at all.
pub(crate) async fn is_answered(address: SocketAddr) -> bool {
    let clients = Clients::new(address, 1);
    matches!(
        timeout(PATIENCE, clients.exchange(Asked::Get)).await,
        Ok(Ok(_))
    )
}

impl Load {
    /// Begins to send.
    pub(crate) fn start(plan: Plan, book: Arc<Book>) -> Self {
        let stop = watch::Sender::new(false);
        let mut sending = JoinSet::new();
        sending.spawn(send(plan, book, stop.subscribe()));
        Self { stop, sending }
    }

    /// Sends no more than was due by now, and returns when all of it has been answered, or given up.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.sending.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn send(plan: Plan, book: Arc<Book>, mut stopped: watch::Receiver<bool>) -> Result<()> {
    let places = Arc::new(Semaphore::new(usize::try_from(plan.most)?));
    let mut sender = Sender::new(&plan, book.clone());
    let begun = Instant::now();
    loop {
        let due = begun + plan.due(sender.sent);
        let place = tokio::select! {
            biased;
            // Whoever could tell it is gone, or has told it.
            _ = stopped.changed() => break,
            place = place_at(&places, due, &book) => place?,
        };
        sender.send(due, place)?;
    }
    // Whoever was due before the end and found no place is not forgotten.
    let all = plan.due_after(begun.elapsed());
    let give_up = Instant::now() + PATIENCE;
    while sender.sent < all {
        let place = places.clone().acquire_owned();
        let Ok(place) = timeout_at(give_up.into(), place).await else {
            book.unsent(all - sender.sent);
            break;
        };
        sender.send(begun + plan.due(sender.sent), place?)?;
    }
    sender.finish().await
}

/// Sends requests, and enters what becomes of them.
struct Sender {
    clients: Clients,
    book: Arc<Book>,
    random: fastrand::Rng,
    asking: JoinSet<()>,
    sent: u64,
}

impl Sender {
    fn new(plan: &Plan, book: Arc<Book>) -> Self {
        Self {
            clients: Clients::new(plan.address, plan.most),
            book,
            random: fastrand::Rng::with_seed(plan.seed),
            asking: JoinSet::new(),
            sent: 0,
        }
    }

    fn send(&mut self, due: Instant, place: OwnedSemaphorePermit) -> Result<()> {
        let asked = self.book.ask(match self.random.bool() {
            true => Method::Post,
            false => Method::Get,
        });
        let (clients, book) = (self.clients.clone(), self.book.clone());
        self.asking.spawn(async move {
            let answer = clients.ask(asked, &book).await;
            book.enter(asked, due.elapsed(), answer);
            drop(place);
        });
        self.sent += 1;
        while let Some(ended) = self.asking.try_join_next() {
            ended?;
        }
        Ok(())
    }

    /// Waits for all answers.
    async fn finish(mut self) -> Result<()> {
        while let Some(ended) = self.asking.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// A place for the request that is due then.
async fn place_at(
    places: &Arc<Semaphore>,
    due: Instant,
    book: &Book,
) -> Result<OwnedSemaphorePermit> {
    sleep_until(due.into()).await;
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Ok(place);
    }
    book.crowded();
    Ok(places.clone().acquire_owned().await?)
}

/// Clients that keep their connections.
#[derive(Clone)]
struct Clients {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Clients {
    fn new(address: SocketAddr, most: u32) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(usize::try_from(most).unwrap_or(usize::MAX));
        Self {
            client: builder.build(connector),
            address,
        }
    }

    async fn ask(&self, asked: Asked, book: &Book) -> Answer {
        match timeout(PATIENCE, self.exchange(asked)).await {
            Err(_) => Answer::Silence,
            Ok(Err(error)) => {
                let answer = Answer::Broken;
                book.note(&answer.name(), &error.to_string());
                answer
            }
            Ok(Ok((status, body))) => {
                let answer = Answer::Status(status);
                if !answer.is_success() {
                    let body = String::from_utf8_lossy(&body);
                    book.note(&answer.name(), &body);
                }
                answer
            }
        }
    }

    async fn exchange(&self, asked: Asked) -> Result<(u16, Bytes)> {
        let uri = format!("http://{}/notes", self.address);
        let request = match asked {
            Asked::Get => Request::get(uri).body(Full::default())?,
            Asked::Post(number) => {
                let note = json!({ "text": number.to_string() });
                Request::post(uri)
                    .header("content-type", "application/json")
                    .body(Full::from(note.to_string()))?
            }
        };
        let (head, body) = self.client.request(request).await?.into_parts();
        // Without its last byte there is no answer.
        let body = body.collect().await?.to_bytes();
        Ok((head.status.as_u16(), body))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::{Router, extract::State, http::StatusCode, routing::get};
    use tokio::{net::TcpListener, time::sleep};

    use super::*;

    /// A service that answers when it is allowed to.
    #[derive(Clone)]
    struct Gate {
        allowed: Arc<Semaphore>,
        inside: Arc<AtomicU32>,
        most: Arc<AtomicU32>,
    }

    async fn pass(State(gate): State<Gate>) -> StatusCode {
        let inside = gate.inside.fetch_add(1, Ordering::SeqCst) + 1;
        gate.most.fetch_max(inside, Ordering::SeqCst);
        gate.allowed.acquire().await.unwrap().forget();
        gate.inside.fetch_sub(1, Ordering::SeqCst);
        StatusCode::NO_CONTENT
    }

    async fn gate() -> (Gate, SocketAddr, JoinSet<()>) {
        let gate = Gate {
            allowed: Arc::new(Semaphore::new(0)),
            inside: Arc::default(),
            most: Arc::default(),
        };
        let router = Router::new().route("/notes", get(pass).post(pass));
        let router = router.with_state(gate.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (gate, address, serving)
    }

    fn plan(address: SocketAddr, most: u32) -> Plan {
        Plan {
            address,
            rate: 1_000,
            most,
            seed: 1,
        }
    }

    async fn until(is_so: impl Fn() -> bool) {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn answered(book: &Book) -> u64 {
        book.totals().answers.values().sum()
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_under_way_and_it_is_told() {
        let (gate, address, _serving) = gate().await;
        let book = Arc::new(Book::default());
        let load = Load::start(plan(address, 3), book.clone());
        until(|| book.totals().crowded > 0 || gate.inside.load(Ordering::SeqCst) > 3).await;
        let begun = Instant::now();
        until(|| begun.elapsed() > Duration::from_millis(50)).await;
        gate.allowed.add_permits(1_000_000);
        load.stop().await.unwrap();
        assert_eq!(gate.most.load(Ordering::SeqCst), 3);
        let totals = book.totals();
        assert!(totals.crowded > 0);
        assert_eq!((totals.failures(), totals.unsent), (0, 0));
        // Those that were due meanwhile, too.
        assert!(answered(&book) >= 50);
    }

    #[tokio::test]
    async fn the_wait_for_a_place_counts() {
        let (gate, address, _serving) = gate().await;
        let book = Arc::new(Book::default());
        let begun = Instant::now();
        let _load = Load::start(plan(address, 1), book.clone());
        // All of the first fifty have been due for as long.
        let behind = Duration::from_millis(50);
        until(|| begun.elapsed() > 3 * behind).await;
        gate.allowed.add_permits(50);
        until(|| answered(&book) == 50).await;
        assert!(book.totals().all.min() >= behind);
    }

    #[tokio::test]
    async fn who_can_not_connect_is_told() {
        // Nobody listens there any more.
        let (_, address, mut serving) = gate().await;
        serving.shutdown().await;
        let book = Arc::new(Book::default());
        let load = Load::start(plan(address, 10), book.clone());
        until(|| answered(&book) > 5).await;
        load.stop().await.unwrap();
        let totals = book.totals();
        let kinds: Vec<Answer> = totals.answers.keys().map(|(_, answer)| *answer).collect();
        assert!(
            kinds.iter().all(|kind| *kind == Answer::Broken),
            "{kinds:?}"
        );
        assert!(!totals.texts.is_empty());
    }

    #[test]
    fn the_limit_to_files_bounds_the_requests() {
        let places = places(10).unwrap();
        assert!((1..=10).contains(&places));
        let limit = getrlimit(Resource::Nofile).current;
        assert!(limit.is_none_or(|limit| limit >= u64::from(places) * SOCKETS));
    }
}
