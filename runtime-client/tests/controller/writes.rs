use std::time::{Duration, Instant};

use runtime_client::fake::{CutAt, FakeConfig, sample_p4info};
use runtime_client::write::{
    Action, Entity, Entry, Kind, Match, MatchValue, Outcome, Param, Settled, Update, WriteConfig, Writer,
};
use runtime_client::{Code, Standing, SubmitError};

use crate::common::{FLOW, FORWARD, Flow, NEXT, ROUTE, flows, in_time, primary, settle_all, target, write};

#[tokio::test]
async fn thousands_of_updates_arrive_in_full_batches() {
    let target = target(FakeConfig { p4info: Some(sample_p4info(10_000)), ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig { batch: 100, ..WriteConfig::default() });
    (0..5_000).for_each(|key| Flow::new(key, key + 1).insert(&mut writer));
    assert_eq!(target.stats().writes, 0, "nothing is sent before settle");
    let settled = settle_all(&mut writer).await;
    assert!(settled.iter().all(|end| end.outcome == Outcome::Applied && end.index == 0 && end.of == 1));
    let mut keys: Vec<_> = settled.iter().map(|end| end.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..5_000).collect::<Vec<_>>());
    assert_eq!(flows(&target.entries(FLOW)), (0..5_000).map(|key| (key, key + 1)).collect::<Vec<_>>());
    assert_eq!((target.stats().writes, writer.stats().requests), (50, 50));
}

#[tokio::test]
async fn a_partly_failed_batch_tells_of_each_update() {
    let target = target(FakeConfig { p4info: Some(sample_p4info(3)), ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig::default());
    Flow::new(1, 1).insert(&mut writer);
    settle_all(&mut writer).await;

    // Keys of their own, so that all go in one request: twice, missing, good, good, too many.
    let submit = |writer: &mut Writer, key, flow: Flow, kind| {
        flow.with(|entry| writer.submit(key, &[Update { kind, entity: Entity::Entry(entry) }])).expect("room");
    };
    submit(&mut writer, 101, Flow::new(1, 9), Kind::Insert);
    submit(&mut writer, 102, Flow::new(8, 9), Kind::Modify);
    submit(&mut writer, 103, Flow::new(2, 2), Kind::Insert);
    submit(&mut writer, 104, Flow::new(3, 3), Kind::Insert);
    submit(&mut writer, 105, Flow::new(4, 4), Kind::Insert);
    submit(&mut writer, 106, Flow::new(9, 9), Kind::Delete);
    let settled = settle_all(&mut writer).await;
    let codes: Vec<_> = settled.iter().map(|end| (end.key, end.outcome.refused_with())).collect();
    assert_eq!(
        codes,
        [
            (101, Some(Code::AlreadyExists)),
            (102, Some(Code::NotFound)),
            (103, None),
            (104, None),
            (105, Some(Code::ResourceExhausted)),
            (106, Some(Code::NotFound)),
        ]
    );
    assert_eq!(flows(&target.entries(FLOW)), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!((writer.stats().applied, writer.stats().refused, writer.stats().requests), (3, 4, 2));
}

/// The answer is in HTTP/2 trailers, which clients by default take up to 16 KiB of.
#[tokio::test]
async fn the_largest_batch_may_fail_as_a_whole() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig { batch: 4096, batch_bytes: 2 << 20, ..WriteConfig::default() });
    (0..4096).for_each(|key| Flow::new(key, 1).delete(&mut writer));
    let settled = settle_all(&mut writer).await;
    assert_eq!(settled.len(), 4096);
    assert!(settled.iter().all(|end| end.outcome.refused_with() == Some(Code::NotFound)), "{:?}", settled[0]);
    assert_eq!(target.stats().writes, 1);
}

