//! What looks at counters and times find.

use super::*;

#[test]
fn idle_is_what_the_target_says_of_both_directions() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    let [inbound, outbound] = DIRECTIONS.map(|direction| FlowKey::of(&ends_v4(1), direction));
    book.notice(&inbound);
    book.notice(&inbound);
    assert!(!book.wants_looks(), "one direction only");
    book.notice(&outbound);
    book.notice(&outbound);
    // Inbound was hit since.
    look(&mut book, Some(&both(1, [3, 3], [Some(4000), Some(IDLE)])), ms(12_000));
    assert_eq!(verdicts(&mut book), [Verdict::Active(place(1), counted([3, 3]))]);
    assert!(!book.wants_looks());
    // Outbound's notice holds.
    book.notice(&inbound);
    look(&mut book, Some(&both(1, [3, 3], [Some(IDLE), Some(IDLE + 5000)])), ms(18_000));
    assert_eq!(verdicts(&mut book), [Verdict::Idle(place(1), Counted::default())]);
    book.notice(&FlowKey::of(&ends_v4(77), Direction::Inbound));
    assert_eq!((book.stats.totals.notices, book.stats.totals.idle), (6, 1));
}

#[test]
fn idle_by_counters_takes_two_looks_a_timeout_apart() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    let quiet = [None; 2];
    ask_check(&mut book, 1, ms(10_000));
    look(&mut book, Some(&both(1, [1, 0], quiet)), ms(10_000));
    assert_eq!(verdicts(&mut book), [Verdict::Active(place(1), counted([1, 0]))]);
    // Too early to tell.
    ask_check(&mut book, 1, ms(12_000));
    look(&mut book, Some(&both(1, [1, 0], quiet)), ms(12_000));
    assert_eq!(verdicts(&mut book), [Verdict::Active(place(1), Counted::default())]);
    ask_check(&mut book, 1, ms(20_000));
    look(&mut book, Some(&both(1, [1, 0], quiet)), ms(20_000));
    assert_eq!(verdicts(&mut book), [Verdict::Idle(place(1), Counted::default())]);
    // An answer is no newer than the question.
    offload(&mut book, 4, ms(0));
    ask_check(&mut book, 4, ms(10_000));
    look(&mut book, Some(&both(4, [1, 0], quiet)), ms(10_000));
    ask_check(&mut book, 4, ms(11_000));
    let mut looks = Vec::new();
    let late = book.next_looks(10, &mut looks, ms(11_000));
    book.looked(late, [id(4)].into_iter(), Some(&both(4, [1, 0], quiet)), ms(30_000));
    let active = [counted([1, 0]), Counted::default()].map(|counted| Verdict::Active(place(4), counted));
    assert_eq!(verdicts(&mut book), active);
    // A session that was never hit is as idle as its worker says.
    offload(&mut book, 2, ms(5_000));
    ask_check(&mut book, 2, ms(6_000));
    look(&mut book, Some(&both(2, [0, 0], quiet)), ms(6_000));
    assert_eq!(verdicts(&mut book), [Verdict::Idle(place(2), Counted::default())]);
    // But for a notice, which may be of an older entry with the same key, it is not.
    offload(&mut book, 3, ms(60_000));
    DIRECTIONS.iter().for_each(|direction| book.notice(&FlowKey::of(&ends_v4(3), *direction)));
    look(&mut book, Some(&both(3, [0, 0], quiet)), ms(61_000));
    assert_eq!(verdicts(&mut book), []);
}

#[test]
fn entries_that_do_not_count_are_idle_by_their_last_hit_alone() {
    let mut book = Book::new(BookConfig { counts: false, ..config() }, Flows::Plain);
    book.set_writable(true);
    book.set_ready(true);
    offload(&mut book, 1, ms(0));
    for (quiet, idle) in [([None; 2], false), ([Some(IDLE), Some(IDLE - 1)], false), ([Some(IDLE); 2], true)] {
        ask_check(&mut book, 1, ms(4 * IDLE));
        look(&mut book, Some(&both(1, [0, 0], quiet)), ms(4 * IDLE));
        let counted = Counted::default();
        let verdict = if idle { Verdict::Idle(place(1), counted) } else { Verdict::Active(place(1), counted) };
        assert_eq!(verdicts(&mut book), [verdict]);
    }
}

#[test]
fn a_check_that_cannot_be_made_says_active() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    ask_check(&mut book, 1, ms(1));
    ask_check(&mut book, 1, ms(2));
    look(&mut book, None, ms(3));
    assert_eq!(verdicts(&mut book), [Verdict::Active(place(1), Counted::default())]);
    assert!(!book.wants_looks());
}

#[test]
fn a_look_that_misses_an_entry_gives_the_session_back() {
    let mut book = ready();
    offload(&mut book, 1, ms(0));
    ask_check(&mut book, 1, ms(1));
    look(&mut book, Some(&[entry(1, Direction::Inbound, 4, None)]), ms(2));
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: Sides::BOTH }]);
    // The worker had enough of it at the same time.
    ask_remove(&mut book, 1, ms(3));
    book.settled(id(1), [End::Applied, End::Refused(Code::NotFound)].into_iter(), ms(4));
    assert_eq!(verdicts(&mut book), [Verdict::Removed(place(1), counted([4, 0]))]);
    assert_eq!(book.stats.totals.lost, 1);
}
