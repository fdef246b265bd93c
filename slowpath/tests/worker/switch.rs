//! Workers behind a switch: what it punts, and what they inject.

use std::net::Ipv4Addr;
use std::sync::Arc;

use carom::worker::Ports;
use fullnat::flow::FlowKey;
use fullnat::frame::{Frame, HeapFrame};
use fullnat::id::{IfaceId, Proto};
use fullnat::offload::{Counted, Gate, Place, Request, Threshold, Verdict};
use fullnat::plan::{Plan, Server, ServerShared, testing};
use fullnat::reason::DropReason;
use fullnat::testing::Rng;
use fullnat::wire::testing::Build;
use fullnat::wire::{Mac, TcpFlags, arp};

use crate::rig::{Made, Rig, key_of};

const FRONT: IfaceId = IfaceId(0);
const BACK: IfaceId = IfaceId(1);
/// The switch's ports.
const PORTS: [u16; 2] = [1, 4094];
const OURS: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 1, 2])];
const OWN: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 2, 0, 2)];
const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 80);
const LIP: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 100);
const RIP: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 9, 2]);
const CLIENTS: u8 = 60;

fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 1, n)
}

/// Clients by one port of the switch, a real server by the other.
fn plan(shared: &Arc<ServerShared>) -> Arc<Plan> {
    let interfaces = [0, 1].map(|i| testing::interface(OURS[i], OWN[i], 16)).into();
    let service = testing::service(0, VIP, 80, Proto::Tcp, &[0]);
    let server = Server { shared: Arc::clone(shared), ..testing::server(0, 0, RIP, 8080) };
    Arc::new(testing::plan(interfaces, &[LIP], vec![service], vec![server]))
}

fn rig(workers: u8) -> Rig {
    rig_with(workers, None)
}

fn rig_with(workers: u8, gate: Option<Arc<Gate>>) -> Rig {
    let shared = Arc::new(ServerShared::default());
    let plan = plan(&shared);
    let clients = (0..CLIENTS).map(|n| (FRONT, client(n).into(), CLIENT_MAC));
    let hosts = clients.chain([(BACK, RIP.into(), SERVER_MAC)]).collect();
    let switch = Some(Ports::new(PORTS).expect("two ports"));
    Rig::made(Made { workers, sessions: 1024, plan, shared, hosts, switch, gate })
}

/// A frame as the switch punts it: with the tag behind the MAC addresses.
fn punted(why: carom_p4::Punt, iface: IfaceId, frame: &[u8]) -> Vec<u8> {
    tagged((why as u16) << 13 | PORTS[usize::from(iface.0)], frame)
}

fn tagged(tci: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &tci.to_be_bytes(), &frame[12..]].concat()
}

/// The port that an injected frame is for, and the frame without the tag.
fn injected(frame: &[u8]) -> (u16, Vec<u8>) {
    assert_eq!(frame[12..14], [0x81, 0]);
    let tci = u16::from_be_bytes([frame[14], frame[15]]);
    assert_eq!(tci >> 13, carom_p4::Inject::Port as u16);
    (tci & 0xfff, [&frame[..12], &frame[16..]].concat())
}

/// The MAC addresses of a frame: to, from.
fn macs(frame: &[u8]) -> (Mac, Mac) {
    let mac = |at: usize| Mac(frame[at..at + 6].try_into().expect("six bytes"));
    (mac(0), mac(6))
}

fn push(rig: &Rig, worker: usize, frame: Vec<u8>) {
    rig.rx[worker].borrow_mut().frames.push_back(frame);
}

/// The one frame that was sent, by whichever worker, after a round in which frames can be handed over.
fn one(rig: &mut Rig) -> (u16, Vec<u8>) {
    rig.poll();
    rig.poll();
    let sent: Vec<_> = rig.sent().into_iter().flatten().collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    injected(&sent[0])
}

fn no_drops(rig: &Rig) {
    for &reason in DropReason::ALL {
        assert_eq!(rig.total(|c| c.dropped(reason)), 0, "{}", reason.name());
    }
    assert_eq!(rig.mempool.in_use(), 0);
}

