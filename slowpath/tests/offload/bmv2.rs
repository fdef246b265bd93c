//! The manager on a real `simple_switch_grpc`, without ports and without rights.

use std::time::Duration;

use carom::offload::{Form, Program, PuntRate, Settings, Tuning};
use carom_p4::simple_switch::SimpleSwitch;
use carom_p4::{Key, ServiceV4Key};
use fullnat::offload::{Counted, Threshold, Verdict};
use runtime_client::proto::p4::v1::entity::Entity as Kind;
use runtime_client::proto::p4::v1::{DirectMeterEntry, Entity, TableEntry};
use runtime_client::{Address, Client, Config, Standing};

use crate::rig::{FORMS, Rig, place, settings, until};

/// One test: a switch takes a while to come up.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_switch() {
    for form in FORMS {
        let Some(mut switch) = SimpleSwitch::or_skip("the offload manager on BMv2") else { return };
        switch.power_on([]);
        installs_and_removes(&switch, form).await;
        an_earlier_life(&switch, form).await;
        a_small_table(&switch, form).await;
        a_restart(&mut switch, form).await;
    }
}

fn address(switch: &SimpleSwitch) -> Address {
    Address::tcp(switch.address().to_string())
}

async fn installs_and_removes(switch: &SimpleSwitch, form: Form) {
    let punt_rate = Some(PuntRate { rate: 1000, burst: 100 });
    let mut rig = Rig::ready(Settings { punt_rate, ..settings(address(switch), form) }).await;
    (0..1000).for_each(|n| rig.install(0, n));
    for _ in 0..1000 {
        assert!(matches!(rig.verdict(0).await, Verdict::Installed(_)));
    }
    // Nothing hits the entries; this one is asked about before its time, and nobody heard of a packet.
    rig.check(0, 7);
    assert_eq!(rig.verdict(0).await, Verdict::Idle(place(7), Counted::default()));
    (0..500).for_each(|n| rig.remove(0, n));
    for _ in 0..500 {
        assert!(matches!(rig.verdict(0).await, Verdict::Removed(_, Counted { packets: [0, 0], .. })));
    }
    let status = rig.status().await;
    assert_eq!((status.sessions.offloaded, status.failures.len()), (500, 0));
    assert_eq!(status.last_error, None);
    assert_eq!((status.punts.len(), status.drops.len()), (8, 11), "{status:?}");
    assert_eq!(status.totals.sweeps, 1);
    // Another limit of punts, and none: meters are written again.
    for punt_rate in [Some(PuntRate { rate: 50, burst: 7 }), None] {
        let Settings { policy, retry, sweep, .. } = settings(address(switch), form);
        rig.handle.tune(Tuning { policy, retry, sweep, punt_rate }).await.expect("it runs");
        let rate = punt_rate.map_or(u32::MAX, |PuntRate { rate, .. }| rate);
        let start = std::time::Instant::now();
        // BMv2 keeps rates as fractions.
        while meter_of_the_service(switch).await.is_none_or(|cir| cir.abs_diff(rate.into()) > 1) {
            assert!(start.elapsed() < Duration::from_secs(20), "no meter of {rate} packets a second");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(rig.status().await.last_error, None);
    // The target's own notice. Its timeout is short, and nobody asks.
    rig.install_for(1, 5000, 1000);
    assert_eq!(rig.verdict(1).await, Verdict::Installed(place(5000)));
    assert_eq!(rig.verdict(1).await, Verdict::Idle(place(5000), Counted::default()));
    rig.handle.stop().await;
}

/// Packets a second that the switch lets through for the only service.
async fn meter_of_the_service(switch: &SimpleSwitch) -> Option<i64> {
    let config = Config { election_id: None, ..Config::new(address(switch), 1) };
    let (client, _events) = Client::start(config).expect("a good config");
    client.wait_for(Standing::is_connected).await;
    let table_entry = Some(TableEntry { table_id: ServiceV4Key::TABLE.id, ..TableEntry::default() });
    let meters = DirectMeterEntry { table_entry, ..DirectMeterEntry::default() };
    let pattern = Entity { entity: Some(Kind::DirectMeterEntry(meters)) };
    let found = client.read_entities::<Entity>(vec![pattern]).await.ok()?.all().await.ok()?;
    found.into_iter().find_map(|entity| match entity.entity {
        Some(Kind::DirectMeterEntry(meter)) => Some(meter.config?.cir),
        _ => None,
    })
}

/// Another manager finds the pipeline and 501 sessions that are nobody's.
async fn an_earlier_life(switch: &SimpleSwitch, form: Form) {
    let mut rig = Rig::ready(settings(address(switch), form)).await;
    let status = rig.status().await;
    assert_eq!((status.pipeline.as_deref(), status.totals.orphans), (Some("kept"), 1002));
    rig.install(0, 7);
    assert_eq!(rig.verdict(0).await, Verdict::Installed(place(7)));
    rig.handle.stop().await;
}

/// BMv2 says UNKNOWN when a table is full.
async fn a_small_table(switch: &SimpleSwitch, form: Form) {
    let program = match form {
        Form::Plain => Program::bmv2_with_room_for(64),
        Form::Ids => Program::bmv2_ids_with_room_for(32),
    };
    let mut rig = Rig::ready(Settings { program, ..settings(address(switch), form) }).await;
    (0..200).for_each(|n| rig.install(0, n));
    let mut installed = Vec::new();
    for _ in 0..200 {
        match rig.verdict(0).await {
            Verdict::Installed(of) => installed.push(of),
            Verdict::Refused(..) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=32).contains(&installed.len()), "{}", installed.len());
    until(|| rig.gate.threshold::<std::net::Ipv4Addr>() == Threshold::Never).await;
    (0..200).filter(|n| installed.contains(&place(*n))).for_each(|n| rig.remove(0, n));
    for _ in 0..installed.len() {
        assert!(matches!(rig.verdict(0).await, Verdict::Removed(..)));
    }
    rig.until_open().await;
    rig.install(0, 500);
    assert_eq!(rig.verdict(0).await, Verdict::Installed(place(500)));
    rig.handle.stop().await;
}

/// The switch goes and another comes at its address.
async fn a_restart(switch: &mut SimpleSwitch, form: Form) {
    let mut rig = Rig::ready(settings(address(switch), form)).await;
    rig.install(0, 7);
    assert_eq!(rig.verdict(0).await, Verdict::Installed(place(7)));
    switch.power_off();
    until(|| rig.gate.threshold::<std::net::Ipv4Addr>() == Threshold::Never).await;
    switch.power_on([]);
    assert_eq!(rig.verdict(0).await, Verdict::Removed(place(7), Counted::default()));
    tokio::time::timeout(Duration::from_secs(20), rig.until_open()).await.expect("the gate opens");
}
