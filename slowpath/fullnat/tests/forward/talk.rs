//! A connection from the outside: what its ends send and, from that alone, what must come out.

use fullnat::flow::{Direction, FlowKey};
use fullnat::id::Proto;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::Build;

use crate::books::{Expect, opening, packet};
use crate::sim::{Sim, assert_right};
use crate::world::{FRONT, Net, ROUTER, our_mac, rport, server_mac, vport};

/// An established or opening connection (or the like of UDP) as its ends know it.
#[derive(Clone, Copy, Debug)]
pub struct Talk<A> {
    /// As the client sends: CIP:cport → VIP:vport.
    pub outer: FlowKey<A>,
    /// As the server receives: LIP:lport → RIP:rport.
    pub inner: FlowKey<A>,
    /// Which server it is.
    pub server: u16,
}

/// The client's sequence numbers start here: they wrap soon.
pub const CLIENT_ISN: u32 = u32::MAX - 20;
/// The server's sequence numbers start here.
pub const SERVER_ISN: u32 = 0x7fff_fff0;

/// The key of the nth client's packets to the service.
pub fn outer<A: Net>(proto: Proto, client: u16, cport: u16) -> FlowKey<A> {
    FlowKey { src: A::client(client), dst: A::vip(), sport: cport, dport: vport(proto), proto }
}

/// A frame of the clients' router with this key.
pub fn from_router<A: Net>(key: FlowKey<A>) -> Build<A> {
    Build::new(key).macs(our_mac(FRONT), ROUTER)
}

/// The first segment of a connection, as Linux makes it: MSS, SACK, timestamps, window scale.
pub fn syn<A: Net>(build: Build<A>) -> Build<A> {
    const OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    build.flags(TcpFlags::SYN).seq(CLIENT_ISN).ack(0).options(&OPTIONS)
}

/// A segment `at` bytes after the initial sequence number of its sender, acknowledging as far of the other's. `client`
/// tells whose.
pub fn segment<A: Net>(
    client: bool,
    flags: TcpFlags,
    at: u32,
    acked: u32,
    data: &[u8],
) -> impl Fn(Build<A>) -> Build<A> {
    let (own, other) = if client { (CLIENT_ISN, SERVER_ISN) } else { (SERVER_ISN, CLIENT_ISN) };
    move |build| build.flags(flags).seq(own.wrapping_add(at)).ack(other.wrapping_add(acked)).payload(data)
}

impl<A: Net> Talk<A> {
    /// The first packet of the nth client, and what it opened.
    #[track_caller]
    pub fn open(sim: &mut Sim, proto: Proto, client: u16, cport: u16) -> (Talk<A>, Expect) {
        let shape = if proto == Proto::Tcp { syn } else { |build: Build<A>| build.payload(b"question") };
        let outer = outer(proto, client, cport);
        let bytes = shape(from_router(outer)).bytes();
        let sent = sim.rx_one(FRONT, &bytes);
        let inner = A::key(&sent.bytes).expect("a TCP or UDP frame");
        let server = (0..16).find(|&n| A::server(n) == inner.dst).expect("one of the servers");
        assert_eq!((inner.dport, inner.proto), (rport(proto), proto));
        assert!(sim.world.lips.iter().any(|&n| A::lip(n) == inner.src), "{} is no LIP", inner.src);
        assert!(sim.world.ports.contains(&inner.sport), "port {}", inner.sport);
        let talk = Talk { outer, inner, server };
        assert_eq!((sent.iface, sent.bytes), (sim.world.back(), talk.server_gets(sim, &shape).bytes()));
        (talk, opening(bytes.len()))
    }

    /// A connection whose handshake is complete. What it counted is forgotten.
    #[track_caller]
    pub fn established(sim: &mut Sim, client: u16, cport: u16) -> Talk<A> {
        let (talk, _) = Talk::open(sim, Proto::Tcp, client, cport);
        talk.down(sim, segment(false, TcpFlags::SYN | TcpFlags::ACK, 0, 1, b""));
        talk.up(sim, segment(true, TcpFlags::ACK, 1, 1, b""));
        sim.changed();
        talk
    }

    /// What the client sends, in this shape.
    pub fn client_sends(&self, shape: &impl Fn(Build<A>) -> Build<A>) -> Build<A> {
        shape(from_router(self.outer))
    }

    /// That, as the server gets it.
    pub fn server_gets(&self, sim: &Sim, shape: &impl Fn(Build<A>) -> Build<A>) -> Build<A> {
        shape(Build::new(self.inner).macs(server_mac(self.server), our_mac(sim.world.back()))).ttl(63)
    }

    /// What the server sends, in this shape.
    pub fn server_sends(&self, sim: &Sim, shape: &impl Fn(Build<A>) -> Build<A>) -> Build<A> {
        shape(Build::new(self.inner.reversed()).macs(our_mac(sim.world.back()), server_mac(self.server)))
    }

    /// That, as the client gets it.
    pub fn client_gets(&self, shape: &impl Fn(Build<A>) -> Build<A>) -> Build<A> {
        shape(Build::new(self.outer.reversed()).macs(ROUTER, our_mac(FRONT))).ttl(63)
    }

    /// The client sends; asserts every byte of what the server gets. Returns what that must have counted.
    #[track_caller]
    pub fn up(&self, sim: &mut Sim, shape: impl Fn(Build<A>) -> Build<A>) -> Expect {
        let bytes = self.client_sends(&shape).bytes();
        let sent = sim.rx_one(FRONT, &bytes);
        assert_right(&sent.bytes);
        assert_eq!((sent.iface, sent.bytes), (sim.world.back(), self.server_gets(sim, &shape).bytes()));
        packet(Direction::Inbound, bytes.len())
    }

    /// The server sends; asserts every byte of what the client gets. Returns what that must have counted.
    #[track_caller]
    pub fn down(&self, sim: &mut Sim, shape: impl Fn(Build<A>) -> Build<A>) -> Expect {
        let bytes = self.server_sends(sim, &shape).bytes();
        let sent = sim.rx_one(sim.world.back(), &bytes);
        assert_right(&sent.bytes);
        assert_eq!((sent.iface, sent.bytes), (FRONT, self.client_gets(&shape).bytes()));
        packet(Direction::Outbound, bytes.len())
    }
}
