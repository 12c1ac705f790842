//! The dashboard in a real browser, headless, while the primary dies.
//!
//! Without Chromium and its driver the tests say so and are skipped, unless
//! `LEADPOOL_TESTKIT_REQUIRE` has `chromium` in it.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use leadpool::{HostAddr, Pool, web::end_streams};
use leadpool_axum::Dashboard;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::both::*;

/// What a host may be named that wants to become code.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";

#[tokio::test]
async fn a_failover_as_it_is_seen() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let servers = start().await;
    let pool = pool_with(&servers, |config| config.host(HostAddr::new(HOSTILE, 1))).await;
    let page = serve(Dashboard::new(pool.clone()).allow(|_| true)).await;
    let name = |host: usize| servers.addr(host).unwrap().to_string();
    let (first, hosts) = (name(0), [name(0), name(1), name(2), format!("{HOSTILE}:1")]);

    browser.go(&page.url).await;
    browser
        .until("it is live", "text('#connection') === 'live'")
        .await;
    let headline = format!("text('#headline').includes('writes go to {first}')");
    browser.until("the writer", &headline).await;
    let rows = browser
        .see("all('#hosts tbody tr').map(row => row.dataset.host)")
        .await;
    let rows: Vec<String> = serde_json::from_value(rows).unwrap();
    assert_eq!(rows[0], first, "the writer comes first");
    for host in &hosts {
        assert!(rows.contains(host), "{host} is not among {rows:?}");
    }
    for host in &hosts[1..3] {
        let role = format!("cell({host:?}, 'role') === 'standby'");
        browser.until("the roles", &role).await;
    }
    // What a host says of itself is text.
    let named = format!("document.querySelector(`#hosts [data-host={HOSTILE:?}]`) === null");
    assert_eq!(browser.see(&named).await, true, "the port belongs to it");
    assert_eq!(browser.see("document.images.length").await, 0);
    assert_ne!(browser.see("document.title").await, "owned");
    browser.assert_accessible().await;
    let trouble = browser.colour("--trouble").await;
    let writer = browser.colour("--writer").await;
    let shown = browser.screenshot().await;
    assert!(shown.has(writer), "the writer's time is drawn");
    assert!(!shown.has(trouble), "nothing is wrong yet");

    servers.kill(0).await.unwrap();
    let gap = "text('#headline').includes('no writer')";
    browser.until("the gap", gap).await;
    browser
        .until(
            "the gap, drawn",
            "all('#timeline rect[data-gap]').length === 1",
        )
        .await;
    assert!(browser.screenshot().await.has(trouble), "the gap is drawn");
    servers.failover().await.unwrap();
    let second = name(servers.primary());
    let headline = format!("text('#headline').includes('writes go to {second}, timeline 2')");
    browser.until("the new writer", &headline).await;
    let row = "all('#failovers tbody tr').length === 1";
    browser.until("the failover in words", row).await;
    let told = browser.see("text('#failovers tbody tr')").await;
    let told = told.as_str().unwrap();
    assert!(told.contains(&first) && told.contains(&second), "{told}");
    let length = browser.see("text('#failovers [data-cell=gap]')").await;
    let length = length.as_str().unwrap().to_owned();
    assert!(
        length.ends_with(" s") || length.ends_with(" ms"),
        "{length}"
    );
    let lanes = "all('#timeline rect[data-writer]').length === 2";
    browser.until("both writers, drawn", lanes).await;
    let said = browser
        .see("document.querySelector('#timeline svg').getAttribute('aria-label')")
        .await;
    assert!(said.as_str().unwrap().contains("1 failover"), "{said}");
    let events = "text('#events').includes('connection refused')";
    browser.until("why", events).await;
    browser.assert_accessible().await;

    // A transaction is counted; one that is in doubt would stand out.
    pool.run_tx(|tx| async move { Ok(tx.batch_execute("SELECT 1").await?) })
        .await
        .unwrap();
    let committed = "text('#transactions [data-count=committed]') === '1'";
    browser.until("the transaction", committed).await;
    assert_eq!(
        browser
            .see("text('#transactions [data-count=unknown]')")
            .await,
        "0"
    );

    browser.assert_quiet().await;
    page.serving.abort();
    end_streams(pool.cluster());
    browser
        .until("that it is stale", "text('#connection') !== 'live'")
        .await;
}

