//! What the ends of all connections know, and what follows for those between. See [`crate::offload_chaos`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use fullnat::flow::{Direction, FlowKey};
use fullnat::id::Proto;
use fullnat::offload::{State as With, Threshold};
use fullnat::time::Time;
use fullnat::wire::testing::Build;
use fullnat::wire::{TcpFlags, tcp, toa};

use crate::books::Books;
use crate::consistency::{TIMEOUT, TIMEOUTS};
use crate::ends::{ACK, End, FIN, RST, SYN, Seg};
use crate::offload_chaos::Op;
use crate::sim::{Options, Sim, assert_right};
use crate::switch::{Key, Manager, key};
use crate::talk::{from_router, outer};
use crate::world::{FRONT, Net, World, our_mac, server_mac};

const QUARANTINE: u64 = 7_000;

/// A connection, or what is like one of UDP.
#[derive(Debug)]
struct Link<A> {
    outer: FlowKey<A>,
    /// As the server gets it; known once the first packet came out.
    inner: Option<FlowKey<A>>,
    client: End,
    server: End,
    /// The first number of the last SYN that reached the server.
    heard: u32,
    /// The client's handshake ACK, or datagrams of both ends, were forwarded.
    proven: bool,
    /// The server got the client's address, since its last SYN, and at all.
    told: bool,
    told_once: bool,
    ups: u32,
    downs: u32,
    last: Time,
}

pub struct Model<A> {
    pub sim: Sim,
    pub manager: Manager,
    links: Vec<Link<A>>,
    /// By translated tuple: when it was last used by a packet or an entry.
    used: HashMap<Key, Time>,
    opened: u16,
    rng: u64,
    toa: bool,
    pub held_back: u64,
    pub segments: u64,
    pub adopted: u64,
    /// What was counted in lives before.
    pub past: Books,
}

fn tuple<A: Net>(inner: &FlowKey<A>) -> Key {
    let (lip, rip): (IpAddr, IpAddr) = (inner.src.into(), inner.dst.into());
    (inner.proto, SocketAddr::new(rip, inner.dport), SocketAddr::new(lip, inner.sport))
}

impl<A: Net> Model<A> {
    pub fn new(workers: u8, toa: bool, seed: u64) -> Self {
        let world =
            World { timeouts: TIMEOUTS, quarantine_ms: QUARANTINE, ports: 2000..=2004, toa, ..World::default() };
        let options = Options { offload: Some(Threshold::Packets(0)), ..Options::software(workers) };
        let sim = Sim::quiet_with(world, options);
        Model {
            sim,
            manager: Manager::new(workers.into(), seed),
            links: Vec::new(),
            used: HashMap::new(),
            opened: 0,
            rng: seed ^ 0x9e37_79b9_7f4a_7c15 | 1,
            toa,
            held_back: 0,
            segments: 0,
            adopted: 0,
            past: Books::new(),
        }
    }

