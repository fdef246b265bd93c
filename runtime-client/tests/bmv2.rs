//! The client against BMv2's own P4Runtime server, with Carom's program. No packets and no rights are needed.

use std::time::Duration;

use carom_p4::artifacts::{BMV2_JSON, BMV2_P4INFO};
use carom_p4::simple_switch::SimpleSwitch;
use carom_p4::{Action as _, FlowV4Action, FlowV4Key, Key};
use prost::Message;
use runtime_client::pipeline::{Bmv2Json, Brought, Entries, Pipeline};
use runtime_client::proto::p4::config::v1::P4Info;
use runtime_client::write::{
    Action, Entity, Entry, Kind, Match, MatchValue, Outcome, Param, Settled, Update, WriteConfig, Writer,
};
use runtime_client::{Address, Client, Code, Config, ElectionId, Event, Events, Query, Standing};

fn client(switch: &SimpleSwitch, id: u128) -> (Client, Events) {
    let address = Address::tcp(switch.address().to_string());
    Client::start(Config { election_id: Some(ElectionId(id)), ..Config::new(address, 1) }).expect("a good config")
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

fn pipeline() -> Pipeline<Bmv2Json> {
    let p4info = P4Info::decode(BMV2_P4INFO).expect("a committed artifact");
    Pipeline { p4info, device_config: Bmv2Json(BMV2_JSON.into()), cookie: 0xca40 }
}

/// A flow's update, from the program's generated bindings.
fn submit(writer: &mut Writer, number: u32, kind: Kind, idle_timeout_ns: i64) {
    let key = FlowV4Key { src: 0x0a00_0000 + number, dst: 0xc000_0201, proto: 6, sport: 4711, dport: 80 };
    let action =
        FlowV4Action::RewriteV4 { src: 0x0a09_0001, dst: 0x0a08_0001, sport: number as u16, dport: 8080, nexthop: 0 };
    let (fields, params) = (key.fields(), action.params());
    let matches: Vec<_> =
        fields.iter().map(|(id, value)| Match { field_id: *id, value: MatchValue::Exact(value.as_ref()) }).collect();
    let params: Vec<_> = params.iter().map(|(id, value)| Param { id: *id, value: value.as_ref() }).collect();
    let action = (kind != Kind::Delete).then(|| Action { id: action.id(), params: &params });
    let entry = Entry { table_id: FlowV4Key::TABLE.id, matches: &matches, action, idle_timeout_ns, ..Entry::default() };
    writer.submit(number.into(), &[Update { kind, entity: Entity::Entry(entry) }]).expect("room");
}

async fn settle(writer: &mut Writer) -> Vec<Settled> {
    let mut settled = Vec::new();
    while writer.pending() > 0 {
        in_time(writer.settle(&mut settled)).await;
    }
    settled
}

/// One test: a switch takes a while to come up.
#[tokio::test]
async fn a_real_switch() {
    let Some(mut switch) = SimpleSwitch::or_skip("the client on BMv2") else { return };
    switch.power_on([]);
    let (client, events) = client(&switch, 1);
    in_time(client.wait_for(Standing::is_primary)).await;
    assert!(in_time(client.api_version()).await.is_ok_and(|version| version.starts_with("1.")));

    assert_eq!(in_time(client.cookie()).await, Ok(None));
    assert_eq!(in_time(client.bring_up(&pipeline(), Entries::KeepIfPossible)).await, Ok(Brought::Committed));
    writes_and_reads(&client).await;
    assert_eq!(in_time(client.bring_up(&pipeline(), Entries::KeepIfPossible)).await, Ok(Brought::Kept));
    failures(&client).await;
    idle(&client, events).await;
    take_over(&switch, client).await;
}

async fn writes_and_reads(client: &Client) {
    let mut writer = client.writer(WriteConfig::default());
    (0..2000).for_each(|number| submit(&mut writer, number, Kind::Insert, 0));
    let settled = settle(&mut writer).await;
    assert!(settled.iter().all(|end| end.outcome == Outcome::Applied), "{:?}", writer.stats());
    let query = Query::table(FlowV4Key::TABLE.id).with_counters();
    let entries = in_time(in_time(client.read(query)).await.expect("connected").all()).await.expect("connected");
    let mut sources: Vec<u32> = entries
        .iter()
        .map(|entry| {
            assert_eq!(entry.counter_data.map(|of| of.packet_count), Some(0));
            let fields = entry.r#match.iter().map(|field| match &field.field_match_type {
                Some(runtime_client::proto::p4::v1::field_match::FieldMatchType::Exact(exact)) => {
                    (field.field_id, &exact.value[..])
                }
                other => panic!("{other:?}"),
            });
            FlowV4Key::from_fields(fields).expect("the program's own key").src
        })
        .collect();
    sources.sort_unstable();
    assert_eq!(sources, (0x0a00_0000..0x0a00_0000 + 2000).collect::<Vec<_>>());
}

/// Results per update, of a batch whose answer is far longer than HTTP/2's default for headers.
async fn failures(client: &Client) {
    let mut writer = client.writer(WriteConfig { batch: 512, ..WriteConfig::default() });
    (1900..2100).for_each(|number| submit(&mut writer, number, Kind::Insert, 0));
    (3000..3300).for_each(|number| submit(&mut writer, number, Kind::Delete, 0));
    for end in settle(&mut writer).await {
        let code = match end.key {
            1900..2000 => Some(Code::AlreadyExists),
            2000..2100 => None,
            _ => Some(Code::NotFound),
        };
        assert_eq!(end.outcome.refused_with(), code, "{end:?}");
    }
    assert_eq!(writer.stats().requests, 1);
}

async fn idle(client: &Client, mut events: Events) {
    let mut writer = client.writer(WriteConfig::default());
    submit(&mut writer, 5000, Kind::Insert, 1_000_000_000);
    assert_eq!(settle(&mut writer).await[0].outcome, Outcome::Applied);
    let Some(Event::Idle(notice)) = in_time(events.next()).await else { panic!("not a notice") };
    assert_eq!(notice.table_entry[0].idle_timeout_ns, 1_000_000_000);
    submit(&mut writer, 5000, Kind::Delete, 0);
    assert_eq!(settle(&mut writer).await[0].outcome, Outcome::Applied);
}

/// Another controller finds program and entries as they are.
async fn take_over(switch: &SimpleSwitch, first: Client) {
    let (second, _events) = client(switch, 2);
    in_time(second.wait_for(Standing::is_primary)).await;
    let backup = Standing::Backup { other: true, highest: Some(ElectionId(2)) };
    assert_eq!(in_time(first.wait_for(|standing| standing == backup)).await, backup);
    drop(first);
    assert_eq!(in_time(second.bring_up(&pipeline(), Entries::Clear)).await, Ok(Brought::Kept));
    let query = Query::table(FlowV4Key::TABLE.id);
    let entries = in_time(in_time(second.read(query)).await.expect("connected").all()).await.expect("connected");
    assert_eq!(entries.len(), 2100);

    let other = Pipeline { cookie: 0xca41, ..pipeline() };
    assert_eq!(in_time(second.bring_up(&other, Entries::Clear)).await, Ok(Brought::Committed));
    assert_eq!(in_time(second.cookie()).await, Ok(Some(0xca41)));
    let query = Query::table(FlowV4Key::TABLE.id);
    assert_eq!(in_time(in_time(second.read(query)).await.expect("connected").all()).await.expect("connected"), []);
}
