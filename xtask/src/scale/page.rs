//! The page.

use std::{fmt::Write as _, time::Duration};

use super::{
    Args,
    clock::Time,
    fleet::{Entry, Fleet},
    scenario::{Fault, LOGIN_TURNS, MONITOR_TURNS, Scenario},
    tally::Tally,
};
use crate::Result;

/// What the run with the usual seed and model shows, in words.
const FINDINGS: &str = include_str!("findings.md");

/// Everything that was seen, and how it was made.
pub(super) fn page(args: &Args, fleet: &Fleet<Tally>) -> Result<String> {
    let mut page = String::new();
    introduce(&mut page, args)?;
    if args.command() == Args::default().command() {
        writeln!(page, "{FINDINGS}")?;
    }
    failovers(&mut page, fleet)?;
    probes(&mut page, fleet)?;
    settings(&mut page, fleet)?;
    limited(&mut page, fleet)?;
    modelled(&mut page, args, fleet)?;
    Ok(page)
}

fn introduce(page: &mut String, args: &Args) -> Result<()> {
    writeln!(
        page,
        "# One failover, and a fleet of clients\n\n\
         A simulation in virtual time. Each client is leadpool's own state machine with its real settings; servers and \
         network are [modelled](#what-is-modelled-and-what-is-not). So these are no measurements: they show what leadpool \
         asks of servers, and how that grows, not how fast a server is.\n\n\
         ```sh\n{}\n```\n\n\
         Seed {}: the same seed gives the same bytes on every machine. Three hosts; the primary is lost, and {} later a \
         standby is promoted. In each client {} checkouts wait for it, and each uses its connection for 10 ms. A server \
         opens {} connections per second, and the kernel keeps {} more waiting.\n",
        args.command(),
        args.seed,
        time(Duration::from_millis(args.promotion_ms)),
        args.checkouts,
        grouped(args.connects_per_second.into()),
        grouped(args.backlog as u64),
    )?;
    Ok(())
}

fn failovers(page: &mut String, fleet: &Fleet<Tally>) -> Result<()> {
    let cap = fleet.failovers.first().map(|entry| entry.scenario.cap());
    writeln!(
        page,
        "## From the promotion until all are served\n\n\
         With the cap each client opens at most `max_concurrent_connects` = {} connections to a host at the same time; \
         without it as many as it needs. All times since the promotion. A client is served when its first checkout has \
         got a connection. A checkout gives up after its `checkout_timeout` = {}.\n",
        cap.unwrap_or_default(),
        fleet
            .failovers
            .first()
            .map(|entry| time(entry.scenario.config.pool().checkout_timeout))
            .unwrap_or_default(),
    )?;
    writeln!(
        page,
        "| fault | clients | cap | the writer is seen by half | by all | a first client is served | half | 99 % | all | all checkouts | checkouts that gave up |\n\
         |---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for Entry { scenario, tally } in &fleet.failovers {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            fault(scenario),
            grouped(scenario.clients.into()),
            capped(scenario),
            seen(scenario, tally, &tally.found, 0.5),
            seen(scenario, tally, &tally.found, 1.0),
            seen(scenario, tally, &tally.first_served, 0.0),
            seen(scenario, tally, &tally.first_served, 0.5),
            seen(scenario, tally, &tally.first_served, 0.99),
            seen(scenario, tally, &tally.first_served, 1.0),
            came(tally.after_promotion(&tally.served, 1.0, tally.waiting)),
            of(tally.failed, tally.waiting),
        )?;
    }
    writeln!(page, "\n![clients served](scale-served.svg)\n")?;
    writeln!(
        page,
        "## Connects at the new primary\n\n\
         The most within one second, by pools and by monitors (which replace the connections that they probe over), since \
         the fault. Taken in vain: whoever asked had given up, and the server had the work all the same. Dropped: the \
         backlog was full, and the kernel of whoever asked tries again 1 s later, then 2 s, then 4 s.\n\n\
         | fault | clients | cap | by pools in one second | by monitors in one second | taken in one second | taken in vain | dropped | at once by one pool | at once by all pools | timed out or refused |\n\
         |---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for Entry { scenario, tally } in &fleet.failovers {
        let new = tally.new_primary();
        let from = tally.step(tally.fault_at);
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            fault(scenario),
            grouped(scenario.clients.into()),
            capped(scenario),
            grouped(new.pool_connects.most_in_a_second(from)),
            grouped(new.monitor_connects.most_in_a_second(from)),
            grouped(new.forks.most_in_a_second(from)),
            grouped(new.vain_forks),
            grouped(new.dropped),
            tally.most_of_one,
            grouped(tally.most_of_all as u64),
            grouped(tally.failed_connects),
        )?;
    }
    writeln!(page, "\n![connects](scale-connects.svg)\n")?;
    Ok(())
}