    fn random(&mut self) -> u32 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 24) as u32
    }

    fn chance(&mut self, n: u32, of: u32) -> bool {
        self.random() % of < n
    }

    pub fn run(&mut self, op: &Op) {
        let links = self.links.len().max(1);
        let at = |which: usize| which % links;
        match *op {
            Op::Open { udp } => self.open(if udp { Proto::Udp } else { Proto::Tcp }),
            Op::Pause { ms } => self.pause(ms),
            Op::Gate { n } => self.sim.gate.as_ref().expect("a target").set([Threshold::Packets(n); 2]),
            Op::Restart => self.restart(),
            Op::Flood { client, udp } => self.flood(client, udp),
            _ if self.links.is_empty() => {}
            Op::Act { which, client, act } => self.act(at(which), client, act, true),
            Op::Chat { which, rounds } => self.chat(at(which), rounds),
            Op::Again { which, forgets } => self.again(at(which), forgets),
            Op::Forget { which } => {
                let server = &mut self.links[at(which)].server;
                *server = End { dead: true, ..End::new(server.isn.wrapping_add(server.next)) };
            }
            Op::Forge { which, client, flags, seq } => self.forge(at(which), client, TcpFlags(flags), seq),
            Op::Jump { which, by } => self.jump(at(which), by),
        }
        self.manage();
        self.check();
    }

    /// The manager's turn.
    fn manage(&mut self) {
        let Model { manager, sim, links, toa, .. } = self;
        manager.step(sim, |ends| {
            let link =
                links.iter().find(|link| link.inner.is_some_and(|i| tuple(&i) == key(ends, Direction::Outbound)));
            let link = link.unwrap_or_else(|| panic!("an install of nobody's: {ends:?}"));
            assert!(link.proven, "installed and not proven: {link:?}");
            let tcp = link.outer.proto == Proto::Tcp;
            assert!(!tcp || !*toa || link.told_once, "installed and the server does not know: {link:?}");
            assert!(tcp || link.ups >= 2 && link.downs >= 1);
        });
        for gone in self.manager.gone.drain(..) {
            // Inbound keys are in the map too, and in nobody's way.
            self.used.insert(gone, self.sim.now);
        }
    }

    fn pause(&mut self, ms: u64) {
        let end = self.sim.now.after(ms);
        while self.sim.now < end {
            self.sim.now = Time(end.0.min(self.sim.now.0 + 200));
            self.sim.tick();
            self.manage();
        }
        let now = self.sim.now;
        self.links.retain(|link| now.since(link.last) < u64::from(TIMEOUT));
    }

    /// Connections that the switch has go on; nobody knows of the others any more, nor of what rests. Nor of a new
    /// connection that a server took on the tuple of an old one, and whose handshake is not complete.
    fn restart(&mut self) {
        for (name, n) in self.sim.books() {
            *self.past.entry(name).or_default() += n;
        }
        self.sim.restart();
        let taken = self.manager.restart(&mut self.sim);
        let sessions: usize = self.sim.sessions_by_worker().iter().map(Vec::len).sum();
        assert_eq!(taken.len(), sessions);
        self.adopted += sessions as u64;
        let begins = |link: &Link<A>| link.outer.proto == Proto::Tcp && !link.server.dead && link.server.acked == 0;
        self.links.retain(|link| !begins(link) && link.inner.is_some_and(|inner| taken.contains(&tuple(&inner))));
        self.used.clear();
    }

    fn open(&mut self, proto: Proto) {
        self.opened += 1;
        let (client, server) = (self.random(), self.random());
        self.links.push(Link {
            outer: outer(proto, 10 + self.opened, 1000 + self.opened),
            inner: None,
            client: End::new(client),
            server: End { dead: true, ..End::new(server) },
            heard: 0,
            proven: false,
            told: false,
            told_once: false,
            ups: 0,
            downs: 0,
            last: self.sim.now,
        });
        self.act(self.links.len() - 1, true, 0, false);
    }

    fn chat(&mut self, at: usize, rounds: u8) {
        let link = self.links[at].outer;
        for n in 0..rounds {
            // One that was refused is gone.
            if self.links.get(at).is_some_and(|l| l.outer == link) {
                self.act(at, n % 2 == 0, 8 + n, false);
            }
            if self.links.get(at).is_some_and(|l| l.outer == link) {
                self.act(at, n % 2 == 1, 8, false);
            }
        }
    }

    /// Spoofed packets: what they open is nobody's, so that an install of it would be noticed.
    fn flood(&mut self, client: u16, udp: bool) {
        self.opened += 1;
        let key = outer::<A>(if udp { Proto::Udp } else { Proto::Tcp }, client, 40_000 + self.opened % 4);
        let isn = self.random();
        let frame = from_router(key).flags(SYN).seq(isn).ack(0).bytes();
        for sent in self.through(FRONT, &frame) {
            if let Some(inner) = A::key(&sent).filter(|_| !self.is_answer(&sent)) {
                self.take_tuple(&inner);
            }
        }
    }

    /// A RST or ICMP error of the balancer itself.
    fn is_answer(&self, sent: &[u8]) -> bool {
        A::key(sent).is_none_or(|key| key.src == A::vip())
    }

    /// A tuple comes into use for a connection that has another, or had none.
    fn take_tuple(&self, inner: &FlowKey<A>) {
        let tuple = tuple(inner);
        assert!(!self.sim.switch.has(&tuple), "{tuple:?} is in the switch");
        if let Some(&last) = self.used.get(&tuple) {
            let rested = self.sim.now.since(last);
            assert!(rested >= QUARANTINE, "{tuple:?} came back after {rested} ms");
        }
    }

    fn again(&mut self, at: usize, forgets: bool) {
        let (isn, link) = (self.random(), &mut self.links[at]);
        if link.outer.proto == Proto::Tcp && (forgets || link.client.over()) {
            link.client = End::new(isn);
            self.act(at, true, 0, true);
        }
    }

    fn jump(&mut self, at: usize, by: u32) {
        let link = &mut self.links[at];
        let Some(inner) = link.inner.filter(|_| link.outer.proto == Proto::Tcp) else { return };
        let forwarded = self.sim.switch.has(&tuple(&inner)) && link.client.received > 0 && link.server.received > 0;
        if forwarded && !link.client.fin && !link.server.fin && link.client.acked == link.client.next {
            link.client.isn = link.client.isn.wrapping_add(by);
            link.server.isn = link.server.isn.wrapping_add(by.rotate_left(7));
        }
    }

    /// One that ends ignore: they check better.
    fn forge(&mut self, at: usize, client: bool, flags: TcpFlags, seq: u32) {
        let link = &self.links[at];
        let Some(inner) = link.inner.filter(|_| link.outer.proto == Proto::Tcp) else { return };
        let seg = Seg { flags, seq, ack: seq.rotate_left(9), len: 0 };
        if self.sim.now.since(link.last) < u64::from(TIMEOUT) {
            self.send(at, client, &inner, seg);
        }
    }

    /// What an end does next. With `lossy` the packet may be lost on either side of the balancer.
    fn act(&mut self, at: usize, client: bool, act: u8, lossy: bool) {
        if self.links[at].outer.proto == Proto::Udp {
            return self.datagram(at, client);
        }
        let link = &mut self.links[at];
        let peer_isn = link.peer_isn(client);
        // No server acknowledges a SYN that it did not get.
        let unheard = link.server.acked == 0 && link.heard != link.client.isn;
        let end = if client { &mut link.client } else { &mut link.server };
        if end.dead || !client && (end.received == 0 || unheard) {
            return;
        }
        let opening = end.acked == 0;
        if !opening && end.received > 0 && act < 4 {
            end.dead = true;
            let seg = Seg { flags: RST, seq: end.isn.wrapping_add(end.next), ack: 0, len: 0 };
            return self.deliver(at, client, seg, lossy);
        }
        if opening {
            end.next = 1;
        } else if end.acked == end.next && !end.fin && end.received > 0 {
            match act % 8 {
                0..=3 => end.next += 1 + u32::from(act) * 5,
                4 if act > 64 => (end.next, end.fin) = (end.next + 1, true),
                _ => {}
            }
        }
        let seg = end.seg(peer_isn);
        self.deliver(at, client, seg, lossy);
    }

    fn datagram(&mut self, at: usize, client: bool) {
        let link = &mut self.links[at];
        if !client && link.ups == 0 {
            return;
        }
        let sent = if client {
            link.ups += 1;
            let bytes = from_router(link.outer).payload(b"question").bytes();
            self.through(FRONT, &bytes)
        } else {
            link.downs += 1;
            let inner = link.inner.expect("the server got something");
            let bytes = from_server(&self.sim, &inner).payload(b"answer").bytes();
            let back = self.sim.world.back();
            self.through(back, &bytes)
        };
        let link = &mut self.links[at];
        link.proven = link.ups >= 2 && link.downs >= 1;
        self.came_out(at, client, sent, false);
    }

    /// Sends a segment through the balancer and to the other end, which may answer.
    fn deliver(&mut self, at: usize, client: bool, seg: Seg, lossy: bool) {
        let (mut from_client, mut seg) = (client, seg);
        // An answer to an answer, and so on; no longer than the longest there is.
        for _ in 0..8 {
            if lossy && self.chance(1, 12) {
                return;
            }
            let outer = self.links[at].outer;
            let inner = self.links[at].inner;
            let out = match inner {
                Some(inner) => self.send(at, from_client, &inner, seg),
                None => self.send(at, true, &outer, seg),
            };
            let Some(out) = out else { return };
            if self.links.get(at).is_none_or(|link| link.outer != outer) {
                return;
            }
            if lossy && self.chance(1, 12) {
                return;
            }
            self.note_toa(at, from_client, &out);
            let Some(answer) = self.receive(at, from_client, seg) else { return };
            (from_client, seg) = (!from_client, answer);
        }
    }

    /// A server's handshake is completed by the first segment without SYN: it must carry the client's address.
    fn note_toa(&mut self, at: usize, client: bool, out: &[u8]) {
        let flow = A::flow(out).expect("a segment");
        if !self.toa || !client || flow.flags.any(SYN | RST) {
            return;
        }
        let link = &mut self.links[at];
        let address = toa::decode(tcp::option_bytes(out, &flow));
        let is = SocketAddr::new(link.outer.src.into(), link.outer.sport);
        assert!(address.is_none_or(|address| address == is));
        let completes = !link.server.dead && link.server.acked == 0;
        assert!(address.is_some() || link.told || !completes, "the server is not told: {link:?}");
        link.told |= address.is_some();
        link.told_once |= address.is_some();
    }

    /// Sends a segment; what comes out on the other side.
    fn send(&mut self, at: usize, client: bool, inner: &FlowKey<A>, seg: Seg) -> Option<Vec<u8>> {
        self.segments += 1;
        let payload = vec![seg.flags.0; seg.len as usize];
        let shape = |build: Build<A>| build.flags(seg.flags).seq(seg.seq).ack(seg.ack).payload(&payload);
        let held_back = self.sim.books().get("drop.offload_removing").copied().unwrap_or(0);
        let sent = if client {
            let bytes = shape(from_router(self.links[at].outer)).bytes();
            self.through(FRONT, &bytes)
        } else {
            let bytes = shape(from_server(&self.sim, inner)).bytes();
            let back = self.sim.world.back();
            self.through(back, &bytes)
        };
        let now_held = self.sim.books().get("drop.offload_removing").copied().unwrap_or(0);
        if now_held > held_back {
            assert!(seg.flags.has(SYN) && sent.is_empty(), "{seg:?} was held back");
            self.held_back += 1;
            return None;
        }
        let handshake = client && seg.flags.has(ACK) && !seg.flags.any(SYN | RST | FIN);
        let link = &mut self.links[at];
        if handshake && link.inner.is_some() && link.client.received > 0 && seg.seq.wrapping_sub(link.client.isn) > 0 {
            link.proven = true;
        }
        self.came_out(at, client, sent, seg.flags.has(SYN) && !seg.flags.has(ACK) && client)
    }

    /// Checks what came out for a packet of a live connection: it takes the way of all others.
    fn came_out(&mut self, at: usize, client: bool, sent: Vec<Vec<u8>>, opens: bool) -> Option<Vec<u8>> {
        let link = &self.links[at];
        let fresh = link.inner.is_none() || opens;
        if fresh && sent.is_empty() {
            // Ports are those of half-open sessions. `end` knows that this is why.
            self.links.swap_remove(at);
            return None;
        }
        let [out] = &sent[..] else { panic!("{} frames for {link:?}", sent.len()) };
        assert_right(out);
        if fresh && self.is_answer(out) {
            // No port is free.
            self.links.swap_remove(at);
            return None;
        }
        let flow = A::flow(out).expect("a packet");
        assert_eq!(flow.ttl, 63);
        let (was, outer) = (link.inner, link.outer);
        self.links[at].last = self.sim.now;
        if !client {
            assert_eq!(flow.key, outer.reversed());
            let inner = was.expect("a server that answers");
            self.used.insert(tuple(&inner), self.sim.now);
            return Some(out.clone());
        }
        if was != Some(flow.key) {
            assert!(fresh, "{:?} instead of {was:?}", flow.key);
            self.take_tuple(&flow.key);
            let isn = self.random();
            let link = &mut self.links[at];
            (link.inner, link.proven, link.told, link.told_once) = (Some(flow.key), false, false, false);
            link.server = End { dead: true, ..End::new(isn) };
        }
        self.used.insert(tuple(&flow.key), self.sim.now);
        Some(out.clone())
    }

    /// The other end gets a segment; its answer.
    fn receive(&mut self, at: usize, from_client: bool, seg: Seg) -> Option<Seg> {
        let isn = self.random();
        let link = &mut self.links[at];
        let peer_isn = link.peer_isn(!from_client);
        if !from_client {
            return link.client.take(seg, peer_isn);
        }
        if seg.flags.has(SYN) {
            link.heard = seg.seq;
        }
        if let Some(answer) = link.server.accept(seg, peer_isn, isn) {
            link.told = false;
            return Some(answer);
        }
        link.server.take(seg, peer_isn)
    }

    fn through(&mut self, iface: fullnat::id::IfaceId, frame: &[u8]) -> Vec<Vec<u8>> {
        self.sim.lands_on = self.random() as usize % self.sim.workers.len();
        let evicted = |sim: &Sim| sim.books().get("half_open_evicted").copied().unwrap_or(0);
        let before = evicted(&self.sim);
        let mut sent: Vec<_> = self.sim.rx(iface, frame).into_iter().map(|sent| sent.bytes).collect();
        if evicted(&self.sim) > before {
            // The RST comes before the packet that was given the port.
            let reset = A::flow(&sent.remove(0)).expect("a segment");
            assert!(reset.flags == RST && sent.len() == 1, "{reset:?}, {sent:02x?}");
            self.evicted(&reset.key);
        }
        sent
    }

    /// The server was told to forget a connection, which was given up for another.
    fn evicted(&mut self, inner: &FlowKey<A>) {
        self.used.remove(&tuple(inner));
        if let Some(link) = self.links.iter_mut().find(|link| link.inner.as_ref() == Some(inner)) {
            assert!(!link.proven && link.outer.proto == Proto::Tcp, "given up: {link:?}");
            link.inner = None;
            (link.client.dead, link.server.dead) = (true, true);
        }
    }

    /// Entries and sessions agree, as far as they must at any moment.
    fn check(&mut self) {
        let mut sessions = HashMap::new();
        for (worker, all) in self.sim.sessions_by_worker().into_iter().enumerate() {
            for session in all {
                let known = self.manager.knows((worker, session.place));
                let asked =
                    self.sim.workers[worker].requests.iter().any(|request| request.place() == Some(session.place));
                assert!(known || asked || session.offload == With::None, "nobody will answer for {session:?}");
                sessions.insert((worker, session.place), session);
            }
        }
        for (id, ends) in self.sim.switch.entries() {
            let session = sessions.get(&id).unwrap_or_else(|| panic!("an entry of no session: {ends:?}"));
            assert_ne!(session.offload, With::None, "an entry nobody knows of: {ends:?}");
            let own = (session.proto, session.server, session.local);
            assert_eq!(key(ends, Direction::Outbound), own);
        }
        let gauge = |with| sessions.values().filter(|session| session.offload == with).count() as u64;
        let counted: u64 = self.sim.workers.iter().map(|worker| worker.counters.offload.sessions.get()).sum();
        assert_eq!(counted, gauge(With::Offloaded));
        assert_eq!(self.sim.world.active_in_all() as usize, sessions.len());
        assert_eq!(self.sim.books().get("offload.ignored"), None, "a verdict out of place");
    }

    /// Nobody sends any more: after a while nothing is left.
    pub fn end(&mut self) {
        self.manager.chaos = false;
        for _ in 0..6 {
            self.pause(u64::from(TIMEOUT));
            self.check();
        }
        assert_eq!(self.sim.sessions(), []);
        assert!(self.manager.is_idle() && self.sim.switch.entries().next().is_none());
        assert_eq!((self.sim.world.active_in_all(), self.sim.holds(), self.sim.ports_used().0), (0, 0, 0));
        self.pause(QUARANTINE + 2_000);
        assert_eq!(self.sim.ports_used(), (0, 0));
        let books = self.sim.books();
        let n = |name: &str| books.get(name).copied().unwrap_or(0);
        assert_eq!(n("offload.asked"), n("offload.installed") + n("offload.refused"));
        assert_eq!(n("offload.installed") + n("offload.adopted"), n("offload.removed"));
        assert_eq!((n("offload.installed"), n("offload.refused")), (self.manager.installed, self.manager.refused));
        assert_eq!(books.keys().find(|name| name.starts_with("drop.") && !EXPECTED.contains(&&name[5..])), None);
    }
}

/// Drops that may be: of floods and of clients that have to try again.
const EXPECTED: [&str; 3] = ["offload_removing", "no_local_port", "half_open_full"];

impl<A> Link<A> {
    fn peer_isn(&self, client: bool) -> u32 {
        if client { self.server.isn } else { self.client.isn }
    }
}

/// A frame of the server that gets this key.
fn from_server<A: Net>(sim: &Sim, inner: &FlowKey<A>) -> Build<A> {
    let server = (0..16).find(|&n| A::server(n) == inner.dst).expect("a server");
    Build::new(inner.reversed()).macs(our_mac(sim.world.back()), server_mac(server))
}