#[test]
fn arp_is_answered_by_the_port_it_came_by() {
    let mut rig = rig(1);
    for (iface, asker, mac, target) in
        [(FRONT, client(7), CLIENT_MAC, VIP), (BACK, RIP, SERVER_MAC, LIP), (BACK, RIP, SERVER_MAC, OWN[1])]
    {
        let mut request = HeapFrame::new(&[]);
        assert!(arp::request(&mut request, Mac([0xff; 6]), (mac, asker), target));
        push(&rig, 0, punted(carom_p4::Punt::Neighbor, iface, request.bytes()));
        let (port, answer) = one(&mut rig);
        let i = usize::from(iface.0);
        assert_eq!(port, PORTS[i]);
        assert_eq!(macs(&answer), (mac, OURS[i]));
        assert_eq!((answer[21], &answer[28..32]), (2, &target.octets()[..]), "a reply from the address asked for");
    }
    assert_eq!(rig.total(|c| c.punts(carom_p4::Punt::Neighbor as u8)), 3);
    assert_eq!(rig.total(|c| c.neighbor_answered.get()), 3);
    no_drops(&rig);
}

/// A client's segment.
fn from_client(n: u8, cport: u16, flags: TcpFlags, seq: u32, ack: u32) -> Vec<u8> {
    let key = FlowKey { src: client(n), dst: VIP, sport: cport, dport: 80, proto: Proto::Tcp };
    Build::new(key).macs(OURS[0], CLIENT_MAC).flags(flags).seq(seq).ack(ack).bytes()
}

/// The real server's segment in answer to one as it arrived there.
fn from_server(seen: &[u8], flags: TcpFlags, seq: u32, ack: u32) -> Vec<u8> {
    let key = key_of(seen).reversed();
    Build::new(key).macs(OURS[1], SERVER_MAC).flags(flags).seq(seq).ack(ack).bytes()
}

/// A handshake whose segments come to these workers; gives the client's last segment as the server saw it.
fn handshake(rig: &mut Rig, n: u8, cport: u16, workers: [usize; 3]) -> Vec<u8> {
    let syn_ack = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
    let control = carom_p4::Punt::TcpControl;
    push(rig, workers[0], punted(control, FRONT, &from_client(n, cport, TcpFlags::SYN, 100, 0)));
    let (port, syn) = one(rig);
    assert_eq!((port, macs(&syn)), (PORTS[1], (SERVER_MAC, OURS[1])));
    let key = key_of(&syn);
    assert_eq!((key.src, key.dst, key.dport), (LIP, RIP, 8080));

    push(rig, workers[1], punted(control, BACK, &from_server(&syn, syn_ack, 500, 101)));
    let (port, answer) = one(rig);
    assert_eq!((port, macs(&answer)), (PORTS[0], (CLIENT_MAC, OURS[0])));
    let key = key_of(&answer);
    assert_eq!((key.src, key.sport, key.dst, key.dport), (VIP, 80, client(n), cport));

    let ack = from_client(n, cport, TcpFlags::ACK, 101, 501);
    push(rig, workers[2], punted(carom_p4::Punt::Miss, FRONT, &ack));
    let (port, ack) = one(rig);
    assert_eq!(port, PORTS[1]);
    ack
}

#[test]
fn a_handshake_goes_in_by_one_port_and_out_by_the_other() {
    let mut rig = rig(1);
    handshake(&mut rig, 3, 4000, [0; 3]);
    assert_eq!(rig.total(|c| c.handshakes.get()), 1);
    assert_eq!(rig.total(|c| c.punts(carom_p4::Punt::TcpControl as u8)), 2);
    assert_eq!(rig.total(|c| c.punts(carom_p4::Punt::Miss as u8)), 1);
    no_drops(&rig);
}

