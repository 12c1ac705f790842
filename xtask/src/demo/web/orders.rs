//! What is to be done next: as somebody types it, or by the clock.

use std::{io, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::servers::Fault;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Lose(Fault),
    Help,
    End,
}

/// Orders, one after the other.
pub(super) struct Orders {
    faults: &'static [Fault],
    lines: mpsc::Receiver<String>,
    every: Option<Duration>,
    /// By the clock.
    next: Option<Instant>,
    turn: usize,
}

impl Orders {
    /// What may be done to plain servers.
    pub(super) const PLAIN: &'static [Fault] = &[Fault::Kill, Fault::Switchover, Fault::Freeze];
    /// And where Patroni keeps them.
    pub(super) const PATRONI: &'static [Fault] = &[
        Fault::Kill,
        Fault::Switchover,
        Fault::Freeze,
        Fault::Manager,
    ];

    /// Reads them from standard input, and gives one of its own so often.
    pub(super) fn new(faults: &'static [Fault], every: Option<Duration>) -> Self {
        let (sender, lines) = mpsc::channel(16);
        // A thread of its own: reading a terminal can't be broken off, and would keep the runtime
        // from ending. It ends with the process.
        std::thread::spawn(move || {
            for line in io::stdin().lines() {
                let Ok(line) = line else { break };
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        let mut this = Self {
            faults,
            lines,
            every,
            next: None,
            turn: 0,
        };
        this.rest();
        this
    }

    /// The next one is due after a rest.
    pub(super) fn rest(&mut self) {
        self.next = self.every.map(|every| Instant::now() + every);
    }

    /// The next one. The end of the input is an order to end.
    ///
    /// Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Order {
        let next = self.next;
        let clock = async move {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = self.lines.recv() => line.map_or(Order::End, |line| read(&line, self.faults)),
            () = clock => {
                let fault = self.faults[self.turn % self.faults.len()];
                self.turn += 1;
                Order::Lose(fault)
            }
        }
    }

    /// What may be typed.
    pub(super) fn help(faults: &[Fault]) -> String {
        let mut text = String::from("\ntype a letter, and Enter:\n");
        for fault in faults {
            let what = match fault {
                Fault::Kill => "kill the primary (SIGKILL); a standby is promoted",
                Fault::Switchover => "move the role to a standby, in good order",
                Fault::Freeze => {
                    "freeze the primary (SIGSTOP); a standby is promoted, and it wakes up beside it"
                }
                Fault::Manager => "kill the primary's Patroni alone; it goes on, and is replaced",
            };
            text.push_str(&format!("  {}  {what}\n", letter(*fault)));
        }
        text.push_str("  q  end everything");
        text
    }
}

fn letter(fault: Fault) -> char {
    match fault {
        Fault::Kill => 'k',
        Fault::Switchover => 's',
        Fault::Freeze => 'f',
        Fault::Manager => 'm',
    }
}

/// The letter or the whole word.
fn read(line: &str, faults: &[Fault]) -> Order {
    let word = line.trim().to_lowercase();
    if word == "q" || word == "quit" {
        return Order::End;
    }
    let mut faults = faults.iter();
    let fault = faults.find(|fault| word == letter(**fault).to_string() || word == fault.name());
    fault.map_or(Order::Help, |fault| Order::Lose(*fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_words() {
        for (line, order) in [
            ("k", Order::Lose(Fault::Kill)),
            (" S\t", Order::Lose(Fault::Switchover)),
            ("freeze", Order::Lose(Fault::Freeze)),
            ("q", Order::End),
            ("quit", Order::End),
            ("", Order::Help),
            ("kk", Order::Help),
            // Nobody manages plain servers.
            ("m", Order::Help),
        ] {
            assert_eq!(read(line, Orders::PLAIN), order, "{line:?}");
        }
        assert_eq!(read("m", Orders::PATRONI), Order::Lose(Fault::Manager));
    }

    #[test]
    fn each_letter_is_told() {
        let help = Orders::help(Orders::PATRONI);
        for fault in Orders::PATRONI {
            assert!(
                help.contains(&format!("\n  {}  ", letter(*fault))),
                "{help}"
            );
        }
    }
}
