//! Sessions of an earlier life.

use fullnat::id::IfaceId;

use super::*;

fn pair(n: u32) -> Pair {
    let ends = ends_v4(n);
    let keys = DIRECTIONS.map(|direction| FlowKey::of(&ends, direction));
    Pair { ends, keys, counts: [1, 2].map(|packets| Count { packets, bytes: 60 * packets }) }
}

/// The ticket of the only offer.
fn ticket(book: &mut Book) -> u32 {
    let [Verdict::Adopt(adoption)] = verdicts(book)[..] else { panic!("no offer") };
    assert_eq!((adoption.packets, adoption.back), ([1, 2], IfaceId(1)));
    adoption.ticket
}

fn sweep_both(book: &mut Book, n: u32) -> Vec<bool> {
    DIRECTIONS.iter().map(|d| book.sweep_entry(&entry(n, *d, 0, None), Some(FlowAction::of(&ends_v4(n), *d)))).collect()
}

#[test]
fn an_adopted_session_is_one_like_all_others() {
    let mut book = Book::new(config(), Flows::Plain);
    book.set_writable(true);
    book.sweep_begin();
    assert_eq!(sweep_both(&mut book, 1), [true; 2], "nobody's");
    book.offer(W, pair(1), IfaceId(1));
    let offered = ticket(&mut book);
    book.sweep_end(ms(0));
    // Once more, after a connection that broke.
    book.sweep_begin();
    assert_eq!((sweep_both(&mut book, 1), book.is_answered()), (vec![false; 2], false));
    book.sweep_end(ms(0));
    let nexthops = [NexthopId(1), NexthopId(2)];
    let adopted = Request::Adopted { ticket: offered, place: place(1), nexthops, idle_ms: IDLE, stays: true };
    book.request(W, adopted, ms(5), |_| Reach::Ready);
    assert!(book.is_answered() && book.orphans_gone() == Some(true));
    assert_eq!((book.counts().offloaded, book.room_of(Family::V4).1, writes(&mut book)), (1, 2, vec![]));
    book.set_ready(true);
    // Another on its tuple has to wait, and a sweep finds its entries or gives it back.
    install(&mut book, 1, ms(6));
    assert_eq!((verdicts(&mut book), book.stats.totals.misplaced), (vec![], 1));
    book.sweep_begin();
    assert_eq!(sweep_both(&mut book, 1), [false; 2]);
    book.sweep_end(ms(7));
    assert_eq!(writes(&mut book), []);
    // Its worker hears of what came since.
    ask_remove(&mut book, 1, ms(8));
    look(&mut book, Some(&both(1, [4, 2], [None; 2])), ms(9));
    assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: Sides::BOTH }]);
    book.settled(id(1), [End::Applied; 2].into_iter(), ms(10));
    let [Verdict::Removed(of, counted)] = verdicts(&mut book)[..] else { panic!("not removed") };
    assert_eq!((of, counted.packets), (place(1), [3, 0]));
    assert!(is_empty(&book));
}

#[test]
fn what_is_declined_is_deleted_and_what_does_not_fit_too() {
    let mut book = Book::new(config(), Flows::Plain);
    book.set_writable(true);
    book.sweep_begin();
    book.offer(W, pair(1), IfaceId(1));
    let first = ticket(&mut book);
    book.offer(W, pair(2), IfaceId(1));
    let second = ticket(&mut book);
    book.sweep_end(ms(0));
    book.request(W, Request::Declined { ticket: first }, ms(1), |_| Reach::Ready);
    let nexthops = [NexthopId(1), NexthopId(2)];
    let unfit = Request::Adopted { ticket: second, place: place(2), nexthops, idle_ms: IDLE, stays: false };
    book.request(W, unfit, ms(1), |_| Reach::Ready);
    assert!(book.is_answered());
    let written = writes(&mut book);
    let orphans: Vec<u32> = written
        .iter()
        .filter_map(|write| match write {
            Write::Orphan { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect();
    assert_eq!((orphans.len(), written.len()), (2, 3));
    orphans.into_iter().for_each(|ticket| book.orphan_settled(ticket, End::Applied));
    assert_eq!(book.orphans_gone(), None, "entries that lead elsewhere are still there");
    book.settled(id(2), [End::Applied; 2].into_iter(), ms(2));
    assert_eq!(
        (book.orphans_gone(), verdicts(&mut book)),
        (Some(true), vec![Verdict::Removed(place(2), Counted::default())])
    );
    assert!(is_empty(&book));
    // An answer to what was answered changes nothing.
    book.request(W, Request::Declined { ticket: first }, ms(3), |_| Reach::Ready);
    assert!(is_empty(&book) && writes(&mut book).is_empty());
}

/// The target restarts while a worker makes the session: what it adopts is given back to it at once.
#[test]
fn what_is_adopted_from_a_target_that_lost_it_comes_back() {
    for new in [|| Flows::Plain, by_ids as fn() -> Flows] {
        let mut book = Book::new(config(), new());
        book.set_writable(true);
        book.sweep_begin();
        let keys = {
            let mut flows = new();
            assert!(flows.take(&ends_v4(1)));
            DIRECTIONS.map(|direction| flows.key(&ends_v4(1), direction))
        };
        book.offer(W, Pair { keys, ..pair(1) }, IfaceId(1));
        let offered = ticket(&mut book);
        book.sweep_end(ms(0));
        book.wiped(ms(1));
        book.sweep_begin();
        book.sweep_end(ms(2));
        let nexthops = [NexthopId(1), NexthopId(2)];
        let adopted = Request::Adopted { ticket: offered, place: place(1), nexthops, idle_ms: IDLE, stays: true };
        book.request(W, adopted, ms(3), |_| Reach::Ready);
        assert_eq!(writes(&mut book), [Write::Delete { id: id(1), ends: ends_v4(1), sides: Sides::BOTH }]);
        assert_eq!(book.orphans_gone(), None);
        book.settled(id(1), [End::Refused(Code::NotFound); 2].into_iter(), ms(4));
        assert_eq!(verdicts(&mut book), [Verdict::Removed(place(1), Counted::default())]);
        assert!(is_empty(&book) && book.orphans_gone() == Some(true));
        // What comes later stays.
        book.offer(W, Pair { keys, ..pair(1) }, IfaceId(1));
        let ticket = ticket(&mut book);
        let adopted = Request::Adopted { ticket, place: place(1), nexthops, idle_ms: IDLE, stays: true };
        book.request(W, adopted, ms(5), |_| Reach::Ready);
        assert_eq!((book.counts().offloaded, writes(&mut book)), (1, vec![]));
    }
}
