//! Packets of sessions with everything else left to chance: BMv2 and the slow path give the same bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::flow::Rewrite;
use fullnat::id::NexthopId;
use fullnat::wire::testing::Build;
use fullnat::wire::{Flow, Packet, TcpFlags, ethernet, parse, rewrite};

use super::switch::PORTS;
use super::{PROGRAMS, Program, start};
use crate::cases::{port_in, way_out};
use crate::file::hex;
use crate::setup::{Session, Sessions};

/// Xorshift: the same packets in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.below(most + 1);
        // Runs of ones and zeros make carries.
        (0..len).map(|_| [0, 0xff, self.below(256) as u8][self.below(3) as usize]).collect()
    }
}

/// A packet of a session: the port it comes by, the frame, the port it must leave by, and the frame then.
fn packet<A: View>(session: &Session<A>, chance: &mut Chance) -> (u16, Vec<u8>, u16, Vec<u8>) {
    let no_control = TcpFlags(chance.below(256) as u8 & !(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0));
    let mut build = Build::new(session.key)
        .ttl(2 + chance.below(254) as u8)
        .seq(chance.below(1 << 32) as u32)
        .ack(chance.below(1 << 32) as u32)
        .window(chance.below(1 << 16) as u16)
        .flags(no_control)
        .options(&chance.bytes(40))
        .payload(&chance.bytes(200))
        .padding(chance.below(20) as usize);
    match chance.below(4) {
        0 => build = build.checksum_error(chance.below(1 << 16) as u16),
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
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut packets = Vec::new();
    for _ in 0..ROUNDS {
        // TCP and UDP, both ways.
        packets.extend(Ipv4Addr::sessions()[..4].iter().map(|session| packet(session, &mut chance)));
        packets.extend(Ipv6Addr::sessions()[..4].iter().map(|session| packet(session, &mut chance)));
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
