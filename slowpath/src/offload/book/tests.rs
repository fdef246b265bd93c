use fullnat::id::NexthopId;
use fullnat::offload::{Counted, Place, Verdict};
use fullnat::table::SessionIdx;
use runtime_client::Code;

use super::*;
use crate::offload::Forwarded;
use crate::offload::flows::FlowAction;
use crate::offload::testing::{by_ids, ends_v4, ends_v6};

mod adoption;
mod looks;
mod simulation;

const W: WorkerId = WorkerId(3);
const RETRY: u64 = 1000;
const IDLE: u64 = 10_000;

pub(super) fn config() -> BookConfig {
    BookConfig { retry_ms: RETRY, grace_ms: 2000, size: [100, 50], unknown_is_full: true, operations: 64, counts: true }
}

fn ms(ms: u64) -> Moment {
    Moment(ms * 1000)
}

fn place(n: u32) -> Place {
    Place::V4(SessionIdx(n))
}

fn id(n: u32) -> SessionId {
    SessionId::new(W, place(n))
}

fn ready() -> Book {
    let mut book = Book::new(config(), Flows::Plain);
    book.set_writable(true);
    book.set_ready(true);
    book
}

fn hop(id: u16) -> Need {
    Need::Nexthop(NexthopId(id))
}

fn install_with(book: &mut Book, n: u32, now: Moment, reach: Reach) {
    let request = Request::Install { place: place(n), ends: ends_v4(n), idle_ms: IDLE };
    book.request(W, request, now, |_| reach);
}

fn install(book: &mut Book, n: u32, now: Moment) {
    install_with(book, n, now, Reach::Ready);
}

fn ask_remove(book: &mut Book, n: u32, now: Moment) {
    book.request(W, Request::Remove { place: place(n) }, now, |_| Reach::Ready);
}

fn ask_check(book: &mut Book, n: u32, now: Moment) {
    book.request(W, Request::Check { place: place(n) }, now, |_| Reach::Ready);
}

fn writes(book: &mut Book) -> Vec<Write> {
    std::iter::from_fn(|| book.next_write()).collect()
}

fn verdicts(book: &mut Book) -> Vec<Verdict> {
    std::iter::from_fn(|| book.next_verdict())
        .map(|(worker, verdict)| {
            assert_eq!(worker, W);
            verdict
        })
        .collect()
}

fn offload(book: &mut Book, n: u32, now: Moment) {
    install(book, n, now);
    assert_eq!(writes(book), [Write::Insert { id: id(n), ends: ends_v4(n), idle_ms: IDLE }]);
    book.settled(id(n), [End::Applied; 2].into_iter(), now);
    assert_eq!(verdicts(book), [Verdict::Installed(place(n))]);
}

fn entry(n: u32, direction: Direction, packets: u64, quiet_ms: Option<u64>) -> Found {
    let count = Count { packets, bytes: packets * 100 };
    Found { key: FlowKey::of(&ends_v4(n), direction), count, quiet_ms }
}

fn both(n: u32, packets: [u64; 2], quiet_ms: [Option<u64>; 2]) -> Vec<Found> {
    DIRECTIONS.iter().map(|d| entry(n, *d, packets[*d as usize], quiet_ms[*d as usize])).collect()
}

fn counted(packets: [u64; 2]) -> Counted {
    Counted { packets, bytes: packets.map(|n| n * 100) }
}

/// Takes the look there is and ends it so.
fn look(book: &mut Book, found: Option<&[Found]>, now: Moment) {
    let mut looks = Vec::new();
    let look = book.next_looks(10, &mut looks, now);
    assert_eq!(looks.len(), 1);
    book.looked(look, looks.into_iter().map(|(id, _)| id), found, now);
}

fn is_empty(book: &Book) -> bool {
    book.sessions.is_empty()
        && book.v4.is_empty()
        && book.v6.is_empty()
        && book.counts() == SessionCounts::default()
        && book.rooms.iter().all(|room| room.held() == 0)
}

/// An entry that a sweep found; one of nobody is an orphan.
fn sweep(book: &mut Book, found: &Found, does: Option<FlowAction>) {
    if book.sweep_entry(found, does) {
        book.orphan(found.key);
    }
}