#[tokio::test]
async fn on_a_phone_and_in_the_dark() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let servers = start().await;
    let pool = pool_with(&servers, |config| config.host(HostAddr::new(HOSTILE, 1))).await;
    let page = serve(Dashboard::new(pool).allow(|_| true)).await;
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", phone)
        .await;
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let features = json!({ "features": [feature] });
        browser
            .devtools("Emulation.setEmulatedMedia", features)
            .await;
        browser.go(&page.url).await;
        browser
            .until("it is live", "text('#connection') === 'live'")
            .await;
        let width = browser.see("document.documentElement.scrollWidth").await;
        assert!(width.as_u64().unwrap() <= 360, "{scheme}: {width}");
        let (ground, text) = (
            browser.colour("--page").await,
            browser.colour("--text").await,
        );
        let contrast = contrast(ground, text);
        assert!(contrast >= 4.5, "{scheme}: {contrast}");
        for colour in ["--quiet", "--writer", "--trouble", "--warning"] {
            let contrast = self::contrast(ground, browser.colour(colour).await);
            assert!(contrast >= 4.5, "{scheme} {colour}: {contrast}");
        }
        assert!(browser.screenshot().await.has(ground), "{scheme}");
        grounds.push(ground);
    }
    assert_ne!(grounds[0], grounds[1]);
    browser.assert_quiet().await;
}

#[tokio::test]
async fn who_may_not_see_it_and_who_comes_too_late_is_told() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let dashboard = Dashboard::new(pool).allow(|_| true).most_watchers(0);
    let page = serve(dashboard).await;
    browser.go(&page.url).await;
    browser
        .until("the refusal", "text('#connection').includes('refused')")
        .await;
}

/// A served dashboard.
struct Page {
    url: String,
    serving: JoinHandle<()>,
}

