use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::*;

const REMOTE: Remote<Ipv4Addr> = Remote { proto: Proto::Tcp, rip: Ipv4Addr::new(10, 0, 0, 1), rport: RPort(80) };

fn pool(lips: &[Ipv4Addr], ports: RangeInclusive<u16>) -> Pool<'_, Ipv4Addr> {
    Pool { index: 0, generation: 1, lips, ports }
}

#[test]
fn addresses_take_turns_and_every_port_is_given_once() {
    let lips = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    let mut spaces = PortSpaces::new(60_000, 1);
    let pool = pool(&lips, 1025..=2024);
    let mut seen = HashSet::new();
    for n in 0..2000 {
        let lease = spaces.allocate(&pool, REMOTE, Time(0), |_, _| true).unwrap();
        assert_eq!(lease.lip, lips[n % 2]);
        assert!((1025..=2024).contains(&lease.lport.0));
        assert!(seen.insert((lease.lip, lease.lport)));
    }
    assert_eq!(spaces.allocate(&pool, REMOTE, Time(0), |_, _| true), Err(Exhausted));
    let other = Remote { rport: RPort(81), ..REMOTE };
    assert!(spaces.allocate(&pool, other, Time(0), |_, _| true).is_ok(), "another server has its own ports");
}