#[test]
fn installs_wait_for_their_next_hops() {
    let mut book = ready();
    install_with(&mut book, 1, ms(0), Reach::Pending);
    assert_eq!((writes(&mut book), book.counts().waiting), (vec![], 1));
    book.needs_changed(|_| Reach::Pending);
    book.needs_changed(|need| if *need == hop(1) { Reach::Ready } else { Reach::Pending });
    assert_eq!(writes(&mut book), []);
    book.needs_changed(|_| Reach::Ready);
    assert_eq!(writes(&mut book).len(), 1);
    install_with(&mut book, 2, ms(0), Reach::Pending);
    book.needs_changed(|need| if *need == hop(2) { Reach::None } else { Reach::Ready });
    assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![Verdict::Refused(place(2), RETRY)]));
    install_with(&mut book, 3, ms(0), Reach::None);
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(3), RETRY)]);
    assert_eq!((book.counts().waiting, book.stats.totals.refused_nexthop), (0, 2));
}

#[test]
fn with_too_many_waiting_requests_stay_in_the_rings() {
    let mut book = Book::new(BookConfig { size: [10_000, 0], ..config() }, Flows::Plain);
    book.set_writable(true);
    book.set_ready(true);
    for n in 0..MOST_WAITING as u32 {
        assert!(book.has_room());
        install_with(&mut book, n, ms(0), Reach::Pending);
    }
    assert!(!book.has_room());
    book.set_ready(false);
    assert!(book.has_room());
    assert_eq!(verdicts(&mut book).len(), MOST_WAITING);
    assert!(is_empty(&book));
}

#[test]
fn a_remove_reads_counters_then_deletes_then_tells() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    ask_remove(&mut book, 1, ms(5));
    assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![]));
    look(&mut book, Some(&both(1, [7, 9], [Some(0); 2])), ms(6));
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: Sides::BOTH }]);
    assert_eq!(verdicts(&mut book), []);
    book.settled(id(1), [End::Applied, End::Refused(Code::NotFound)].into_iter(), ms(7));
    assert_eq!(verdicts(&mut book), [Verdict::Removed(place(1), counted([7, 9]))]);
    assert!(is_empty(&book));
    // What crossed it is passed over.
    ask_remove(&mut book, 1, ms(8));
    ask_check(&mut book, 1, ms(8));
    assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![]));
}

#[test]
fn a_remove_goes_on_without_counters_and_until_both_are_gone() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    ask_remove(&mut book, 1, ms(0));
    look(&mut book, None, ms(0));
    assert_eq!(writes(&mut book).len(), 1);
    book.settled(id(1), [End::Applied, End::Unknown].into_iter(), ms(0));
    book.tick(ms(49));
    assert_eq!(writes(&mut book), []);
    book.tick(ms(50));
    let outbound = Sides::NONE.with(Direction::Outbound);
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: outbound }]);
    book.settled(id(1), [End::Refused(Code::Internal)].into_iter(), ms(50));
    book.tick(ms(149));
    assert_eq!(writes(&mut book), []);
    // Without connection it waits.
    book.set_writable(false);
    book.tick(ms(10_000));
    assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![]));
    book.set_writable(true);
    book.tick(ms(10_000));
    assert_eq!(writes(&mut book).len(), 1);
    book.settled(id(1), [End::Refused(Code::NotFound)].into_iter(), ms(10_001));
    assert_eq!(verdicts(&mut book), [Verdict::Removed(place(1), Counted::default())]);
}

#[test]
fn half_an_install_is_undone_before_it_is_refused() {
    let mut book = ready();
    install(&mut book, 1, ms(0));
    writes(&mut book);
    book.settled(id(1), [End::Refused(Code::ResourceExhausted), End::Applied].into_iter(), ms(1));
    assert_eq!(verdicts(&mut book), []);
    let outbound = Sides::NONE.with(Direction::Outbound);
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: outbound }]);
    assert_eq!(
        book.thresholds(Policy::Established),
        [Threshold::Never, Threshold::Packets(0)],
        "the table of IPv4 is full"
    );
    book.settled(id(1), [End::Applied].into_iter(), ms(2));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(1), RETRY)]);
    assert!(is_empty(&book));
}

#[test]
fn an_old_entry_goes_before_the_session_is_refused_for_a_moment() {
    let mut book = ready();
    install(&mut book, 1, ms(0));
    writes(&mut book);
    book.settled(id(1), [End::Refused(Code::AlreadyExists), End::Applied].into_iter(), ms(1));
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: Sides::BOTH }]);
    book.settled(id(1), [End::Applied; 2].into_iter(), ms(2));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(1), SHORT_RETRY_MS)]);
    assert_eq!(book.thresholds(Policy::Established), [Threshold::Packets(0); 2]);
}