#[test]
fn frames_handed_over_know_their_port() {
    let mut rig = rig(2);
    for n in 0..CLIENTS {
        let at = |shift: u8| usize::from(n >> shift & 1);
        handshake(&mut rig, n, 4000, [at(0), at(1), at(2)]);
    }
    assert_eq!(rig.total(|c| c.handshakes.get()), u64::from(CLIENTS));
    let handed = rig.total(|c| c.handed_over.get());
    assert!(handed > u64::from(CLIENTS) / 2, "about half of all segments landed at the wrong worker: {handed}");
    no_drops(&rig);
}

#[test]
fn a_burst_of_both_ports_is_told_apart() {
    let mut rig = rig(1);
    let seen: Vec<_> = (0..16).map(|n| handshake(&mut rig, n, 4000, [0; 3])).collect();
    for (n, seen) in (0..).zip(&seen) {
        push(&rig, 0, punted(carom_p4::Punt::Miss, BACK, &from_server(seen, TcpFlags::ACK, 501, 101)));
        push(&rig, 0, punted(carom_p4::Punt::Miss, FRONT, &from_client(n, 4000, TcpFlags::ACK, 101, 501)));
    }
    rig.poll();
    let sent: Vec<_> = rig.sent().remove(0).iter().map(|frame| injected(frame)).collect();
    // Each direction keeps its order; which of them leaves first does not matter.
    for (port, expected) in
        [(PORTS[0], (0..16).map(client).collect::<Vec<_>>()), (PORTS[1], seen.iter().map(|_| RIP).collect())]
    {
        let to: Vec<_> = sent.iter().filter(|(to, _)| *to == port).map(|(_, frame)| key_of(frame).dst).collect();
        assert_eq!(to, expected);
    }
    let from: Vec<_> = sent.iter().filter(|(to, _)| *to == PORTS[1]).map(|(_, frame)| key_of(frame).sport).collect();
    assert_eq!(from, seen.iter().map(|frame| key_of(frame).sport).collect::<Vec<_>>());
    no_drops(&rig);
}

#[test]
fn what_the_switch_did_not_punt_from_our_ports_is_dropped_and_counted() {
    let mut rig = rig(1);
    let syn = from_client(1, 4000, TcpFlags::SYN, 100, 0);
    push(&rig, 0, syn.clone());
    push(&rig, 0, syn[..13].to_vec());
    push(&rig, 0, tagged(2, &syn));
    // Of an unknown port between frames of known ones.
    push(&rig, 0, punted(carom_p4::Punt::TcpControl, FRONT, &syn));
    push(&rig, 0, tagged(3, &syn));
    rig.poll();
    assert_eq!(rig.sent()[0].len(), 1);
    assert_eq!(rig.total(|c| c.dropped(DropReason::NotPunted)), 2);
    assert_eq!(rig.total(|c| c.dropped(DropReason::UnknownPort)), 2);
    assert_eq!((0..8).map(|why| rig.total(|c| c.punts(why))).sum::<u64>(), 1);
    assert_eq!(rig.mempool.in_use(), 0);
}

#[test]
fn a_vlan_tag_inside_is_no_punt_tag() {
    let mut rig = rig(1);
    let syn = tagged(100, &from_client(1, 4000, TcpFlags::SYN, 100, 0));
    push(&rig, 0, punted(carom_p4::Punt::Vlan, FRONT, &syn));
    rig.poll();
    assert!(rig.sent()[0].is_empty());
    assert_eq!(rig.total(|c| c.dropped(DropReason::EtherType)), 1);
}

