//! A web application under load while its primary is lost, short; and the demo with a web service.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn no_request_fails_while_the_primary_is_lost_and_those_of_others_are_seen_to_fail() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["requests", "--failovers", "2", "--rate", "50"])
        .args(["--hold-seconds", "1", "--compare", "--json"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let reports: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let (ours, plain) = (&reports[0], &reports[1]);
    assert_eq!(ours["failures"], 0, "{printed}");
    for count in ["lost", "doubled", "unacknowledged", "strange"] {
        assert_eq!(ours["notes"][count], 0, "{count}: {printed}");
    }
    for method in ["POST 201", "GET 200"] {
        assert!(ours["answers"][method].as_u64().unwrap() > 0, "{printed}");
    }
    for report in [ours, plain] {
        assert_eq!(report["faults"].as_array().unwrap().len(), 2, "{printed}");
        // Every request that was due was sent, and none is left out of the count.
        assert_eq!(report["unsent"], 0, "{printed}");
        let longest = report["wait_ms"]["max"].as_f64().unwrap();
        for fault in report["faults"].as_array().unwrap() {
            let wait = fault["longest_wait_ms"].as_f64().unwrap();
            assert!(wait > 0.0 && wait <= longest + 1.0, "{printed}");
        }
    }
    // Its host was killed, and was a standby afterwards.
    assert!(plain["failures"].as_u64().unwrap() > 0, "{printed}");
}

#[test]
fn a_service_goes_on_while_somebody_kills_its_primary() {
    let mut demo = Demo::start(&["--requests", "20"]);
    demo.type_line("what?");
    demo.until("q  end everything");
    demo.type_line("k");
    demo.until("kill: the primary is being lost");
    demo.until("is a standby");
    demo.type_line("q");
    let rest = demo.end();
    assert!(rest.contains("| not 2xx | 0 |"), "{rest}");
    assert!(rest.contains("| POST 201 |"), "{rest}");
    assert!(rest.contains("| GET 200 |"), "{rest}");
}

#[test]
fn an_interrupt_ends_the_service_in_good_order() {
    let mut demo = Demo::start(&["--auto", "1"]);
    demo.until("kill: the primary is being lost");
    let pid = Pid::from_raw(demo.program.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    demo.end();
}

#[test]
fn the_end_of_the_input_ends_the_service_in_good_order() {
    let mut demo = Demo::start(&[]);
    drop(demo.input.take());
    demo.end();
}

#[test]
fn a_demo_that_is_killed_leaves_no_service_behind() {
    let mut demo = Demo::start(&[]);
    demo.program.kill().unwrap();
    demo.program.wait().unwrap();
    for _ in 0..6_000 {
        if TcpStream::connect(&demo.service).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the service goes on");
}

/// The demo, with somebody at its terminal.
struct Demo {
    program: Child,
    input: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    service: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let mut command = Command::new(xtask);
        command.args(["demo", "--web", "--hold-seconds", "1"]);
        // Where all packages are tested, it is there: cargo would build much of it with other
        // features once more.
        let service = xtask.with_file_name("web_axum");
        if service.exists() {
            command.arg("--program").arg(service);
        }
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let stdout = program.stdout.take().unwrap();
        let mut demo = Self {
            input: program.stdin.take(),
            lines: BufReader::new(stdout).lines(),
            program,
            service: String::new(),
        };
        let line = demo.until("service    http://");
        let address = line.strip_prefix("service    http://").unwrap();
        demo.service = address.strip_suffix("/notes").unwrap().to_owned();
        let dashboard = demo.until("dashboard");
        assert!(dashboard.ends_with("/dashboard"), "{dashboard}");
        demo.until("host 2");
        demo.until("q  end everything");
        assert!(demo.shows("/dashboard").contains("<title>leadpool"));
        demo
    }

    /// An answer of 200, whole.
    fn shows(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.service).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The first line that has this in it.
    fn until(&mut self, text: &str) -> String {
        let found = self
            .lines
            .find(|line| line.as_ref().unwrap().contains(text));
        found
            .unwrap_or_else(|| panic!("the demo ended without {text:?}"))
            .unwrap()
    }

    /// What it prints until it has ended well, and the service with it.
    fn end(&mut self) -> String {
        let rest: Vec<String> = self.lines.by_ref().map(|line| line.unwrap()).collect();
        let rest = rest.join("\n");
        let status = self.program.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
        assert!(rest.contains("everything has ended"), "{rest}");
        TcpStream::connect(&self.service).unwrap_err();
        rest
    }
}

impl Drop for Demo {
    /// A test that failed leaves it where it was.
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
