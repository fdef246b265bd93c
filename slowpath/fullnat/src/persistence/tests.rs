use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const RULE: PersistenceRule = PersistenceRule { timeout_ms: 300_000, prefix_v4: 24, prefix_v6: 64 };
const HOUR: u64 = 3_600_000;

fn table(slots: usize) -> Persistence {
    Persistence::new(slots, [1, 2])
}

/// A key of the nth /24.
fn key(t: &Persistence, n: u32) -> ClientKey {
    t.key(ServiceId(1), &RULE, Ipv4Addr::from_bits(n << 8))
}

#[test]
fn clients_of_one_prefix_are_one() {
    let t = table(64);
    let v4 =
        |rule: &PersistenceRule, service, ip: &str| t.key(ServiceId(service), rule, ip.parse::<Ipv4Addr>().unwrap());
    let v6 = |rule: &PersistenceRule, ip: &str| t.key(ServiceId(1), rule, ip.parse::<Ipv6Addr>().unwrap());
    assert_eq!(v4(&RULE, 1, "10.0.0.1"), v4(&RULE, 1, "10.0.0.255"));
    assert_ne!(v4(&RULE, 1, "10.0.0.1"), v4(&RULE, 1, "10.0.1.1"));
    assert_ne!(v4(&RULE, 1, "10.0.0.1"), v4(&RULE, 2, "10.0.0.1"));
    assert_eq!(v6(&RULE, "2001:db8::1"), v6(&RULE, "2001:db8::ffff:0:0:1"));
    assert_ne!(v6(&RULE, "2001:db8::1"), v6(&RULE, "2001:db8:0:1::1"));
    let whole = PersistenceRule { prefix_v4: 32, prefix_v6: 128, ..RULE };
    assert_ne!(v4(&whole, 1, "10.0.0.1"), v4(&whole, 1, "10.0.0.2"));
    assert_ne!(v6(&whole, "::a00:1"), v4(&whole, 1, "10.0.0.1"));
    let all = PersistenceRule { prefix_v4: 0, prefix_v6: 0, ..RULE };
    assert_eq!(v4(&all, 1, "10.0.0.1"), v4(&all, 1, "203.0.113.9"));
    assert_eq!(v6(&all, "::1"), v6(&all, "ffff::"));
}

#[test]
fn a_client_is_remembered_until_the_timeout_after_its_last_connection() {
    let t = table(64);
    let client = key(&t, 7);
    let mut now = Time(5_500);
    assert_eq!(t.get(client, now), None);
    t.set(client, ServerId(65_535), 10_000, now);
    for _ in 0..5 {
        now = now.after(10_000);
        assert_eq!(t.get(client, now), Some(ServerId(65_535)));
        t.set(client, ServerId(65_535), 10_000, now);
    }
    assert_eq!(t.get(client, now.after(10_000)), Some(ServerId(65_535)));
    assert_eq!(t.get(client, now.after(11_000)), None);
    t.set(client, ServerId(3), 10_000, now.after(11_000));
    assert_eq!(t.get(client, now.after(12_000)), Some(ServerId(3)));
}

#[test]
fn another_server_replaces_the_remembered_one() {
    let t = table(8);
    for n in 0..8 {
        t.set(key(&t, n), ServerId(1), HOUR, Time(0));
    }
    for n in 0..8 {
        t.set(key(&t, n), ServerId(n as u16), HOUR, Time(0));
    }
    assert!((0..8).all(|n| t.get(key(&t, n), Time(0)) == Some(ServerId(n as u16))), "no word was used twice");
}

#[test]
fn expired_words_go_first_then_those_that_expire_first() {
    let t = table(8);
    for n in 0..8 {
        t.set(key(&t, n), ServerId(n as u16), HOUR + u64::from(n) * 1000, Time(0));
    }
    t.set(key(&t, 3), ServerId(3), 1000, Time(0));
    let later = Time(60_000);
    t.set(key(&t, 100), ServerId(100), HOUR, later);
    assert_eq!(t.get(key(&t, 100), later), Some(ServerId(100)));
    assert!((0..8).filter(|&n| n != 3).all(|n| t.get(key(&t, n), later).is_some()));
    t.set(key(&t, 101), ServerId(101), 2 * HOUR, later);
    assert_eq!(t.get(key(&t, 0), later), None, "of the valid ones the first to expire went");
    assert!([1, 2, 4, 5, 6, 7, 100, 101].iter().all(|&n| t.get(key(&t, n), later).is_some()));
}

#[test]
fn seconds_wrap_without_harm() {
    let t = table(64);
    let client = key(&t, 1);
    let wrap = Time((1 << 24) * 1000);
    let before = Time(wrap.0 - 60_000);
    t.set(client, ServerId(9), 120_000, before);
    assert_eq!(t.get(client, wrap.after(59_000)), Some(ServerId(9)));
    assert_eq!(t.get(client, wrap.after(61_000)), None);
    // A timeout beyond what the seconds can hold is cut, not wrapped into the past.
    t.set(client, ServerId(9), u64::MAX / 4, before);
    assert_eq!(t.get(client, wrap.after(HOUR)), Some(ServerId(9)));
}

#[test]
fn a_table_at_half_its_room_remembers_nearly_all() {
    let t = table(65_536);
    for n in 0..32_768 {
        t.set(key(&t, n), ServerId(n as u16), HOUR, Time(0));
    }
    let known = (0..32_768).filter(|&n| t.get(key(&t, n), Time(0)) == Some(ServerId(n as u16))).count();
    // Poisson with mean 4 overflows 8 words in 2 % of the sets, by little.
    assert!(known > 32_768 * 98 / 100, "{known}");
    let strangers = (1_000_000..1_100_000).filter(|&n| t.get(key(&t, n), Time(0)).is_some()).count();
    assert!(strangers <= 4, "{strangers} of 100 000 unknown clients are taken for others");
}

/// Workers write and read the same few sets. Whatever they read is the id of a server that was set for that very
/// client: no word is ever a mix of two.
#[test]
fn workers_share_the_table() {
    let t = table(64);
    // Client n is only ever sent to servers n × 16 + worker. Tags differ for all of them.
    let clients: Vec<_> = (0..200).map(|n| key(&t, n)).collect();
    let tags: std::collections::HashSet<_> = clients.iter().map(|c| (c.tag(), c.0 & 7)).collect();
    assert_eq!(tags.len(), clients.len());
    std::thread::scope(|scope| {
        for worker in 0..4u16 {
            let (t, clients) = (&t, &clients);
            scope.spawn(move || {
                let mut hits = 0;
                for round in 0..200_000u64 {
                    let n = (round * 7 + u64::from(worker) * 31) as usize % clients.len();
                    let now = Time(round);
                    if let Some(server) = t.get(clients[n], now) {
                        assert_eq!(usize::from(server.0 / 16), n);
                        hits += 1;
                    }
                    t.set(clients[n], ServerId(n as u16 * 16 + worker), 5_000, now);
                }
                assert!(hits > 1000, "{hits}");
            });
        }
    });
    // Whatever they left behind, what is set last is what is read.
    for (n, &client) in clients.iter().enumerate() {
        t.set(client, ServerId(n as u16), HOUR, Time(0));
        assert_eq!(t.get(client, Time(0)), Some(ServerId(n as u16)));
    }
}