/// By ids the target may know an inbound key by its hash alone.
#[test]
fn what_may_be_anothers_entry_is_not_deleted() {
    let mut book = Book::new(config(), by_ids());
    book.set_writable(true);
    book.set_ready(true);
    install(&mut book, 1, ms(0));
    writes(&mut book);
    book.settled(id(1), [End::Refused(Code::AlreadyExists), End::Applied].into_iter(), ms(1));
    let outbound = Sides::NONE.with(Direction::Outbound);
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: outbound }]);
    book.settled(id(1), [End::Applied].into_iter(), ms(2));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(1), RETRY)]);
    assert_eq!((book.stats.totals.refused_hash, book.stats.totals.already_there), (1, 0));
    assert!(is_empty(&book));
    // Neither is applied, and the outbound key is whole: an old entry of it goes.
    install(&mut book, 1, ms(300));
    writes(&mut book);
    book.settled(id(1), [End::Refused(Code::AlreadyExists); 2].into_iter(), ms(301));
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: outbound }]);
    // What is there of an old one, the sweep finds: by then it is nobody's.
    book.settled(id(1), [End::Applied].into_iter(), ms(302));
    book.sweep_begin();
    let mut flows = by_ids();
    assert!(flows.take(&ends_v4(1)));
    let key = flows.key(&ends_v4(1), Direction::Inbound);
    assert!(book.sweep_entry(&Found { key, count: Count::default(), quiet_ms: None }, None));
}

#[test]
fn what_was_not_sent_or_clearly_refused_needs_no_undoing() {
    let mut book = ready();
    for (end, again) in [(End::NotSent, 1), (End::Refused(Code::PermissionDenied), 2)] {
        install(&mut book, again, ms(0));
        writes(&mut book);
        book.settled(id(again), [end; 2].into_iter(), ms(0));
        assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![Verdict::Refused(place(again), RETRY)]));
    }
    assert_eq!(book.stats.totals.not_sent, 1);
    assert!(is_empty(&book));
}

#[test]
fn an_install_nobody_knows_of_is_undone_twice() {
    let mut book = ready();
    install(&mut book, 1, ms(0));
    writes(&mut book);
    book.settled(id(1), [End::Unknown; 2].into_iter(), ms(100));
    let delete = Write::Delete { id: id(1), ends: ends_v4(1), sides: Sides::BOTH };
    assert_eq!(writes(&mut book), [delete]);
    book.settled(id(1), [End::Refused(Code::NotFound); 2].into_iter(), ms(200));
    book.tick(ms(2199));
    assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![]));
    book.tick(ms(2200));
    assert_eq!(writes(&mut book), [delete]);
    // It was applied late.
    book.settled(id(1), [End::Applied, End::Refused(Code::NotFound)].into_iter(), ms(2300));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(1), RETRY)]);
    assert!(is_empty(&book));
}

#[test]
fn the_gate_is_closed_without_target_and_without_room() {
    let mut book = Book::new(BookConfig { size: [4, 50], ..config() }, Flows::Plain);
    assert_eq!(book.thresholds(Policy::Established), [Threshold::Never; 2]);
    install(&mut book, 9, ms(0));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(9), RETRY)]);
    book.set_writable(true);
    book.set_ready(true);
    assert_eq!(book.thresholds(Policy::Bytes(7)), [Threshold::Bytes(7); 2]);
    offload(&mut book, 1, ms(0));
    offload(&mut book, 2, ms(0));
    install(&mut book, 3, ms(0));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(3), RETRY)]);
    // IPv6 has a table of its own.
    assert_eq!(book.thresholds(Policy::Established), [Threshold::Never, Threshold::Packets(0)]);
    let ends = ends_v6(1);
    book.request(W, Request::Install { place: Place::V6(SessionIdx(1)), ends, idle_ms: IDLE }, ms(0), |_| Reach::Ready);
    assert_eq!(writes(&mut book).len(), 1);
    ask_remove(&mut book, 1, ms(0));
    look(&mut book, None, ms(0));
    writes(&mut book);
    book.settled(id(1), [End::Applied; 2].into_iter(), ms(0));
    assert_eq!(book.thresholds(Policy::Established), [Threshold::Packets(0); 2]);
    book.set_writable(false);
    assert_eq!(book.thresholds(Policy::Established), [Threshold::Never; 2]);
}

#[test]
fn a_key_that_is_anothers_is_refused() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    let request = Request::Install { place: place(2), ends: ends_v4(1), idle_ms: IDLE };
    book.request(WorkerId(4), request, ms(0), |_| Reach::Ready);
    assert_eq!(book.next_verdict(), Some((WorkerId(4), Verdict::Refused(place(2), SHORT_RETRY_MS))));
    assert!(book.offloaded(id(1)).is_some());
    install(&mut book, 1, ms(0));
    assert_eq!((book.stats.totals.misplaced, verdicts(&mut book)), (1, vec![]));
}