fn probes(page: &mut String, fleet: &Fleet<Tally>) -> Result<()> {
    writeln!(
        page,
        "## Probes of one host\n\n\
         Per second, of the standby that is promoted, after a kill. While nobody writes each client asks once in \
         `idle_interval`; while it writes once in `active_interval`; while there is no writer at an interval that grows \
         with the outage; and for `fast_after_change` after the change once in `after_change_interval`.\n\n\
         | clients | idle | writing | no writer, on average | the busiest second | after the change | monitors' sessions |\n\
         |--:|--:|--:|--:|--:|--:|--:|"
    )?;
    let killed = fleet
        .failovers
        .iter()
        .filter(|entry| entry.scenario.fault == Some(Fault::Kill) && entry.scenario.is_capped);
    for (failover, idle) in killed.zip(&fleet.idle) {
        let tally = &failover.tally;
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            grouped(failover.scenario.clients.into()),
            rate(idle.tally.calm_probes()),
            rate(tally.calm_probes()),
            rate(tally.outage_probes()),
            rate(tally.most_probes()),
            rate(tally.probes_after_change()),
            grouped(failover.scenario.clients.into()),
        )?;
    }
    writeln!(page, "\n![probes](scale-probes.svg)\n")?;
    Ok(())
}

fn settings(page: &mut String, fleet: &Fleet<Tally>) -> Result<()> {
    let clients = fleet.tuned.first().map(|(_, entry)| entry.scenario.clients);
    writeln!(
        page,
        "## Settings for {} clients\n\n\
         After a kill. Each row has the settings of all rows above it too.\n\n\
         | | settings | probes per host and second, writing | the busiest second | connects at the new primary in one second | most sessions there | the writer is seen by all | half of the clients served | 99 % | all | all checkouts | checkouts that gave up |\n\
         |--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        grouped(clients.unwrap_or_default().into())
    )?;
    for (at, (name, Entry { scenario, tally })) in fleet.tuned.iter().enumerate() {
        let new = tally.new_primary();
        let from = tally.step(tally.fault_at);
        writeln!(
            page,
            "| {} | {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            at + 1,
            rate(tally.calm_probes()),
            rate(tally.most_probes()),
            grouped(new.connects_in_a_second(from)),
            grouped(new.most_sessions as u64),
            seen(scenario, tally, &tally.found, 1.0),
            seen(scenario, tally, &tally.first_served, 0.5),
            seen(scenario, tally, &tally.first_served, 0.99),
            seen(scenario, tally, &tally.first_served, 1.0),
            came(tally.after_promotion(&tally.served, 1.0, tally.waiting)),
            of(tally.failed, tally.waiting),
        )?;
    }
    writeln!(page, "\n![settings](scale-settings.svg)\n")?;
    Ok(())
}

