//! The cases. What goes in and what must come out are built separately, each with checksums from scratch.

use std::net::{Ipv4Addr, Ipv6Addr};

use carom_p4::{Punt, inject_to_nexthop, inject_to_port};
use fullnat::flow::FlowKey;
use fullnat::id::Proto::{self, Tcp, Udp};
use fullnat::wire::testing::{self, Build};
use fullnat::wire::{Mac, TcpFlags};

use crate::corners;
use crate::file::{Case, Outcome, hex};
use crate::setup::{CLIENTS, FORWARD, SERVERS, SLOWPATH, Session, Sessions, TO_CLIENTS, TO_SERVERS};

/// Where a packet of a session comes in.
pub fn port_in<A>(session: &Session<A>) -> u16 {
    if session.nexthop == TO_CLIENTS { SERVERS } else { CLIENTS }
}

/// The MAC addresses and the port that packets to a next hop get.
pub fn way_out(nexthop: u16) -> ((Mac, Mac), u16) {
    let &(_, smac, dmac, port) = FORWARD.iter().find(|f| f.0 == nexthop).expect("a next hop");
    ((Mac(dmac), Mac(smac)), port)
}

pub fn case(name: impl Into<String>, port: u16, frame: &[u8], outcome: Outcome) -> Case {
    Case { name: name.into(), port, frame: hex(frame), outcome }
}

/// A frame with four bytes put behind its MAC addresses.
pub fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

/// A punt to a worker.
pub fn punt(name: impl Into<String>, port: u16, frame: &[u8], why: Punt, worker: usize) -> Case {
    let [hi, lo] = ((why as u16) << 13 | port).to_be_bytes();
    let out = hex(&tagged(frame, [0x81, 0, hi, lo]));
    case(name, port, frame, Outcome::Punt { why: why.name().to_owned(), port: SLOWPATH[worker], frame: out })
}

pub fn drop(name: impl Into<String>, port: u16, frame: &[u8], reason: &str) -> Case {
    case(name, port, frame, Outcome::Drop(reason.to_owned()))
}

/// A packet of a session, and as it must leave: `dress` gives both what they have in common.
pub fn forward<A: Sessions>(name: String, session: &Session<A>, ttl: u8, dress: impl Fn(Build<A>) -> Build<A>) -> Case {
    let (macs, port) = way_out(session.nexthop);
    let (seq_delta, ack_delta) = session.deltas.unwrap_or_default();
    let (seq, ack) = (0xffff_fff0_u32, 0x1234_5678_u32);
    let frame = dress(Build::new(session.key).ttl(ttl).seq(seq).ack(ack)).bytes();
    let out = dress(Build::new(session.to).ttl(ttl - 1).macs(macs.0, macs.1))
        .seq(seq.wrapping_add(seq_delta))
        .ack(ack.wrapping_add(ack_delta))
        .bytes();
    case(name, port_in(session), &frame, Outcome::Forward { port, frame: hex(&out) })
}

/// `tcp over IPv6 outbound`.
pub fn title<A: Sessions>(session: &Session<A>) -> String {
    let family = if A::IS_V6 { "IPv6" } else { "IPv4" };
    let way = if session.nexthop == TO_CLIENTS { "outbound" } else { "inbound" };
    let seq = if session.deltas.is_some() { ", numbers moved" } else { "" };
    format!("{} over {family} {way}{seq}", session.key.proto)
}

fn forwarded<A: Sessions>(cases: &mut Vec<Case>) {
    let sessions = A::sessions();
    let (lost, found) = sessions.split_last().expect("sessions");
    for session in found {
        let title = title(session);
        cases.push(forward(format!("{title}, empty"), session, 64, |b| b));
        cases.push(forward(format!("{title}, odd payload"), session, 255, |b| b.payload(b"odd")));
        cases.push(forward(format!("{title}, TTL 2, padding"), session, 2, |b| b.padding(9)));
    }
    let tcp = &sessions[0];
    let flags = TcpFlags(TcpFlags::ACK.0 | TcpFlags::PSH.0 | TcpFlags::URG.0 | TcpFlags::ECE.0 | TcpFlags::CWR.0);
    let timestamps = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    cases.push(forward(format!("{}, other flags and options", title(tcp)), tcp, 64, |b| {
        b.flags(flags).options(&timestamps).payload(&[0xff; 100])
    }));
    let frame = Build::new(lost.key).bytes();
    cases.push(drop(format!("{}, next hop without entry", title(lost)), CLIENTS, &frame, "no_nexthop"));
}

