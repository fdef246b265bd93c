//! What only shows with a switch in front of the slow path: the P4 program and real kernel TCP. On BMv2, with
//! `CAROM_TARGET=bmv2-ids` on BMv2 by ids, or with `CAROM_TARGET=softnic` on softnic: in the process of the slow path, and
//! where a test unplugs the switch or listens on its cable, in one of its own.

mod accounts;
mod changes;
mod churn;
mod errors;
mod flood;
mod outage;
mod plumbing;
mod room;
mod traffic;

use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::config::Config;
use bmv2_tests::control::{Control, Flow};
use bmv2_tests::lab::{Lab, all_services};
use bmv2_tests::target::Target;
use bmv2_tests::topology::{Dual, Load};

/// The target of all tests here.
fn target() -> Target {
    match Target::from_env().expect("a target of the suite in CAROM_TARGET") {
        Target::Softnic => Target::Softnic,
        Target::Bmv2Ids => Target::Bmv2Ids,
        Target::None | Target::Bmv2 => Target::Bmv2,
    }
}

/// How long a session may take to be offloaded, or its entries to go.
const SOON: Duration = Duration::from_secs(30);

/// True, after one visible line, when this machine cannot run them.
fn skipped() -> bool {
    target().skips()
}

/// All services of both families, every session offloaded as soon as it may be, and ends of sessions that do not take long.
fn lab(configure: impl FnOnce(Config, Dual) -> Config) -> Lab {
    Lab::on(target(), Load::Alone, |config, vip| configure(brisk(all_services(config, vip)), vip)).unwrap()
}

/// The same with a switch of its own.
fn lab_with_switch(configure: impl FnOnce(Config, Dual) -> Config) -> Lab {
    Lab::with_switch(target(), Load::Alone, |config, vip| configure(brisk(all_services(config, vip)), vip)).unwrap()
}

/// One real server, so that its capture sees everything.
fn one_server(mut config: Config, _: Dual) -> Config {
    config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1]));
    config
}

/// [`lab`] with one real server.
fn lab_with_one_server() -> Lab {
    lab(one_server)
}

/// Offload without thresholds, and short waits.
fn brisk(mut config: Config) -> Config {
    if let Some(switch) = &mut config.switch {
        switch.policy = "\"established\"".to_owned();
        switch.retry = "300ms".to_owned();
        switch.sweep = "2s".to_owned();
    }
    // The switch still forwards the ACK of the last FIN, and the slow path does not hear of it.
    config.more += "[snat]\nquarantine = \"1s\"\n\n[timeouts]\nlast_ack = \"1s\"\ntime_wait = \"1s\"\nclose = \"1s\"\n";
    config
}

/// Waits until the switch has exactly so many sessions, and returns their entries. A session is offloaded when both of its
/// entries are there.
fn offloaded(lab: &Lab, sessions: usize) -> Vec<Flow> {
    offloaded_by(lab, sessions, || ())
}

/// The same for sessions that have to talk for it: only packets have a worker ask.
fn offloaded_by(lab: &Lab, sessions: usize, mut talk: impl FnMut()) -> Vec<Flow> {
    let control = lab.control().unwrap();
    let mut flows = Vec::new();
    let there = wait(SOON, || {
        talk();
        flows = control.flows().unwrap();
        flows.len() == 2 * sessions && told_offloaded(lab) == sessions
    });
    assert!(
        there,
        "{} entries for {sessions} sessions; offloaded by Carom's account: {}",
        flows.len(),
        told_offloaded(lab)
    );
    flows
}

/// Whether the entries of IPv4 sessions count both directions as one, in the outbound entry.
fn counts_both_as_one(lab: &Lab, v6: bool) -> bool {
    lab.topology.target.is_by_ids() && !v6
}

/// Sessions that Carom says are offloaded.
fn told_offloaded(lab: &Lab) -> usize {
    lab.balancer.sessions(&["--offload", "offloaded"]).unwrap().len()
}

/// Nothing is left: no flow entry, no session, no local port in use.
fn assert_empty(lab: &Lab) {
    let control: Control<'_> = lab.control().unwrap();
    let in_use = || -> u64 {
        let ports = lab.balancer.rows("ports").unwrap();
        ports.iter().map(|row| row["in_use"].as_u64().unwrap()).sum()
    };
    let empty =
        || control.flows().unwrap().is_empty() && lab.balancer.sessions(&[]).unwrap().is_empty() && in_use() == 0;
    let left = || (control.flows(), lab.balancer.sessions(&[]), lab.balancer.rows("ports"));
    assert!(wait(SOON, empty), "left: {:?}", left());
}