#[tokio::test]
async fn operations_of_one_key_keep_their_order() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    // Batches of one in eight requests at once would get out of order soon without it.
    let mut writer = client.writer(WriteConfig { batch: 1, in_flight: 8, ..WriteConfig::default() });
    for round in 0..50 {
        for key in 0..4 {
            let flow = Flow::new(key, round);
            flow.insert(&mut writer);
            flow.modify(&mut writer);
            flow.delete(&mut writer);
        }
    }
    let settled = settle_all(&mut writer).await;
    assert_eq!(settled.len(), 600);
    assert!(settled.iter().all(|end| end.outcome == Outcome::Applied), "{:?}", writer.stats());
    assert_eq!(target.entries(FLOW), []);
    assert_eq!(writer.stats().waited, 600 - 4);
}

#[tokio::test]
async fn updates_of_one_operation_go_together() {
    let target = target(FakeConfig { p4info: Some(sample_p4info(1)), ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    // Room for one operation and a half.
    let mut writer = client.writer(WriteConfig { batch: 3, ..WriteConfig::default() });
    for session in 0..4 {
        let [one, other] = [0, 1].map(|direction| Flow::new(session * 2 + direction, 1));
        one.with(|one| {
            other.with(|other| writer.submit(session.into(), &[Update::insert(one), Update::insert(other)]))
        })
        .expect("room");
    }
    let settled = settle_all(&mut writer).await;
    assert_eq!(target.stats().writes, 4);
    for (place, end) in settled.iter().enumerate() {
        assert_eq!((usize::from(end.index), end.of), (place % 2, 2));
        assert_eq!(end.key, settled[place - place % 2].key, "they are settled next to each other");
    }
    assert_eq!(settled.iter().filter(|end| end.outcome == Outcome::Applied).count(), 1);
}

#[tokio::test]
async fn a_writer_takes_so_much_and_no_more() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig { batch: 2, pending: 3, ..WriteConfig::default() });
    let submit = |writer: &mut Writer, key: u32, count: usize| {
        Flow::new(key, 1).with(|entry| writer.submit(key.into(), &vec![Update::insert(entry); count]))
    };
    assert_eq!(submit(&mut writer, 1, 0), Err(SubmitError::Size { updates: 0, most: 2 }));
    assert_eq!(submit(&mut writer, 1, 3), Err(SubmitError::Size { updates: 3, most: 2 }));
    assert_eq!(submit(&mut writer, 1, 2), Ok(()));
    assert_eq!(submit(&mut writer, 2, 2), Err(SubmitError::Full));
    // What waits behind its key counts as well.
    assert_eq!(submit(&mut writer, 1, 1), Ok(()));
    assert_eq!((writer.room(), submit(&mut writer, 3, 1)), (0, Err(SubmitError::Full)));
    assert_eq!(settle_all(&mut writer).await.len(), 3);
    assert_eq!((writer.room(), submit(&mut writer, 3, 1)), (3, Ok(())));
}

#[tokio::test]
async fn what_is_not_full_goes_out_by_its_deadline() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.delay = Duration::from_secs(3600));
    let delay = Duration::from_millis(30);
    let config = WriteConfig { delay, timeout: Duration::from_secs(3600), ..WriteConfig::default() };
    let mut writer = client.writer(config);
    let mut settled = Vec::new();
    // With nothing under way there is no wait.
    Flow::new(1, 1).insert(&mut writer);
    in_time(async {
        while target.stats().writes == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(5), writer.settle(&mut settled)).await;
        }
    })
    .await;
    target.calm();
    // The first is not answered for an hour; the other two do not wait for it.
    let begin = Instant::now();
    Flow::new(2, 1).insert(&mut writer);
    Flow::new(3, 1).insert(&mut writer);
    in_time(async {
        while settled.len() < 2 {
            writer.settle(&mut settled).await;
        }
    })
    .await;
    assert!(begin.elapsed() >= delay, "{:?}", begin.elapsed());
    assert_eq!(settled.iter().map(|end| end.key).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((writer.pending(), target.stats().writes), (1, 2));
}

