//! Packets of sessions with everything else left to chance: BMv2 and the slow path give the same bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::flow::Rewrite;
use fullnat::id::NexthopId;
use fullnat::testing::Rng;
use fullnat::wire::testing::Build;
use fullnat::wire::{Flow, Packet, TcpFlags, ethernet, parse, rewrite};

use super::switch::PORTS;
use super::{PROGRAMS, Program, start};
use crate::cases::{port_in, way_out};
use crate::file::hex;
use crate::setup::{Session, Sessions};

fn any_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let len = rng.below(most + 1);
    // Runs of ones and zeros make carries.
    (0..len).map(|_| [0, 0xff, rng.below(256) as u8][rng.below(3)]).collect()
}

/// A packet of a session: the port it comes by, the frame, the port it must leave by, and the frame then.
fn packet<A: View>(session: &Session<A>, rng: &mut Rng) -> (u16, Vec<u8>, u16, Vec<u8>) {
    let no_control = TcpFlags(rng.below(256) as u8 & !(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0));
    let mut build = Build::new(session.key)
        .ttl(2 + rng.below(254) as u8)
        .seq(rng.u32())
        .ack(rng.u32())
        .window(rng.u16())
        .flags(no_control)
        .options(&any_bytes(rng, 40))
        .payload(&any_bytes(rng, 200))
        .padding(rng.below(20));
    match rng.below(4) {
        0 => build = build.checksum_error(rng.u16()),
        1 => build = build.no_checksum(),
        _ => {}
    }
    let frame = build.bytes();
    let mut out = frame.clone();
    let to = session.to;
    let to = Rewrite { src: to.src, dst: to.dst, sport: to.sport, dport: to.dport, nexthop: NexthopId(0) };
    rewrite::apply(&mut out, &A::view(&frame), &to);
    let ((dst, src), port) = way_out(session.nexthop);
    ethernet::set_addresses(&mut out, dst, src);
    (port_in(session), frame, port, out)
}

/// A family whose packets can be told from the other's.
trait View: Sessions {
    fn view(frame: &[u8]) -> Flow<Self>;
}

impl View for Ipv4Addr {
    fn view(frame: &[u8]) -> Flow<Self> {
        let Ok(Packet::V4(flow)) = parse(frame) else { panic!("not TCP or UDP over IPv4") };
        flow
    }
}

impl View for Ipv6Addr {
    fn view(frame: &[u8]) -> Flow<Self> {
        let Ok(Packet::V6(flow)) = parse(frame) else { panic!("not TCP or UDP over IPv6") };
        flow
    }
}

#[tokio::test]
async fn bmv2_and_the_slow_path_agree_on_packets_nobody_chose() {
    agree(PROGRAMS[0]).await;
}

#[tokio::test]
async fn bmv2_by_ids_and_the_slow_path_agree_on_packets_nobody_chose() {
    agree(PROGRAMS[1]).await;
}

async fn agree(program: Program) {
    // BMv2's input buffer holds 1024 packets and drops what finds it full, which on a busy machine it may be.
    const ROUNDS: usize = 120;
    let Some((mut switch, _control)) = start(program).await else { return };
    let mut rng = Rng::new(1);
    let mut packets = Vec::new();
    for _ in 0..ROUNDS {
        // TCP and UDP, both ways.
        packets.extend(Ipv4Addr::sessions()[..4].iter().map(|session| packet(session, &mut rng)));
        packets.extend(Ipv6Addr::sessions()[..4].iter().map(|session| packet(session, &mut rng)));
    }
    switch.receive_all(packets.iter().map(|(port, frame, ..)| (*port, frame.as_slice())));

    for port in PORTS {
        let expected: Vec<_> = packets.iter().filter(|(.., out, _)| *out == port).collect();
        let sent = switch.sent(port, expected.len()).await;
        assert_eq!(sent.len(), expected.len(), "frames out of port {port}");
        for (sent, (_, frame, _, out)) in sent.iter().zip(expected) {
            assert_eq!(hex(sent), hex(out), "of {}", hex(frame));
        }
    }
}
