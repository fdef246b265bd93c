use std::time::Duration;

use runtime_client::fake::FakeConfig;
use runtime_client::proto::p4::v1::{PacketIn, PacketMetadata, PacketOut};
use runtime_client::write::WriteConfig;
use runtime_client::{Client, Code, Config, Event, Events, Standing};

use crate::common::{Flow, client, config, flows, in_time, primary, settle_all, target, until};

fn packet(number: u8) -> PacketIn {
    let metadata = vec![PacketMetadata { metadata_id: 1, value: vec![number].into() }];
    PacketIn { payload: vec![number; 60].into(), metadata }
}

async fn next(events: &mut Events) -> Event {
    in_time(events.next()).await.expect("the client is there")
}

#[tokio::test]
async fn packets_go_both_ways_in_order() {
    let target = target(FakeConfig::default()).await;
    let (client, mut events) = primary(&target).await;
    (0..100).for_each(|number| target.packet_in(packet(number)));
    for number in 0..100 {
        assert_eq!(next(&mut events).await, Event::Packet(packet(number)));
    }
    assert_eq!(events.try_next(), None);
    let out = |number: u8| PacketOut { payload: vec![number; 64].into(), metadata: Vec::new() };
    for number in 0..100 {
        client.send_packet(out(number)).expect("primary, and room");
    }
    let mut sent = Vec::new();
    until(|| {
        sent.append(&mut target.packets_out());
        sent.len() == 100
    })
    .await;
    assert_eq!(sent, (0..100).map(out).collect::<Vec<_>>());
}

#[tokio::test]
async fn packets_are_for_the_primary_only() {
    let target = target(FakeConfig::default()).await;
    let (_first, mut to_primary) = primary(&target).await;
    let (second, mut to_backup) = client(&target, 0);
    in_time(second.wait_for(|standing| matches!(standing, Standing::Backup { .. }))).await;
    target.packet_in(packet(1));
    assert_eq!(next(&mut to_primary).await, Event::Packet(packet(1)));
    assert_eq!(to_backup.try_next(), None);
}

/// The target changed its mind while the packet was on its way.
#[tokio::test]
async fn a_packet_the_target_does_not_take_comes_back_as_error() {
    let target = target(FakeConfig::default()).await;
    let (_first, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.lie = Some(runtime_client::fake::Lie::AllPrimaryByOwnId));
    let (second, mut events) = client(&target, 0);
    in_time(second.wait_for(Standing::is_primary)).await;
    let out = PacketOut { payload: vec![5; 64].into(), metadata: Vec::new() };
    second.send_packet(out.clone()).expect("it believes to be primary");
    let Event::Error(error) = next(&mut events).await else { panic!("not an error") };
    assert_eq!(Code::from(error.canonical_code), Code::PermissionDenied);
    let Some(runtime_client::proto::p4::v1::stream_error::Details::PacketOut(which)) = error.details else {
        panic!("not about a packet")
    };
    assert_eq!(which.packet_out, Some(out));
    assert_eq!(target.packets_out(), []);
}

#[tokio::test]
async fn who_does_not_listen_loses_packets_but_not_arbitration() {
    let target = target(FakeConfig::default()).await;
    let small = Config { event_queue: 4, ..config(&target, 1) };
    let (client, mut events) = Client::start(small).expect("a good config");
    in_time(client.wait_for(Standing::is_primary)).await;
    (0..50).for_each(|number| target.packet_in(packet(number)));
    until(|| client.stats().lost_events == 46).await;
    // The oldest are kept.
    for number in 0..4 {
        assert_eq!(next(&mut events).await, Event::Packet(packet(number)));
    }
    (0..50).for_each(|number| target.packet_in(packet(number)));
    let (other, _events) = crate::common::client(&target, 2);
    in_time(other.wait_for(Standing::is_primary)).await;
    in_time(client.wait_for(|standing| !standing.is_primary())).await;
}

/// Keys of the entries of the next notice.
async fn idle(events: &mut Events) -> Vec<u32> {
    let Event::Idle(notice) = next(events).await else { panic!("not a notice") };
    let mut keys: Vec<_> = notice
        .table_entry
        .iter()
        .map(|entry| {
            assert_eq!(entry.idle_timeout_ns, 10_000_000_000);
            assert_eq!(entry.action, None);
            let with_action =
                runtime_client::proto::p4::v1::TableEntry { action: Flow::new(0, 0).message().action, ..entry.clone() };
            flows(&[with_action])[0].0
        })
        .collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn idle_entries_are_told_of_again_and_again_until_hit() {
    let target = target(FakeConfig::default()).await;
    let (client, mut events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig::default());
    let timed = |key| Flow { idle: Duration::from_secs(10), ..Flow::new(key, 1) };
    (0..3).for_each(|key| timed(key).insert(&mut writer));
    Flow::new(9, 1).insert(&mut writer);
    settle_all(&mut writer).await;

    target.advance(Duration::from_secs(9));
    target.hit(&timed(1).message(), 1, 60);
    target.advance(Duration::from_secs(1));
    assert_eq!(idle(&mut events).await, [0, 2]);
    target.advance(Duration::from_secs(9));
    assert_eq!(idle(&mut events).await, [1]);
    target.advance(Duration::from_secs(1));
    assert_eq!(idle(&mut events).await, [0, 2], "and again, since nothing hit them");
    (0..3).for_each(|key| timed(key).delete(&mut writer));
    settle_all(&mut writer).await;
    target.advance(Duration::from_secs(100));
    target.packet_in(packet(1));
    assert_eq!(next(&mut events).await, Event::Packet(packet(1)), "no notice before it");
}

#[tokio::test]
async fn notices_can_be_lost_and_repeated() {
    let target = target(FakeConfig::default()).await;
    let (client, mut events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig::default());
    Flow { idle: Duration::from_secs(10), ..Flow::new(5, 1) }.insert(&mut writer);
    settle_all(&mut writer).await;
    target.chaos(|chaos| chaos.lose_notices = 1.0);
    target.advance(Duration::from_secs(10));
    target.chaos(|chaos| (chaos.lose_notices, chaos.repeat_notices) = (0.0, 1.0));
    target.advance(Duration::from_secs(10));
    assert_eq!(idle(&mut events).await, [5, 5]);
    assert_eq!(events.try_next(), None);
}