async fn serve(dashboard: Dashboard) -> Page {
    let app = Router::new().nest("/dashboard", dashboard.router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dashboard", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Page { url, serving }
}

/// A browser, by [WebDriver](https://www.w3.org/TR/webdriver2/).
struct Browser {
    driver: SocketAddr,
    session: String,
    program: Child,
    /// Its profile, which nobody else removes.
    _files: TempDir,
}

/// For the scripts below.
const WORDS: &str = "
    const all = (selector) => [...document.querySelectorAll(selector)];
    const text = (selector) => document.querySelector(selector)?.textContent.trim();
    const cell = (host, name) => all('#hosts tbody tr')
        .find((row) => row.dataset.host === host)
        ?.querySelector(`[data-cell=${name}]`)?.textContent.trim();
    return ";

impl Browser {
    /// `None` if there is none.
    async fn start() -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let spawned = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", files.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut program = match spawned {
            Ok(program) => program,
            Err(error) => {
                let required = std::env::var("LEADPOOL_TESTKIT_REQUIRE").unwrap_or_default();
                let is_required = required.split(',').any(|word| word == "chromium");
                assert!(!is_required, "chromedriver: {error}");
                eprintln!("skipped, install Chromium and chromium-driver: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let port = soon("the driver", async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap();
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return port.trim_end_matches('.').parse().unwrap();
                }
            }
        })
        .await;
        let mut browser = Self {
            driver: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            program,
            _files: files,
        };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let opened = browser.ask("/session", &wanted).await;
        browser.session = format!("/session/{}", opened["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        soon(path, async {
            let stream = TcpStream::connect(self.driver).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            let request = Request::post(format!("{}{path}", self.session))
                .header("host", "localhost")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_string())))
                .unwrap();
            let asking = async {
                let answer = sender.send_request(request).await.unwrap();
                drop(sender);
                let status = answer.status();
                let body = answer.collect().await.unwrap().to_bytes();
                let mut answer: Value = serde_json::from_slice(&body).unwrap();
                assert!(status.is_success(), "{path}: {answer}");
                answer["value"].take()
            };
            tokio::join!(asking, connection).0
        })
        .await
    }

    async fn go(&self, url: &str) {
        self.ask("/url", &json!({ "url": url })).await;
    }

    /// What an expression of JavaScript is, on the page.
    async fn see(&self, expression: &str) -> Value {
        let script = json!({ "script": format!("{WORDS}{expression}"), "args": [] });
        self.ask("/execute/sync", &script).await
    }

    async fn until(&self, what: &str, expression: &str) {
        until(what, async || self.see(expression).await == true).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.ask("/goog/cdp/execute", &body).await;
    }

    /// A colour of the page's own, by its name.
    async fn colour(&self, name: &str) -> [u8; 3] {
        let expression = format!(
            "(() => {{ const probe = document.createElement('i'); \
             probe.style.color = 'var({name})'; document.body.append(probe); \
             const rgb = getComputedStyle(probe).color; probe.remove(); \
             return rgb.match(/\\d+/g).map(Number); }})()"
        );
        serde_json::from_value(self.see(&expression).await).unwrap()
    }

    async fn screenshot(&self) -> Picture {
        // What is drawn follows what is known by a frame or two.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let body = json!({ "cmd": "Page.captureScreenshot", "params": whole });
        let shown = self.ask("/goog/cdp/execute", &body).await;
        let bytes = STANDARD.decode(shown["data"].as_str().unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        pixels.truncate(frame.buffer_size());
        let bytes = frame.color_type.samples();
        Picture { pixels, bytes }
    }

    /// Everything that says something has a name for those who do not see it.
    async fn assert_accessible(&self) {
        let nameless = "all('svg[role=img], meter, progress, section, table, input, button')
            .filter((element) => !(
                element.getAttribute('aria-label')
                || all('#' + (element.getAttribute('aria-labelledby') ?? 'none'))[0]?.textContent
                || element.querySelector('caption, title')?.textContent.trim()
                || element.labels?.[0]?.textContent.trim()
                || element.closest('[aria-hidden=true]')
                || element.textContent.trim() && element.matches('button')
            ))
            .map((element) => element.outerHTML.slice(0, 200))";
        assert_eq!(self.see(nameless).await, json!([]));
        let count = self
            .see("all('svg[role=img], meter, progress, table').length")
            .await;
        assert!(count.as_u64().unwrap() > 3, "{count}");
        assert_eq!(self.see("document.documentElement.lang").await, "en");
        assert_eq!(self.see("all('main').length").await, 1);
        assert_eq!(
            self.see("all('#headline[aria-live], #headline [aria-live]').length > 0")
                .await,
            true
        );
    }

    /// The browser has complained of nothing, the policy's violations above all.
    async fn assert_quiet(&self) {
        let said = self.ask("/se/log", &json!({ "type": "browser" })).await;
        let said = said.as_array().unwrap();
        let complaints: Vec<&Value> = said
            .iter()
            .filter(|line| line["level"] != "DEBUG" && line["level"] != "INFO")
            .filter(|line| !line["message"].as_str().unwrap().contains("favicon.ico"))
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

impl Drop for Browser {
    /// The driver alone would leave its browser behind.
    fn drop(&mut self) {
        let group = self.program.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            // It may have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What was on the screen.
struct Picture {
    pixels: Vec<u8>,
    /// A pixel.
    bytes: usize,
}

impl Picture {
    /// Whether this colour fills something: more than a few pixels of it are there.
    fn has(&self, colour: [u8; 3]) -> bool {
        let pixels = self.pixels.chunks_exact(self.bytes);
        pixels.filter(|pixel| pixel[..3] == colour).count() > 50
    }
}

/// Of two colours ([WCAG 2.2](https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)).
fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let luminance = |colour: [u8; 3]| {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
    };
    let (one, other) = (luminance(one), luminance(other));
    one.max(other) / one.min(other)
}
