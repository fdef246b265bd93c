use std::time::Duration;

use runtime_client::fake::{FakeConfig, FakeTarget, sample_p4info};
use runtime_client::proto::p4::v1::{CounterData, TableEntry, table_entry};
use runtime_client::write::{Entry, Outcome, WriteConfig};
use runtime_client::{Client, Code, Events, Lookup, Query, RequestError, Standing};

use crate::common::{FLOW, Flow, NEXT, flows, in_time, primary, settle_all, target};

/// A target with so many flows, and its primary.
async fn filled(count: u32) -> (FakeTarget, Client, Events) {
    let p4info = Some(sample_p4info(count as usize));
    let target = target(FakeConfig { p4info, ..FakeConfig::default() }).await;
    let (client, events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig { pending: count as usize, ..WriteConfig::default() });
    (0..count).for_each(|key| Flow::new(key, key + 7).insert(&mut writer));
    assert!(settle_all(&mut writer).await.iter().all(|end| end.outcome == Outcome::Applied));
    (target, client, events)
}

fn refused(result: Result<Vec<TableEntry>, RequestError>) -> Code {
    match result {
        Err(RequestError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

async fn read(client: &Client, query: Query) -> Result<Vec<TableEntry>, RequestError> {
    in_time(client.read(query).await?.all()).await
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let (_target, client, _events) = filled(1000).await;
    let all = read(&client, Query::table(FLOW)).await.unwrap();
    assert_eq!(flows(&all), (0..1000).map(|key| (key, key + 7)).collect::<Vec<_>>());
    // Nothing that was not asked for, and byte for byte what was written.
    let one = Flow::new(44, 51).message();
    assert_eq!(read(&client, Query::entry(&one)).await.unwrap(), std::slice::from_ref(&one));
    assert!(all.contains(&one));
    assert_eq!(read(&client, Query::table(0)).await.unwrap().len(), 1000);
    assert_eq!(read(&client, Query::table(NEXT)).await.unwrap(), []);
    assert_eq!(read(&client, Query::entry(&Flow::new(5000, 1).message())).await.unwrap(), []);
}

#[tokio::test]
async fn counters_and_times_come_when_asked_for() {
    let (target, client, _events) = filled(3).await;
    let hit = Flow::new(1, 8).message();
    target.advance(Duration::from_secs(4));
    assert!(target.hit(&hit, 3, 1800));
    assert!(!target.hit(&Flow::new(9, 9).message(), 1, 1));
    target.advance(Duration::from_secs(2));

    let entry = read(&client, Query::entry(&hit).with_counters().with_last_hit()).await.unwrap().remove(0);
    assert_eq!(entry.counter_data, Some(CounterData { byte_count: 1800, packet_count: 3 }));
    assert_eq!(entry.time_since_last_hit, Some(table_entry::IdleTimeout { elapsed_ns: 2_000_000_000 }));

    let counters = in_time(client.read_counters(Query::table(FLOW)).await.unwrap().all()).await.unwrap();
    let packets: Vec<_> = counters.iter().map(|of| of.data.unwrap().packet_count).collect();
    assert_eq!((packets.len(), packets.iter().sum::<i64>()), (3, 3));
    let one = in_time(client.read_counters(Query::entry(&hit)).await.unwrap().all()).await.unwrap();
    assert_eq!(one[0].data, Some(CounterData { byte_count: 1800, packet_count: 3 }));
    assert_eq!(one[0].table_entry.as_ref().unwrap().r#match, hit.r#match);
}

#[tokio::test]
async fn questions_without_sense_are_refused() {
    let (_target, client, _events) = filled(1).await;
    assert_eq!(refused(read(&client, Query::table(0x0200_0077)).await), Code::InvalidArgument);
    assert_eq!(refused(read(&client, Query::table(NEXT).with_counters()).await), Code::InvalidArgument);
    assert_eq!(refused(read(&client, Query::table(NEXT).with_last_hit()).await), Code::InvalidArgument);
}

/// The target may run ahead by what the connection's windows hold, not by the whole table.
#[tokio::test]
async fn a_reader_that_does_not_take_holds_the_target_back() {
    let (target, client, _events) = filled(60_000).await;
    let mut reading = client.read(Query::table(FLOW)).await.unwrap();
    let first = in_time(reading.next()).await.unwrap().expect("there is more");
    assert!(first.len() < 1000);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Other requests go on beside it.
    let mut writer = client.writer(WriteConfig::default());
    Flow::new(7, 1).modify(&mut writer);
    assert_eq!(settle_all(&mut writer).await[0].outcome, Outcome::Applied);
    // 8 MB of entries, 1 MiB of window: the read is far from over, so cutting the connection is seen as an error.
    target.disconnect();
    let mut taken = first.len();
    let error = loop {
        match in_time(reading.next()).await {
            Ok(Some(more)) => taken += more.len(),
            Ok(None) => panic!("all {taken} entries had been sent"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RequestError::Unanswered(_)) && taken < 30_000, "{error} after {taken}");
}

#[tokio::test]
async fn a_read_that_is_cut_short_is_no_short_answer() {
    let (target, client, _events) = filled(1000).await;
    target.chaos(|chaos| chaos.cut_read = 1.0);
    let cut = read(&client, Query::table(FLOW)).await;
    assert!(matches!(cut, Err(RequestError::Unanswered(_))), "{cut:?}");
    target.calm();
    in_time(client.wait_for(|standing| !standing.is_connected())).await;
    in_time(client.wait_for(Standing::is_primary)).await;
    assert_eq!(read(&client, Query::table(FLOW)).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn reads_need_a_connection_and_a_pipeline() {
    let target = target(FakeConfig { p4info: None, ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    assert_eq!(refused(read(&client, Query::table(FLOW)).await), Code::FailedPrecondition);
    drop(target);
    in_time(client.wait_for(|standing| !standing.is_connected())).await;
    assert_eq!(read(&client, Query::table(FLOW)).await, Err(RequestError::NotConnected));
}

#[tokio::test]
async fn entries_are_looked_up_by_their_keys() {
    let (target, client, _events) = filled(1000).await;
    let hit = Flow::new(300, 307).message();
    target.hit(&hit, 3, 1800);
    target.advance(Duration::from_secs(2));
    for (counters, last_hit) in [(true, true), (true, false), (false, false)] {
        let mut keys = Lookup::default();
        // One that is not there among those that are.
        for key in (0..500).chain([5000]) {
            Flow::new(key, 0).with(|entry| keys.entry(&entry, counters, last_hit));
        }
        let mut pages = in_time(client.look_up(keys)).await.unwrap();
        let mut found = Vec::new();
        while let Some(page) = in_time(pages.next()).await.unwrap() {
            for entry in page.entries() {
                let entry = entry.unwrap();
                assert_eq!(entry.table_id, FLOW);
                let key = entry.exact_fields().map(|(_, value)| value.to_vec()).next().unwrap();
                found.push((key, entry.counter.map(|counter| counter.packet_count), entry.quiet_ns));
            }
        }
        let key = |key: u32| runtime_client::write::canonical(&key.to_be_bytes()).to_vec();
        let expected = (0..500).map(|n| {
            let packets = if n == 300 { 3 } else { 0 };
            (key(n), counters.then_some(packets), last_hit.then_some(2_000_000_000))
        });
        found.sort_unstable();
        let mut expected: Vec<_> = expected.collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    // Refused as any other read is.
    let mut keys = Lookup::default();
    let entry = Entry { table_id: 0x0200_0077, ..Entry::default() };
    keys.entry(&entry, true, false);
    assert!(matches!(in_time(client.look_up(keys)).await.err(), Some(RequestError::Refused(_))));
}
