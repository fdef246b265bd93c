//! Which sessions a worker asks the offload manager for, and when.

use fullnat::id::Proto;
use fullnat::offload::{Request, State as With, Threshold, Verdict};
use fullnat::tcp::State;
use fullnat::wire::TcpFlags;

use crate::both_families;
use crate::offload::{ACK, NOTHING, SYN_ACK, asked, now_with, sim, sim_with};
use crate::sim::{Options, Sim};
use crate::talk::{Talk, segment};
use crate::world::{FRONT, Net, World};

fn not_eligible<A: Net>() {
    // MTUs that differ, and a server whose MAC address is not known.
    let mut narrow = sim_with(World { mtu: [1500, 1400], ..World::default() }, Threshold::Packets(0));
    Talk::<A>::established(&mut narrow, 1, 4000);
    assert_eq!(asked(&mut narrow), []);
    let options = Options { offload: None, ..Options::default() };
    let mut without = Sim::quiet_with(World::default(), options);
    Talk::<A>::established(&mut without, 1, 4000);
    let mut never = sim_with(World::default(), Threshold::Never);
    let talk = Talk::<A>::established(&mut never, 1, 4000);
    assert_eq!((asked(&mut without), asked(&mut never)), (vec![], vec![]));
    never.gate.as_ref().unwrap().set([Threshold::Packets(5); 2]);
    talk.up(&mut never, segment(true, ACK, 1, 1, b"4"));
    assert_eq!(asked(&mut never), []);
    talk.up(&mut never, segment(true, ACK, 2, 1, b"5"));
    assert_eq!(asked(&mut never).len(), 1);
}

#[test]
fn what_the_target_cannot_forward_or_is_not_worth_it_stays() {
    both_families!(not_eligible);
}

fn thresholds<A: Net>() {
    let mut bytes = sim_with(World::default(), Threshold::Bytes(10_000));
    let talk = Talk::<A>::established(&mut bytes, 1, 4000);
    let len = talk.client_sends(&segment(true, ACK, 1, 1, &[0; 1000])).bytes().len();
    let handshake = talk.client_sends(&segment(true, ACK, 1, 1, b"")).bytes().len();
    for n in 1..=10 {
        talk.up(&mut bytes, segment(true, ACK, 1, 1, &[0; 1000]));
        assert_eq!(asked(&mut bytes).len(), usize::from(handshake + n * len >= 10_000), "{n}");
        if handshake + n * len >= 10_000 {
            break;
        }
    }
    assert_eq!(now_with(&bytes), With::Installing);

    let mut rate = sim_with(World::default(), Threshold::PacketsPerSecond(5));
    rate.advance(1_000 - rate.now.0 % 1_000);
    let talk = Talk::<A>::established(&mut rate, 1, 4000);
    for _ in 0..12 {
        rate.advance(300);
        talk.up(&mut rate, segment(true, ACK, 1, 1, b"slow"));
        assert_eq!(asked(&mut rate), []);
    }
    rate.advance(1_000 - rate.now.0 % 1_000);
    for n in 1..=5 {
        talk.up(&mut rate, segment(true, ACK, 1, 1, b"fast"));
        assert_eq!(asked(&mut rate).len(), usize::from(n == 5));
    }
}

#[test]
fn thresholds_are_of_packets_bytes_or_packets_in_a_second() {
    both_families!(thresholds);
}

fn udp<A: Net>() {
    let mut sim = sim();
    let (talk, _) = Talk::<A>::open(&mut sim, Proto::Udp, 1, 4000);
    for _ in 0..5 {
        talk.up(&mut sim, |b| b.payload(b"one way"));
    }
    assert_eq!(asked(&mut sim), []);
    talk.down(&mut sim, |b| b.payload(b"answer"));
    let [Request::Install { place, idle_ms: 300_000, .. }] = asked(&mut sim)[..] else { panic!() };
    sim.verdict(0, Verdict::Installed(place));
    let (once, _) = Talk::<A>::open(&mut sim, Proto::Udp, 2, 4000);
    once.down(&mut sim, |b| b.payload(b"answer"));
    once.down(&mut sim, |b| b.payload(b"answer"));
    assert_eq!(asked(&mut sim), [], "a question and its answers");
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    sim.skip(300_000 + 256);
    assert_eq!(sim.sessions(), []);
}

#[test]
fn udp_is_installed_once_both_ends_are_known_to_talk() {
    both_families!(udp);
}

fn toa<A: Net>() {
    let mut sim = sim_with(World { toa: true, ..World::default() }, Threshold::Packets(0));
    let outer = crate::talk::outer::<A>(Proto::Tcp, 1, 4000);
    let up = |sim: &mut Sim, flags, at, acked, data: &[u8]| {
        let shape = segment(true, flags, at, acked, data);
        let sent = sim.rx_one(FRONT, &shape(crate::talk::from_router(outer)).bytes());
        A::key(&sent.bytes).unwrap()
    };
    let inner = up(&mut sim, TcpFlags::SYN, 0, 0, b"");
    let server = (0..16).find(|&n| A::server(n) == inner.dst).unwrap();
    let talk = Talk { outer, inner, server };
    let down = |sim: &mut Sim, flags, at, acked| {
        let bytes = talk.server_sends(sim, &segment(false, flags, at, acked, b"")).bytes();
        sim.rx_one(sim.world.back(), &bytes);
    };
    down(&mut sim, SYN_ACK, 0, 1);
    up(&mut sim, ACK, 1, 1, b"");
    up(&mut sim, ACK, 1, 1, b"an upload to a silent server");
    down(&mut sim, ACK, 1, 1);
    assert_eq!((sim.session().state, asked(&mut sim)), (State::Established, vec![]));
    down(&mut sim, ACK, 1, 29);
    assert_eq!(asked(&mut sim).len(), 1);
}

#[test]
fn the_server_must_know_the_client_first() {
    both_families!(toa);
}