/// What is punted although there is an entry for it.
fn punted_on_a_hit<A: Sessions>(cases: &mut Vec<Case>) {
    let sessions = A::sessions();
    let both = |flags: TcpFlags| TcpFlags(flags.0 | TcpFlags::ACK.0);
    for (session, worker) in [(&sessions[0], 0), (&sessions[1], 0), (&sessions[2], 1)] {
        for ttl in [0, 1] {
            let frame = Build::new(session.key).ttl(ttl).bytes();
            let name = format!("{}, TTL {ttl} on a hit", title(session));
            cases.push(punt(name, port_in(session), &frame, Punt::Ttl, worker));
        }
    }
    for session in &sessions[..2] {
        for (name, flags) in [
            ("SYN", TcpFlags::SYN),
            ("SYN and ACK", both(TcpFlags::SYN)),
            ("FIN and ACK", both(TcpFlags::FIN)),
            ("RST", TcpFlags::RST),
        ] {
            let frame = Build::new(session.key).flags(flags).bytes();
            let name = format!("{}, {name} on a hit", title(session));
            cases.push(punt(name, port_in(session), &frame, Punt::TcpControl, 0));
        }
    }
    let session = &sessions[0];
    let frame = tagged(&Build::new(session.key).bytes(), [0x81, 0, 0, 100]);
    cases.push(punt(format!("{}, VLAN tag on a hit", title(session)), CLIENTS, &frame, Punt::Vlan, 0));
    // As the slow path would send it, but from a client.
    let frame = tagged(&Build::new(session.key).seq(2).bytes(), inject_to_port(SERVERS).unwrap());
    cases.push(punt(format!("{}, forged inject tag", title(session)), CLIENTS, &frame, Punt::Vlan, 0));
}

/// Places to send to, of one family.
struct Places {
    client: &'static str,
    vip: &'static str,
    lip: &'static str,
    own: &'static str,
    nobody: &'static str,
}

impl Places {
    fn of<A: Sessions>() -> Self {
        if A::IS_V6 {
            let [client, vip, lip] = ["2001:db8:c::77", "2001:db8:1::10", "fd00:1::5"];
            Places { client, vip, lip, own: "fd00:1::1", nobody: "2001:db8:1::11" }
        } else {
            let [client, vip, lip] = ["192.0.2.77", "198.51.100.10", "10.0.1.5"];
            Places { client, vip, lip, own: "10.0.1.1", nobody: "198.51.100.11" }
        }
    }

    fn key<A: Sessions>(&self, to: &str, port: u16, proto: Proto) -> FlowKey<A> {
        let text = |addr: &str, port: u16| if A::IS_V6 { format!("[{addr}]:{port}") } else { format!("{addr}:{port}") };
        testing::flow(&text(self.client, 41_000), &text(to, port), proto)
    }
}

