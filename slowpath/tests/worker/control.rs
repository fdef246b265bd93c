//! What control asks workers: plans, sessions in pages, ports.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use carom::control::{Link, SessionFilter, Silent};
use fullnat::forward::{Prepared, SessionView};
use fullnat::id::WorkerId;

use crate::rig::{Rig, client, plan, request};

/// Runs a question to a worker to its end, with a round of the workers between two looks.
fn ask<T>(rig: &mut Rig, question: impl AsyncFnOnce(&mut Link) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut link = rig.links.remove(0);
    let answer = runtime.block_on(async {
        let mut asked = pin!(question(&mut link));
        std::future::poll_fn(|context: &mut Context<'_>| match asked.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => {
                rig.poll();
                Poll::Pending
            }
        })
        .await
    });
    rig.links.insert(0, link);
    answer
}

fn with_sessions(count: u16) -> Rig {
    let mut rig = Rig::new(1, 4096);
    for n in 0..count {
        rig.rx[0].borrow_mut().frames.push_back(request((n % 50) as u8, 4000 + n / 50));
    }
    while !rig.rx[0].borrow().frames.is_empty() {
        rig.poll();
    }
    rig.sent();
    rig
}

fn page(rig: &mut Rig, filter: &SessionFilter, cursor: u64, limit: usize) -> (Vec<SessionView>, Option<u64>) {
    let mut sessions = Vec::new();
    let next = ask(rig, async |link| link.sessions(filter.clone(), cursor, limit, |view| sessions.push(view)).await);
    (sessions, next.expect("the worker answers"))
}

#[test]
fn sessions_come_in_pages_each_once() {
    let mut rig = with_sessions(700);
    for limit in [1, 7, 100, 699, 700, 5000] {
        let (mut all, mut cursor) = (BTreeSet::new(), Some(0));
        while let Some(at) = cursor {
            let (sessions, next) = page(&mut rig, &SessionFilter::default(), at, limit);
            assert!(sessions.len() <= limit);
            for view in sessions {
                assert!(all.insert((view.client, view.local)), "{view:?} twice");
            }
            cursor = next;
        }
        assert_eq!(all.len(), 700, "pages of {limit}");
    }
}

#[test]
fn sessions_are_filtered_by_the_worker() {
    let mut rig = with_sessions(200);
    let mut count = |filter: SessionFilter| page(&mut rig, &filter, 0, 1000).0.len();
    assert_eq!(count(SessionFilter { client: Some((client(3).into(), 32)), ..SessionFilter::default() }), 4);
    assert_eq!(count(SessionFilter { client: Some((client(0).into(), 29)), ..SessionFilter::default() }), 32);
    assert_eq!(count(SessionFilter { state: Some("udp".into()), ..SessionFilter::default() }), 200);
    assert_eq!(count(SessionFilter { state: Some("established".into()), ..SessionFilter::default() }), 0);
    assert_eq!(count(SessionFilter { servers: Some(vec![]), ..SessionFilter::default() }), 0);
}

#[test]
fn ports_are_counted() {
    let mut rig = with_sessions(200);
    let mut ports = Vec::new();
    ask(&mut rig, async |link| link.ports(|view| ports.push(view)).await).expect("the worker answers");
    assert_eq!(ports.len(), 1);
    assert_eq!((ports[0].in_use, ports[0].quarantined, ports[0].total), (200, 0, 64_511));
}

#[test]
fn a_plan_is_taken_and_the_old_one_comes_back() {
    let mut rig = with_sessions(10);
    let next = plan(2, &rig.shared, 0);
    let prepared = Prepared::new(Arc::clone(&next), None, WorkerId(0));
    ask(&mut rig, async |link| link.set_plan(prepared, 1).await).expect("the worker answers");
    assert_eq!(Arc::strong_count(&next), 2, "the worker's and ours");
    let again = Prepared::new(Arc::clone(&next), None, WorkerId(0));
    ask(&mut rig, async |link| link.set_plan(again, 2).await).expect("the same plan once more");
    assert_eq!(Arc::strong_count(&next), 2);
    assert_eq!(page(&mut rig, &SessionFilter::default(), 0, 100).0.len(), 10, "sessions stay");
    assert_eq!(rig.shared.active(), 10);
}

#[test]
fn a_worker_that_is_stuck_is_told_of_and_its_late_answers_are_not_mistaken() {
    let mut rig = with_sessions(3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let all = SessionFilter::default;
    let silent = runtime.block_on(async { rig.links[0].sessions(all(), 0, 10, |_| panic!("nobody polls")).await });
    assert_eq!(silent, Err(Silent));
    rig.poll();
    let filter = SessionFilter { client: Some((client(1).into(), 32)), ..all() };
    let (sessions, next) = page(&mut rig, &filter, 0, 10);
    assert_eq!((sessions.len(), next), (1, None));
}