#[tokio::test]
async fn a_cut_connection_leaves_updates_unknown_wherever_it_was_cut() {
    for (cut_at, there) in [(CutAt::Before, 0), (CutAt::Middle, 5), (CutAt::After, 10)] {
        let target = target(FakeConfig::default()).await;
        let (client, _events) = primary(&target).await;
        target.chaos(|chaos| (chaos.cut, chaos.cut_at) = (1.0, cut_at));
        let mut writer = client.writer(WriteConfig::default());
        (0..10).for_each(|key| Flow::new(key, 1).insert(&mut writer));
        let settled = settle_all(&mut writer).await;
        assert!(settled.iter().all(|end| matches!(end.outcome, Outcome::Unknown(_))), "{settled:?}");
        assert_eq!(target.entries(FLOW).len(), there);
        target.calm();
        // The writer outlives the connection.
        in_time(client.wait_for(|standing| !standing.is_primary())).await;
        in_time(client.wait_for(Standing::is_primary)).await;
        Flow::new(100, 1).insert(&mut writer);
        assert_eq!(settle_all(&mut writer).await[0].outcome, Outcome::Applied);
    }
}

#[tokio::test]
async fn no_answer_in_time_is_unknown() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.delay = Duration::from_secs(60));
    let timeout = Duration::from_millis(50);
    let mut writer = client.writer(WriteConfig { timeout, ..WriteConfig::default() });
    Flow::new(1, 1).insert(&mut writer);
    let Outcome::Unknown(why) = settle_all(&mut writer).await.remove(0).outcome else { panic!("an answer?") };
    assert_eq!(why.code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_target_without_pipeline_takes_nothing() {
    let target = target(FakeConfig { p4info: None, ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig::default());
    Flow::new(1, 1).insert(&mut writer);
    let settled = settle_all(&mut writer).await;
    assert_eq!(settled[0].outcome.refused_with(), Some(Code::FailedPrecondition));
}

/// One entry of each kind of wrong, with the code the standard has for it.
#[tokio::test]
async fn malformed_entries_are_refused_by_kind() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    let exact = |value| [Match { field_id: 1, value: MatchValue::Exact(value) }];
    let params = [Param { id: 1, value: &[1, 2, 3, 4, 5, 6] }];
    let action = Some(Action { id: FORWARD, params: &params });
    let (good, wide, empty) = (exact(&[1, 0xff]), exact(&[2, 0]), exact(&[]));
    let next = |matches| Entry { table_id: NEXT, matches, action, ..Entry::default() };
    let twice = [good[0], good[0]];
    let other_kind = [Match { field_id: 1, value: MatchValue::Optional(&[1]) }];
    let wide_param = [Param { id: 1, value: &[1, 0, 0, 0, 0, 0, 0] }];
    let cases = [
        ("no such table", Entry { table_id: 0x0200_0099, ..next(&good) }, Code::InvalidArgument),
        ("a value of ten bits in nine", next(&wide), Code::OutOfRange),
        ("an empty byte string", next(&empty), Code::OutOfRange),
        ("no key", next(&[]), Code::InvalidArgument),
        ("a field twice", next(&twice), Code::InvalidArgument),
        ("another kind of match", next(&other_kind), Code::InvalidArgument),
        ("a priority for nothing", Entry { priority: 1, ..next(&good) }, Code::InvalidArgument),
        ("no idle timeouts here", Entry { idle_timeout_ns: 1, ..next(&good) }, Code::InvalidArgument),
        ("no action", Entry { action: None, ..next(&good) }, Code::InvalidArgument),
        (
            "another table's action",
            Entry { action: Some(Action { id: 7, params: &[] }), ..next(&good) },
            Code::InvalidArgument,
        ),
        (
            "no argument",
            Entry { action: Some(Action { id: FORWARD, params: &[] }), ..next(&good) },
            Code::InvalidArgument,
        ),
        (
            "a wide argument",
            Entry { action: Some(Action { id: FORWARD, params: &wide_param }), ..next(&good) },
            Code::OutOfRange,
        ),
    ];
    for (what, entry, code) in cases {
        assert_eq!(write(&client, Update::insert(entry)).await.refused_with(), Some(code), "{what}");
    }
    assert_eq!(write(&client, Update::insert(next(&good))).await, Outcome::Applied);
    // Leading zeros are no part of a value.
    let padded = exact(&[0, 0, 1, 0xff]);
    assert_eq!(write(&client, Update::delete(next(&padded))).await, Outcome::Applied);
}

#[tokio::test]
async fn prefixes_and_masks_are_checked_too() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    let params = [Param { id: 1, value: &[1] }];
    let route = |matches| Entry {
        table_id: ROUTE,
        matches,
        action: Some(Action { id: FORWARD, params: &params }),
        priority: 5,
        ..Entry::default()
    };
    let prefix = |value, len| Match { field_id: 1, value: MatchValue::Prefix(value, len) };
    let masked = |value, mask| Match { field_id: 2, value: MatchValue::Ternary(value, mask) };
    let good = [prefix(&[10, 1, 0, 0], 16), masked(&[0x12, 0], &[0xff, 0])];
    let refused = [
        vec![prefix(&[10, 1, 1, 0], 16)],
        vec![prefix(&[10, 0, 0, 0], 33)],
        vec![prefix(&[0], 0)],
        vec![masked(&[0x12, 1], &[0xff, 0])],
        vec![masked(&[0], &[0])],
    ];
    for matches in &refused {
        let outcome = write(&client, Update::insert(route(matches))).await;
        assert_eq!(outcome.refused_with(), Some(Code::InvalidArgument), "{matches:?}");
    }
    let unordered = Entry { priority: 0, ..route(&good) };
    assert_eq!(write(&client, Update::insert(unordered)).await.refused_with(), Some(Code::InvalidArgument));
    assert_eq!(write(&client, Update::insert(route(&good))).await, Outcome::Applied);
    // The same key with another priority is another entry; "any" is a key too.
    assert_eq!(write(&client, Update::insert(Entry { priority: 6, ..route(&good) })).await, Outcome::Applied);
    assert_eq!(write(&client, Update::insert(route(&[]))).await, Outcome::Applied);
    assert_eq!(target.entries(ROUTE).len(), 3);
}

