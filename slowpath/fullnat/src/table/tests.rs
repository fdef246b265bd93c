use super::*;
use crate::ports::PortSpaceId;
use crate::testing::session;

fn table(max: usize) -> SessionTable<std::net::Ipv4Addr> {
    SessionTable::new(max, FlowHasher::new(1, 2), Time(0))
}

fn cold(n: u32) -> Cold {
    Cold::new(Time(0), PortSpaceId(n))
}

#[test]
fn a_session_is_found_by_both_keys_until_removed() {
    let mut t = table(2);
    let s = session(5, false);
    let idx = t.insert(s.clone(), cold(9), Time(1000)).unwrap();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let key = s.key(direction);
        let hash = t.hash(&key);
        assert_eq!(t.find(&key, hash), Some((idx, direction)));
        assert_eq!(t.resolve(&key, &t.probe(hash)), Some((idx, direction)));
        let reversed = key.reversed();
        assert_eq!(t.find(&reversed, t.hash(&reversed)), None);
    }
    assert_eq!(t.insert(s.clone(), cold(0), Time(0)), Err(InsertError::Duplicate(idx, Direction::Inbound)));
    let (_, removed) = t.remove(idx).unwrap();
    assert_eq!(removed, cold(9));
    assert!(t.remove(idx).is_none() && t.get(idx).is_none() && t.cold(idx).is_none());
    let key = s.key(Direction::Inbound);
    assert_eq!(t.find(&key, t.hash(&key)), None);
    assert!(t.is_empty());
}