#[test]
fn a_look_of_an_earlier_session_says_nothing_of_the_next() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    ask_check(&mut book, 1, ms(1));
    let mut looks = Vec::new();
    let old = book.next_looks(10, &mut looks, ms(1));
    ask_remove(&mut book, 1, ms(2));
    look(&mut book, Some(&both(1, [1, 1], [None; 2])), ms(2));
    writes(&mut book);
    book.settled(id(1), [End::Applied; 2].into_iter(), ms(2));
    verdicts(&mut book);
    offload(&mut book, 1, ms(3));
    ask_check(&mut book, 1, ms(3));
    book.looked(old, [id(1)].into_iter(), Some(&[]), ms(4));
    assert_eq!((writes(&mut book), verdicts(&mut book)), (vec![], vec![]));
    assert!(book.wants_looks());
}

#[test]
fn news_are_what_the_worker_does_not_know() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    ask_check(&mut book, 1, ms(1));
    look(&mut book, Some(&both(1, [5, 6], [None; 2])), ms(1));
    let news = book.news(&both(1, [7, 6], [None; 2]));
    assert_eq!(news.get(&id(1)), Some(&Forwarded { total: counted([7, 6]), untold: counted([2, 0]) }));
    assert!(book.news(&both(2, [1, 1], [None; 2])).is_empty());
}

#[test]
fn a_sweep_finds_what_is_missing_and_what_is_too_much() {
    let mut book = ready();
    for n in 1..=3 {
        offload(&mut book, n, ms(0));
    }
    book.sweep_begin();
    // Installed after the read began, so not in it.
    offload(&mut book, 4, ms(1));
    install(&mut book, 5, ms(1));
    for n in [1, 2, 9] {
        for direction in DIRECTIONS {
            sweep(&mut book, &entry(n, direction, 0, None), Some(FlowAction::of(&ends_v4(n), direction)));
        }
    }
    // One of it does something else.
    for direction in DIRECTIONS {
        let does = FlowAction::of(&ends_v4(3), Direction::Inbound);
        sweep(&mut book, &entry(3, direction, 0, None), Some(does));
    }
    assert_eq!(book.orphans_gone(), None);
    book.sweep_end(ms(2));
    let written = writes(&mut book);
    let ofs: Vec<_> = written
        .iter()
        .map(|write| match write {
            Write::Orphan { key, .. } => (0, Some(*key)),
            Write::Insert { id, .. } => (1, Some(FlowKey::of(&ends_v4(id.number() as u32), Direction::Inbound))),
            Write::Delete { id, .. } => (2, Some(FlowKey::of(&ends_v4(id.number() as u32), Direction::Inbound))),
        })
        .collect();
    let key = |n, direction| Some(FlowKey::of(&ends_v4(n), direction));
    let inbound = Direction::Inbound;
    assert_eq!(
        ofs,
        [(1, key(5, inbound)), (0, key(9, inbound)), (0, key(9, Direction::Outbound)), (2, key(3, inbound))]
    );
    // While an orphan is being deleted nobody gets its key.
    install(&mut book, 9, ms(3));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(9), SHORT_RETRY_MS)]);
    book.orphan_settled(1, End::Applied);
    assert_eq!(book.orphans_gone(), None);
    book.orphan_settled(2, End::Unknown);
    assert_eq!(book.orphans_gone(), Some(false));
    book.sweep_begin();
    assert_eq!(book.orphans_gone(), Some(true));
    assert_eq!((book.stats.totals.orphans, book.stats.totals.lost), (1, 1));
}

#[test]
fn a_target_that_lost_everything_gives_everything_back() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    offload(&mut book, 2, ms(0));
    ask_remove(&mut book, 2, ms(0));
    install(&mut book, 3, ms(0));
    writes(&mut book);
    book.set_writable(false);
    book.settled(id(3), [End::Unknown; 2].into_iter(), ms(1));
    book.set_writable(true);
    book.wiped(ms(1));
    assert_eq!(verdicts(&mut book), [Verdict::Removed(place(1), Counted::default())]);
    book.tick(ms(1));
    look(&mut book, None, ms(1));
    assert_eq!(writes(&mut book).len(), 2);
    for n in [2, 3] {
        book.settled(id(n), [End::Refused(Code::NotFound); 2].into_iter(), ms(2));
    }
    assert_eq!(verdicts(&mut book), [Verdict::Removed(place(2), Counted::default())]);
    book.tick(ms(2002));
    writes(&mut book);
    book.settled(id(3), [End::Refused(Code::NotFound); 2].into_iter(), ms(2003));
    assert_eq!(verdicts(&mut book), [Verdict::Refused(place(3), RETRY)]);
    assert!(is_empty(&book));
}