/// What has no flow entry: admitted, or dropped.
fn missed<A: Sessions>(cases: &mut Vec<Case>) {
    let at = Places::of::<A>();
    let family = if A::IS_V6 { "IPv6" } else { "IPv4" };
    let frame = |to, port, proto| Build::new(at.key::<A>(to, port, proto)).bytes();
    let syn = |to, port| Build::new(at.key::<A>(to, port, Tcp)).flags(TcpFlags::SYN).bytes();
    for (name, frame, why, worker) in [
        ("SYN to a service", syn(at.vip, 80), Punt::TcpControl, 0),
        ("segment to a service", frame(at.vip, 80, Tcp), Punt::Miss, 0),
        ("datagram to a service of worker 1", frame(at.vip, 53, Udp), Punt::Miss, 1),
        ("segment to a local address", frame(at.lip, 2000, Tcp), Punt::Miss, 0),
        ("datagram to an address of an interface", frame(at.own, 2000, Udp), Punt::Miss, 1),
        ("VLAN tag, to a service", tagged(&frame(at.vip, 80, Tcp), [0x81, 0, 0x60, 7]), Punt::Vlan, 0),
    ] {
        cases.push(punt(format!("{name} over {family}"), CLIENTS, &frame, why, worker));
    }
    for (name, frame, reason) in [
        ("SYN to a port without service", syn(at.vip, 81), "no_service"),
        ("datagram to a port that only TCP serves", frame(at.vip, 80, Udp), "no_service"),
        ("SYN to nobody", syn(at.nobody, 80), "no_service"),
        ("VLAN tag, to nobody", tagged(&frame(at.nobody, 80, Tcp), [0x81, 0, 0, 7]), "no_service"),
        ("forged inject, to nobody", tagged(&frame(at.nobody, 81, Tcp), inject_to_port(2).unwrap()), "no_service"),
        ("datagram to a worker without entry", frame(at.vip, 9, Udp), "no_worker"),
    ] {
        cases.push(drop(format!("{name} over {family}"), CLIENTS, &frame, reason));
    }
}

/// Frames from the slow path.
fn injected<A: Sessions>(cases: &mut Vec<Case>) {
    let family = if A::IS_V6 { "IPv6" } else { "IPv4" };
    let session = &A::sessions()[0];
    let frame = Build::new(session.to).flags(TcpFlags::SYN).ttl(63).bytes();
    let (macs, port) = way_out(TO_SERVERS);
    let out = Build::new(session.to).flags(TcpFlags::SYN).ttl(63).macs(macs.0, macs.1).bytes();
    let sent = tagged(&frame, inject_to_nexthop(TO_SERVERS).unwrap());
    let outcome = Outcome::Inject { port, frame: hex(&out) };
    cases.push(case(format!("inject to a next hop, {family}"), SLOWPATH[0], &sent, outcome));

    let sent = tagged(&frame, inject_to_port(CLIENTS).unwrap());
    let outcome = Outcome::Inject { port: CLIENTS, frame: hex(&frame) };
    cases.push(case(format!("inject to a port, {family}"), SLOWPATH[1], &sent, outcome));

    let inside = tagged(&frame, [0x81, 0, 0, 100]);
    let sent = tagged(&inside, inject_to_port(SERVERS).unwrap());
    let outcome = Outcome::Inject { port: SERVERS, frame: hex(&inside) };
    cases.push(case(format!("inject to a port, VLAN tag inside, {family}"), SLOWPATH[0], &sent, outcome));

    for (name, tag, reason) in [
        ("next hop without entry", inject_to_nexthop(77).unwrap(), "no_nexthop"),
        ("port without entry", inject_to_port(77).unwrap(), "no_port"),
        ("PCP 5", [0x81, 0, 0xa0, 1], "bad_inject"),
    ] {
        cases.push(drop(format!("inject, {name}, {family}"), SLOWPATH[0], &tagged(&frame, tag), reason));
    }
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    forwarded::<Ipv4Addr>(&mut cases);
    forwarded::<Ipv6Addr>(&mut cases);
    corners::checksums::<Ipv4Addr>(&mut cases);
    corners::checksums::<Ipv6Addr>(&mut cases);
    corners::header_checksum(&mut cases);
    punted_on_a_hit::<Ipv4Addr>(&mut cases);
    punted_on_a_hit::<Ipv6Addr>(&mut cases);
    missed::<Ipv4Addr>(&mut cases);
    missed::<Ipv6Addr>(&mut cases);
    injected::<Ipv4Addr>(&mut cases);
    injected::<Ipv6Addr>(&mut cases);
    corners::link(&mut cases);
    corners::ip(&mut cases);
    cases
}