fn limited(page: &mut String, fleet: &Fleet<Tally>) -> Result<()> {
    let Some(first) = fleet.limited.first() else {
        return Ok(());
    };
    writeln!(
        page,
        "## Servers that allow {} sessions\n\n\
         The default settings, after a kill. Above, servers allow as many as are asked for.\n\n\
         | clients | sessions asked for by all | most sessions | connects refused for it | clients served | checkouts served |\n\
         |--:|--:|--:|--:|--:|--:|",
        grouped(first.scenario.model.max_connections as u64)
    )?;
    for Entry { scenario, tally } in &fleet.limited {
        let size = scenario.config.pool().writer_size as u64;
        let wanted = 1 + size.min(scenario.checkouts.into());
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            grouped(scenario.clients.into()),
            grouped(u64::from(scenario.clients) * wanted),
            grouped(tally.new_primary().most_sessions as u64),
            grouped(tally.new_primary().denied),
            of(tally.first_served.len() as u64, scenario.clients.into()),
            of(tally.served.len() as u64, tally.waiting),
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn modelled(page: &mut String, args: &Args, fleet: &Fleet<Tally>) -> Result<()> {
    let model = args.model();
    let config = fleet.failovers.first().map(|entry| &entry.scenario.config);
    let pool_timeout = config.map(|config| time(config.pool().connect_timeout));
    writeln!(
        page,
        "## What is modelled, and what is not\n\n\
         **Real**: the state machine (`failover::Machine`), one for each client, fed by its own probes; the times of the \
         probes (`failover::Pace`, `Rhythm`, `Renewal`), their jitter drawn from the seed; the settings (`Config`); the pause \
         after a failed connect (`adapter::pause_after`).\n\n\
         **Modelled after the code**: the prober (one connection to each host, replaced now and then; a second one beside \
         it when it is silent), the watchdog's look after a freeze, the admission cap (a queue for each client and host, \
         oldest first), the pool (who has a place opens a connection, who has none waits for one that comes back), \
         `connect_timeout` = {}, the retries of a checkout until its deadline. The look at the host that follows a failed \
         connect takes a round trip here.\n\n\
         **Assumed**: a round trip of {} and up to {} more; a server that opens {} connections per second, one after the \
         other, whether or not somebody still waits for them; a login of {} round trips, and {} more before a monitor's first \
         probe; a backlog of {} connects; probes that cost {} of one of {} cores. A killed host refuses at once. A frozen one \
         says nothing, and stays so.\n\n\
         **Left out**: TLS, DNS, name servers and providers of credentials; what the applications' own statements cost, and \
         that they, the probes and the logins share the same cores; the clients' own processor time; load balancers, NAT and \
         their tables; reads on standbys (their sub-pools have only what `reader_min_size` keeps); sources of hosts; \
         transactions that are repeated after a checkout that gave up; an old primary that comes back.",
        pool_timeout.unwrap_or_default(),
        time(model.round_trip),
        time(model.jitter),
        grouped(model.connects_per_second.into()),
        LOGIN_TURNS,
        MONITOR_TURNS,
        grouped(model.backlog as u64),
        time(model.probe_cost),
        model.cores,
    )?;
    Ok(())
}

fn fault(scenario: &Scenario) -> &'static str {
    match scenario.fault {
        Some(Fault::Kill) => "kill",
        Some(Fault::Freeze) => "freeze",
        None => "none",
    }
}

fn capped(scenario: &Scenario) -> String {
    match scenario.is_capped {
        true => scenario.cap().to_string(),
        false => "none".to_owned(),
    }
}

/// After how long that share of the clients had come.
fn seen(scenario: &Scenario, tally: &Tally, all: &[Time], share: f64) -> String {
    came(tally.after_promotion(all, share, scenario.clients.into()))
}

fn came(after: Option<Duration>) -> String {
    after.map_or_else(|| "never".to_owned(), time)
}

fn of(part: u64, all: u64) -> String {
    match part {
        0 => "0".to_owned(),
        part => format!("{} of {}", grouped(part), grouped(all)),
    }
}

fn time(time: Duration) -> String {
    match time {
        time if time < Duration::from_millis(1) => format!("{} µs", time.as_micros()),
        time if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        time if time.subsec_millis() == 0 => format!("{} s", time.as_secs()),
        time => format!("{:.1} s", time.as_secs_f64()),
    }
}

fn rate(rate: f64) -> String {
    match rate {
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => grouped(rate.round() as u64),
    }
}

/// With a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
