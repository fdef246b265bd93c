use std::time::{Duration, Instant};

use runtime_client::fake::{FakeConfig, Nobody};
use runtime_client::{Address, Client, Config, ConnectError, ElectionId, RequestError, Standing};

use crate::common::{client, config, in_time, primary, target, until};

#[tokio::test]
async fn asks_what_the_target_speaks() {
    let target = target(FakeConfig { api_version: "1.4.1".into(), ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    assert_eq!(client.api_version().await.as_deref(), Ok("1.4.1"));
}

#[tokio::test]
async fn bad_addresses_are_errors_at_once() {
    let bad = Client::start(Config::new(Address::tcp("nowhere"), 1));
    assert!(matches!(bad, Err(ConnectError::Address(_))));
}

#[tokio::test]
async fn comes_back_after_each_cut() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    for _ in 0..5 {
        let mut changes = client.changes();
        target.disconnect();
        // Disconnected may be over before it is seen, primary may not.
        in_time(changes.next()).await.expect("the client is there");
        in_time(client.wait_for(Standing::is_primary)).await;
    }
    assert!(client.stats().connections >= 6, "{:?}", client.stats());
    assert!(!client.last_failure().is_empty());
}

#[tokio::test]
async fn waits_longer_and_longer_for_a_target_that_is_away() {
    let nobody = Nobody::new().expect("a free port on loopback");
    let start = Instant::now();
    let address = Address::tcp(nobody.address().expect("it is bound"));
    let (client, _events) = Client::start(Config::new(address, 1)).expect("a good config");
    until(|| client.stats().attempts >= 5).await;
    // 50, 100, 200, 400 ms, each up to a quarter shorter.
    assert!(start.elapsed() >= Duration::from_millis(560), "{:?}", start.elapsed());
    assert_eq!(client.standing(), Standing::Disconnected);
    assert_eq!(client.api_version().await, Err(RequestError::NotConnected));
    assert!(client.last_failure().contains("refused"), "{}", client.last_failure());
}

#[tokio::test]
async fn an_unknown_device_is_told_and_tried_again() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = Client::start(Config { device_id: 9, ..config(&target, 1) }).expect("a good config");
    until(|| client.last_failure().contains("no device 9")).await;
    until(|| client.stats().attempts > 2).await;
    assert!(!client.standing().is_primary());
}

#[tokio::test]
async fn the_last_handle_ends_the_connection() {
    let target = target(FakeConfig::default()).await;
    let (first, mut events) = primary(&target).await;
    let second = first.clone();
    drop(first);
    assert_eq!(second.standing(), Standing::Primary);
    let (backup, _events) = client(&target, 0);
    let other = Standing::Backup { other: true, highest: Some(ElectionId(1)) };
    in_time(backup.wait_for(|standing| standing == other)).await;
    drop(second);
    assert_eq!(in_time(events.next()).await, None);
    // The target saw the stream end.
    let none = Standing::Backup { other: false, highest: Some(ElectionId(1)) };
    in_time(backup.wait_for(|standing| standing == none)).await;
}