#[test]
fn requests_and_verdicts_pass_between_worker_and_manager() {
    let gate = Arc::new(Gate::new(Threshold::Packets(0)));
    let mut rig = rig_with(1, Some(gate));
    let seen = handshake(&mut rig, 3, 4000, [0; 3]);
    // The server's first segment after the handshake shows that both ends talk.
    push(&rig, 0, punted(carom_p4::Punt::Miss, BACK, &from_server(&seen, TcpFlags::ACK, 501, 101)));
    one(&mut rig);
    let Ok(Request::Install { place, .. }) = rig.managers[0].asked.pop() else { panic!("nothing was asked") };
    assert!(rig.managers[0].asked.pop().is_err(), "once is enough");
    assert_eq!(rig.total(|c| c.offload.sessions.get()), 0);

    rig.managers[0].told.push(Verdict::Installed(place)).unwrap();
    assert!(rig.workers[0].poll(), "a verdict is work");
    assert_eq!(rig.total(|c| c.offload.sessions.get()), 1);

    // The close goes through the slow path, and takes the entries out.
    let fin = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);
    push(&rig, 0, punted(carom_p4::Punt::TcpControl, FRONT, &from_client(3, 4000, fin, 101, 501)));
    assert_eq!(one(&mut rig).0, PORTS[1]);
    assert_eq!(rig.managers[0].asked.pop(), Ok(Request::Remove { place }));
    let counted = Counted { packets: [5, 7], bytes: [500, 700] };
    rig.managers[0].told.push(Verdict::Removed(place, counted)).unwrap();
    rig.poll();
    assert_eq!(rig.total(|c| c.offload.sessions.get()), 0);
    assert_eq!(rig.total(|c| c.offload.packets_in.get()), 5);
    no_drops(&rig);
}

#[test]
fn verdicts_do_not_hold_up_packets() {
    let gate = Arc::new(Gate::new(Threshold::Never));
    let mut rig = rig_with(1, Some(gate));
    let nobody = Place::V4(fullnat::table::SessionIdx(7));
    for _ in 0..40 {
        rig.managers[0].told.push(Verdict::Removed(nobody, Counted::default())).unwrap();
    }
    rig.poll();
    assert_eq!(rig.total(|c| c.offload.ignored.get()), 32, "a burst of them in a round");
    rig.poll();
    assert_eq!(rig.total(|c| c.offload.ignored.get()), 40);
}

/// Frames of all lengths and kinds, with tags and without.
fn noise(rng: &mut Rng) -> Vec<u8> {
    let mut next = || rng.u64();
    let kind = next() % 4;
    let mut frame: Vec<u8> = match kind {
        0 => Vec::new(),
        1 => {
            let (n, flags, seq, ack) = ((next() % 60) as u8, TcpFlags(next() as u8), next() as u32, next() as u32);
            punted(carom_p4::Punt::TcpControl, FRONT, &from_client(n, 4000, flags, seq, ack))
        }
        2 => tagged(next() as u16, &from_client(1, 4000, TcpFlags::SYN, 1, 0)),
        _ => punted(carom_p4::Punt::Miss, if next() % 2 == 0 { FRONT } else { BACK }, &[0; 40]),
    };
    frame.truncate((next() % 80) as usize);
    if kind == 0 {
        frame.resize((next() % 120) as usize, 0);
        frame.iter_mut().for_each(|byte| *byte = next() as u8);
    }
    for _ in 0..next() % 3 {
        let (at, byte) = (next() as usize, next() as u8);
        let len = frame.len();
        if let Some(place) = frame.get_mut(at % len.max(1)) {
            *place = byte;
        }
    }
    frame
}

#[test]
fn whatever_comes_by_the_link_is_counted_and_costs_no_buffer() {
    let mut rig = rig(2);
    let mut rng = Rng::new(1);
    for round in 0..4000 {
        for worker in 0..2 {
            (0..8).for_each(|_| push(&rig, worker, noise(&mut rng)));
        }
        rig.poll();
        if round % 16 == 15 {
            rig.poll();
            for frame in rig.sent().iter().flatten() {
                assert!(PORTS.contains(&injected(frame).0));
            }
        }
    }
    rig.poll();
    rig.sent();
    assert_eq!(rig.mempool.in_use(), 0);
    assert_eq!(rig.total(|c| c.rx_packets.get()), 4000 * 16);
    let refused = rig.total(|c| c.dropped(DropReason::NotPunted) + c.dropped(DropReason::UnknownPort));
    let taken: u64 = (0..8).map(|why| rig.total(|c| c.punts(why))).sum();
    assert_eq!(refused + taken, 4000 * 16, "each frame is the switch's or dropped at the edge");
    assert!(refused > 1000 && taken > 1000 && rig.total(|c| c.sessions_created.get()) > 10);
}
