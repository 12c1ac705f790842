//! Whom to ask, in which order.

use std::sync::{Mutex, PoisonError};

use super::{Members, PatroniError, endpoint::Endpoint};

/// How many Patronis are asked that only an answer named.
const MOST_LEARNT: usize = 10;

/// The Patronis that the application names, and those that they named.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<Endpoint>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    answered_last: Option<Endpoint>,
    learnt: Vec<Endpoint>,
}

impl Seeds {
    pub(super) fn new<S: AsRef<str>>(
        urls: impl IntoIterator<Item = S>,
    ) -> Result<Self, PatroniError> {
        let mut seeds = Vec::new();
        for url in urls {
            let seed = Endpoint::parse(url.as_ref())?;
            if seeds.contains(&seed) {
                return Err(PatroniError::Url {
                    url: seed.to_string(),
                    problem: "is named twice: keep one",
                });
            }
            seeds.push(seed);
        }
        if seeds.is_empty() {
            return Err(PatroniError::NoUrls);
        }
        Ok(Self {
            seeds,
            memory: Mutex::default(),
        })
    }

    /// All to ask: who answered last, the seeds, those learnt.
    pub(super) fn in_order(&self) -> Vec<Endpoint> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<Endpoint> = Vec::new();
        let known = self.seeds.iter().chain(&memory.learnt);
        for endpoint in memory.answered_last.iter().chain(known) {
            if !order.contains(endpoint) {
                order.push(endpoint.clone());
            }
        }
        order
    }

    /// Remembers who answered, and, if `learn`, of whom it told.
    ///
    /// An answer can send us only where a host of the cluster is, by its own account, or a seed;
    /// and never from https to http. What is learnt is forgotten with the next answer.
    pub(super) fn answered(&self, endpoint: &Endpoint, members: &Members, learn: bool) {
        let mut learnt: Vec<Endpoint> = Vec::new();
        for member in members.iter().filter(|_| learn) {
            let Some(api) = member.api_url().and_then(Endpoint::parse_api_url) else {
                continue;
            };
            let is_host = member.addr().is_some_and(|addr| addr.name() == api.host());
            let is_seed = self.seeds.iter().any(|seed| seed.host() == api.host());
            let is_as_safe = self
                .seeds
                .iter()
                .any(|seed| seed.is_https() == api.is_https());
            if (is_host || is_seed) && is_as_safe && !self.seeds.contains(&api) {
                learnt.push(api);
            }
        }
        learnt.truncate(MOST_LEARNT);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.answered_last = Some(endpoint.clone());
        memory.learnt = learnt;
    }

    /// Forgets what only answers told.
    pub(super) fn forget(&mut self) {
        self.memory = Mutex::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seeds: &Seeds) -> Vec<String> {
        seeds.in_order().iter().map(ToString::to_string).collect()
    }

    fn members(of: &[(&str, &str)]) -> Members {
        let members: Vec<String> = of
            .iter()
            .map(|(host, api_url)| {
                format!(
                    r#"{{"name":"n","role":"replica","host":"{host}","port":5432,"api_url":"{api_url}"}}"#
                )
            })
            .collect();
        Members::parse(format!(r#"{{"members":[{}]}}"#, members.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn who_answered_last_is_asked_first() {
        let seeds = Seeds::new(["http://a:1", "http://b:1", "http://c:1"]).unwrap();
        seeds.answered(&Endpoint::parse("http://b:1").unwrap(), &members(&[]), true);
        assert_eq!(order(&seeds), ["http://b:1", "http://a:1", "http://c:1"]);
    }

    #[test]
    fn members_are_learnt_where_a_host_or_a_seed_is() {
        let seeds = Seeds::new(["https://a:1"]).unwrap();
        let answered = Endpoint::parse("https://a:1").unwrap();
        let told = members(&[
            ("10.0.0.2", "https://10.0.0.2:8008/patroni"),
            ("10.0.0.3", "https://a:2/patroni"),
            ("10.0.0.4", "https://metadata.example.com/patroni"),
            ("10.0.0.5", "http://10.0.0.5:8008/patroni"),
            ("10.0.0.6", "https://10.0.0.6:8008/other"),
            ("10.0.0.7", "https://admin:pw@10.0.0.7:8008/patroni"),
            ("10.0.0.8", "not a URL"),
            ("10.0.0.9", "https://a:1/patroni"),
        ]);
        seeds.answered(&answered, &told, true);
        let expected = ["https://a:1", "https://10.0.0.2:8008", "https://a:2"];
        assert_eq!(order(&seeds), expected);
        seeds.answered(&answered, &told, false);
        assert_eq!(order(&seeds), ["https://a:1"]);
    }

    #[test]
    fn an_answer_adds_only_a_few() {
        let seeds = Seeds::new(["http://a:1"]).unwrap();
        let told: Vec<(String, String)> = (0..100)
            .map(|n| (format!("h{n}"), format!("http://h{n}:8008/patroni")))
            .collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (&**a, &**b)).collect();
        seeds.answered(
            &Endpoint::parse("http://a:1").unwrap(),
            &members(&told),
            true,
        );
        assert_eq!(order(&seeds).len(), 1 + MOST_LEARNT);
    }

    #[test]
    fn a_seed_named_twice_is_an_error() {
        let error = Seeds::new(["http://a:1", "http://A:1/"]).unwrap_err();
        assert_eq!(error.to_string(), "`http://a:1`: is named twice: keep one");
        let error = Seeds::new([] as [&str; 0]).unwrap_err();
        assert!(matches!(error, PatroniError::NoUrls));
    }
}
