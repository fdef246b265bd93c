//! Packets of controllers, and what a role may ask for.

use std::time::Duration;

use carom_p4::{Action as _, InjectAction, Key, LocalV4Action, PortAction, SlowpathAction};
use carom_p4::{InjectKey, LocalV4Key, PortKey, SlowpathKey};
use p4runtime_proto::p4::config::v1::controller_packet_metadata::Metadata;
use p4runtime_proto::p4::config::v1::{ControllerPacketMetadata, P4Info, Preamble};
use p4runtime_proto::p4::v1::stream_message_request::Update as Ours;
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::{self as p4rt, PacketIn, PacketMetadata, PacketOut, TableEntry};
use runtime_client::pipeline::{Brought, Entries};
use runtime_client::{Client, Event, Events, Standing};
use softnic::server;
use tonic::Code;

use crate::rig::Cable;
use crate::server::{Rig, in_time, program, write};

/// The port of controllers in the rig.
const PORT: u16 = 5;
/// An ARP request for 10.0.0.1, as a host sends it.
const ARP: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9,
    0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
];

fn entry<K: Key>(key: K, action: K::Action) -> (Type, TableEntry) {
    let exact = |&(field_id, value): &(u32, carom_p4::Bytes)| p4rt::FieldMatch {
        field_id,
        field_match_type: Some(p4rt::field_match::FieldMatchType::Exact(p4rt::field_match::Exact {
            value: value.as_ref().to_vec().into(),
        })),
    };
    let param = |&(param_id, value): &(u32, carom_p4::Bytes)| p4rt::action::Param {
        param_id,
        value: value.as_ref().to_vec().into(),
    };
    let call = p4rt::Action { action_id: action.id(), params: action.params().iter().map(param).collect() };
    let entry = TableEntry {
        table_id: K::TABLE.id,
        r#match: key.fields().iter().map(exact).collect(),
        action: Some(p4rt::TableAction { r#type: Some(p4rt::table_action::Type::Action(call)) }),
        ..TableEntry::default()
    };
    (Type::Insert, entry)
}

/// A primary whose port is where punts go, and which may inject; by P4Info with these headers of controllers.
async fn primary(rig: &Rig, headers: Vec<ControllerPacketMetadata>) -> (Client, Events) {
    let (client, events) = rig.client(1);
    client.wait_for(Standing::is_primary).await;
    let mut program = program(0xca40);
    program.p4info = P4Info { controller_packet_metadata: headers, ..program.p4info };
    assert_eq!(client.bring_up(&program, Entries::Clear).await, Ok(Brought::Committed));
    let updates = vec![
        entry(SlowpathKey { worker: 0 }, SlowpathAction::ToPort { port: PORT.into() }),
        entry(InjectKey { port: PORT.into() }, InjectAction::Honour {}),
        entry(PortKey { vid: 2 }, PortAction::OutOf { port: 2 }),
        entry(LocalV4Key { dst: 0x0a00_0001 }, LocalV4Action::PuntAll { worker: 0 }),
    ];
    write(&client, 1, updates).await.unwrap();
    (client, events)
}

async fn next_packet(events: &mut Events) -> PacketIn {
    match events.next().await {
        Some(Event::Packet(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// The next frames that leave by a cable.
async fn next_sent(cable: &Cable) -> Vec<Vec<u8>> {
    loop {
        let sent = cable.take();
        if !sent.is_empty() {
            return sent;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The frame with the tag of a punt from port 1, or of an inject by a port.
fn tagged(tci: u16) -> Vec<u8> {
    [&ARP[..12], &[0x81, 0x00], &tci.to_be_bytes(), &ARP[12..]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_gets_what_is_punted_and_injects() {
    let rig = Rig::start(server::Config::default()).await;
    in_time(async {
        let (client, mut events) = primary(&rig, Vec::new()).await;
        rig.cables[0].put(&ARP);
        let punted = next_packet(&mut events).await;
        let tci = u16::from_be_bytes([punted.payload[14], punted.payload[15]]);
        assert_eq!((punted.payload.to_vec(), tci & 0xfff), (tagged(tci), 1), "with its tag, from port 1");
        assert_eq!(punted.metadata, []);
        // Priority 1: the tag names the port to leave by.
        client.send_packet(PacketOut { payload: tagged(0x2002).into(), metadata: Vec::new() }).unwrap();
        assert_eq!(next_sent(&rig.cables[1]).await, [ARP.to_vec()]);
    })
    .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_of_controllers_is_taken_off_and_put_in_front() {
    // As it happens, the first fields of every frame.
    let fields = [(1, "dst", 48), (2, "src", 48), (3, "ether_type", 16)];
    let fields = fields.map(|(id, name, bitwidth)| Metadata { id, name: name.into(), bitwidth, ..Metadata::default() });
    let header = |name: &str, id| ControllerPacketMetadata {
        preamble: Some(Preamble { id, name: name.into(), ..Preamble::default() }),
        metadata: fields.to_vec(),
    };
    let rig = Rig::start(server::Config::default()).await;
    in_time(async {
        let headers = vec![header("packet_in", 0x0400_0001), header("packet_out", 0x0400_0002)];
        let (client, mut events) = primary(&rig, headers).await;
        rig.cables[0].put(&ARP);
        let punted = next_packet(&mut events).await;
        let field = |metadata_id, value: &[u8]| PacketMetadata { metadata_id, value: value.to_vec().into() };
        assert_eq!(punted.metadata, [field(1, &ARP[..6]), field(2, &ARP[6..12]), field(3, &[0x81, 0x00])]);
        assert_eq!(punted.payload[2..], ARP[12..]);
        let payload = [&[0x20, 0x02], &ARP[12..]].concat();
        client.send_packet(PacketOut { payload: payload.into(), metadata: punted.metadata }).unwrap();
        assert_eq!(next_sent(&rig.cables[1]).await, [ARP.to_vec()]);
        // One that lacks its header is told so.
        client.send_packet(PacketOut { payload: ARP.to_vec().into(), metadata: Vec::new() }).unwrap();
        let Some(Event::Error(error)) = events.next().await else { panic!("no error") };
        assert_eq!(Code::from(error.canonical_code), Code::InvalidArgument);
        let Some(p4rt::stream_error::Details::PacketOut(details)) = error.details else { panic!("no packet") };
        assert_eq!(details.packet_out.unwrap().payload, ARP[..]);
    })
    .await;
    rig.end().await;
}

/// What a stream says to an arbitration with this role, and then to a packet.
async fn answers(rig: &Rig, role: p4rt::Role, id: u64) -> Result<Vec<p4rt::StreamMessageResponse>, Code> {
    let (client, _events) = rig.client(1);
    client.wait_for(Standing::is_primary).await;
    let arbitration = p4rt::MasterArbitrationUpdate {
        device_id: 1,
        role: Some(role),
        election_id: Some(p4rt::Uint128 { high: 0, low: id }),
        status: None,
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    for update in [Ours::Arbitration(arbitration), Ours::Packet(PacketOut::default())] {
        sender.send(p4rt::StreamMessageRequest { update: Some(update) }).await.unwrap();
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut messages = client.service().unwrap().stream_channel(requests).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        match messages.message().await {
            Ok(message) => answers.push(message.expect("the stream goes on")),
            Err(status) => return Err(status.code()),
        }
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_config_is_refused_and_a_backup_sends_no_packets() {
    use p4runtime_proto::p4::v1::stream_message_response::Update as Theirs;
    let rig = Rig::start(server::Config::default()).await;
    in_time(async {
        let config = Some(prost_types::Any { type_url: "type.googleapis.com/a.Scheme".into(), value: Vec::new() });
        let role = p4rt::Role { name: "some".into(), config, ..p4rt::Role::default() };
        assert_eq!(answers(&rig, role, 7).await.unwrap_err(), Code::InvalidArgument);
        // The default role has a primary with election id 1; 0 stands for nobody.
        let backup = p4rt::Role::default();
        let told = answers(&rig, backup, 0).await.unwrap();
        let [Some(Theirs::Arbitration(arbitration)), Some(Theirs::Error(error))] =
            [0, 1].map(|at| told[at].update.clone())
        else {
            panic!("{told:?}")
        };
        assert_eq!(Code::from(arbitration.status.unwrap().code), Code::AlreadyExists);
        assert_eq!(Code::from(error.canonical_code), Code::PermissionDenied);
    })
    .await;
    rig.end().await;
}
