//! What can be done to a cluster that Patroni keeps.

use serde_json::json;

use super::{PatroniCluster, member::Run, netns::Partition, rest::RestAnswer};
use crate::Error;

impl PatroniCluster {
    /// Lets Patroni hand the lead over, without loss: to a host, or to whom it likes best. Says
    /// who leads now. The former leader restarts as a standby some seconds later.
    ///
    /// # Errors
    ///
    /// [`Error::Rest`] with Patroni's reason if it refuses; it takes too long.
    ///
    /// # Cancel safety
    ///
    /// A switchover that has begun is finished by Patroni.
    pub async fn switchover(&self, to: Option<usize>) -> Result<usize, Error> {
        let old = self.leader().await?;
        let mut request = json!({ "leader": self.member(old)?.places.name });
        if let Some(to) = to {
            request["candidate"] = json!(self.member(to)?.places.name);
        }
        let answer = self
            .rest(old, "POST", "/switchover", Some(&request.to_string()))
            .await?;
        if answer.status != 200 {
            return Err(Error::Rest {
                host: old,
                status: answer.status,
                answer: answer.body,
            });
        }
        self.wait_new_leader(old).await
    }

    /// Kills every process of a host at once, as a power cut does: Patroni and PostgreSQL.
    ///
    /// # Errors
    ///
    /// There is no such host, or its processes do not end in time.
    pub async fn kill_host(&self, host: usize) -> Result<(), Error> {
        let member = self.member(host)?;
        member.kill();
        member.wait_gone(self.limit).await
    }

    /// Ends a host in good order: its Patroni stops PostgreSQL, and if it is the leader, hands
    /// the lead over at once.
    ///
    /// # Errors
    ///
    /// Its Patroni does not run, or does not end in time.
    pub async fn stop_host(&self, host: usize) -> Result<(), Error> {
        self.member(host)?.stop(self.limit).await
    }

    /// Starts a host that was killed or stopped, and waits until its Patroni takes requests.
    /// [`wait_healthy`](Self::wait_healthy) waits for the rest.
    ///
    /// # Errors
    ///
    /// It runs; it does not start: the error holds its log.
    pub async fn start_host(&self, host: usize) -> Result<(), Error> {
        let member = self.member(host)?;
        if member.run() != Run::Down {
            return Err(member.error("is neither killed nor stopped"));
        }
        member.start()?;
        member.wait_rest(self.limit).await
    }

    /// Stops every process of a host without ending it: connections stay open and silent, new
    /// ones are accepted by the kernel and get no answer. After `ttl` another host leads.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub async fn freeze_host(&self, host: usize) -> Result<(), Error> {
        self.member(host)?.freeze()
    }

    /// Lets a frozen host go on. A former leader is a stale primary, which takes writes, until
    /// its Patroni has looked around: some hundred milliseconds.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn thaw_host(&self, host: usize) -> Result<(), Error> {
        self.member(host)?.thaw();
        Ok(())
    }

    /// Kills a host's Patroni alone. Its PostgreSQL goes on: a leader's is a stale primary after
    /// `ttl`, and takes writes until Patroni is started again.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn kill_patroni(&self, host: usize) -> Result<(), Error> {
        self.member(host)?.kill_patroni();
        Ok(())
    }

    /// Starts a host's Patroni; it takes over the PostgreSQL that runs. Returns when it takes
    /// requests.
    ///
    /// # Errors
    ///
    /// It runs already; it does not start: the error holds its log.
    pub async fn start_patroni(&self, host: usize) -> Result<(), Error> {
        let member = self.member(host)?;
        member.start()?;
        member.wait_rest(self.limit).await
    }

    /// Kills a host's postmaster alone; its Patroni starts another, mostly without a failover.
    ///
    /// # Errors
    ///
    /// Its PostgreSQL does not run.
    pub async fn kill_postmaster(&self, host: usize) -> Result<(), Error> {
        self.member(host)?.kill_postmaster()
    }

    /// Kills etcd; its data stays. Without the failsafe mode the leader becomes a standby after
    /// `retry_timeout` and some more; with it nothing changes while all hosts see each other.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn stop_etcd(&self) -> Result<(), Error> {
        self.etcd.kill();
        Ok(())
    }

    /// Starts etcd with the data that it had, and waits until it is healthy.
    ///
    /// # Errors
    ///
    /// It runs; it does not start: the error holds its log.
    pub async fn start_etcd(&self) -> Result<(), Error> {
        self.etcd.start().await
    }

    /// Cuts a host's network off. What it was cut off from before, it sees again.
    ///
    /// # Errors
    ///
    /// The cluster was started without [`namespaces`](super::PatroniBuilder::namespaces).
    pub async fn partition(&self, host: usize, from: Partition) -> Result<(), Error> {
        let member = self.member(host)?;
        let network = self.network.as_ref().ok_or_else(|| {
            member.error("has no network of its own; start with `builder().namespaces(true)`")
        })?;
        network.partition(host, from).await
    }

    /// Lets everybody see everybody again.
    ///
    /// # Errors
    ///
    /// The packet filter can't be set.
    pub async fn heal_network(&self) -> Result<(), Error> {
        match &self.network {
            Some(network) => network.heal().await,
            None => Ok(()),
        }
    }

    /// Asks a host's REST API whatever you like ([Patroni documentation, REST
    /// API](https://patroni.readthedocs.io/en/latest/rest_api.html)).
    ///
    /// ```no_run
    /// # async fn f(servers: leadpool_testkit::PatroniCluster) -> Result<(), leadpool_testkit::Error> {
    /// servers.rest(0, "PATCH", "/config", Some(r#"{"pause": true}"#)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no answer in time. A status that tells of a failure is no error here.
    pub async fn rest(
        &self,
        host: usize,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<RestAnswer, Error> {
        let member = self.member(host)?;
        let endpoint = member.endpoint();
        let asking = endpoint.request(method, path, body);
        let what = format!("{method} {path} at {}", endpoint.addr);
        tokio::time::timeout(self.limit, asking)
            .await
            .map_err(|_| member.timeout(&what, self.limit))?
            .map_err(Error::io(what))
    }
}