#[tokio::test]
async fn a_share_of_refusals_is_met_update_by_update() {
    let target = target(FakeConfig { p4info: Some(sample_p4info(4000)), ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| (chaos.refuse, chaos.refuse_with) = (0.25, Code::Aborted));
    let mut writer = client.writer(WriteConfig::default());
    (0..4000).for_each(|key| Flow::new(key, key).insert(&mut writer));
    let settled = settle_all(&mut writer).await;
    let mut there: Vec<_> = settled
        .iter()
        .filter(|end| end.outcome == Outcome::Applied)
        .map(|end| (end.key as u32, end.key as u32))
        .collect();
    there.sort_unstable();
    assert_eq!(there, flows(&target.entries(FLOW)));
    let refused = settled.iter().filter(|end| end.outcome.refused_with() == Some(Code::Aborted)).count();
    assert_eq!(refused + there.len(), 4000);
    assert!((850..1150).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_full_table_can_be_made_smaller_than_p4info_says() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.capacity = Some(2));
    let mut writer = client.writer(WriteConfig::default());
    (0..5).for_each(|key| Flow::new(key, 1).insert(&mut writer));
    let full = |end: &Settled| end.outcome.refused_with() == Some(Code::ResourceExhausted);
    assert_eq!(settle_all(&mut writer).await.iter().filter(|end| full(end)).count(), 3);
    // What is there can still change and go.
    Flow::new(0, 5).modify(&mut writer);
    Flow::new(1, 5).delete(&mut writer);
    assert!(settle_all(&mut writer).await.iter().all(|end| end.outcome == Outcome::Applied));
    assert_eq!(flows(&target.entries(FLOW)), [(0, 5)]);
}
