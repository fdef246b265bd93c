//! Walks over the sessions and ports that control asks for, a few places per round, so that packets never wait.

use std::collections::VecDeque;

use dpdk::Mbuf;
use fullnat::addr::same_prefix;
use fullnat::forward::{Forwarder, SessionView};
use fullnat::time::Time;

use crate::control::{Event, SessionFilter};

/// Places of the table looked at in a round that had packets: a microsecond or two.
const BUSY_STEP: usize = 16;
/// Places looked at in a round that had none.
const IDLE_STEP: usize = 512;

/// What the worker is asked for at the moment.
#[derive(Debug)]
pub struct Query {
    walk: Option<Walk>,
    /// Answers for which the ring had no room yet.
    answers: VecDeque<Event>,
}

#[derive(Debug)]
enum Walk {
    Sessions { filter: SessionFilter, cursor: u64, left: usize },
    Ports { cursor: u64 },
}

impl Default for Query {
    fn default() -> Self {
        // Control asks one question at a time, which has one of these answers; the rest is room for what it gave up on.
        Query { walk: None, answers: VecDeque::with_capacity(8) }
    }
}

impl Query {
    /// Sends this as soon as there is room.
    pub(super) fn answer(&mut self, event: Event) {
        self.answers.push_back(event);
    }

    /// Starts a walk over the sessions, in place of one that goes on.
    pub(super) fn sessions(&mut self, question: u64, filter: SessionFilter, cursor: u64, limit: usize) {
        self.answer(Event::Begin(question));
        self.walk = Some(Walk::Sessions { filter, cursor, left: limit });
    }

    /// Starts a walk over the ports.
    pub(super) fn ports(&mut self, question: u64) {
        self.answer(Event::Begin(question));
        self.walk = Some(Walk::Ports { cursor: 0 });
    }

    /// Goes a step on, as far as the ring to control has room for what it may find. True while there is more to do.
    pub(super) fn step(
        &mut self,
        now: Time,
        busy: bool,
        forwarder: &mut Forwarder<Mbuf>,
        events: &mut rtrb::Producer<Event>,
    ) -> bool {
        if self.walk.is_none() && self.answers.is_empty() {
            return false;
        }
        // Room for so many records and an end, so no push below fails.
        let step = events.slots().saturating_sub(1).min(if busy { BUSY_STEP } else { IDLE_STEP });
        if step == 0 {
            return true;
        }
        let mut push = |event| drop(events.push(event));
        if let Some(event) = self.answers.pop_front() {
            push(event);
            return true;
        }
        match &mut self.walk {
            None => {}
            Some(Walk::Sessions { filter, cursor, left }) => {
                let next = forwarder.scan_sessions(now, *cursor, step.min(*left), |view| {
                    if passes(filter, &view) {
                        *left -= 1;
                        push(Event::Session(view));
                    }
                });
                if let (Some(next), 1..) = (next, *left) {
                    *cursor = next;
                } else {
                    push(Event::SessionsEnd { next });
                    self.walk = None;
                }
            }
            Some(Walk::Ports { cursor }) => {
                match forwarder.scan_ports(now, *cursor, step, |view| push(Event::Port(view))) {
                    Some(next) => *cursor = next,
                    None => {
                        push(Event::PortsEnd);
                        self.walk = None;
                    }
                }
            }
        }
        self.walk.is_some()
    }
}

fn passes(filter: &SessionFilter, view: &SessionView) -> bool {
    filter.client.is_none_or(|(prefix, len)| same_prefix(view.client.ip(), prefix, len))
        && filter.service.is_none_or(|service| service == view.service)
        && filter.servers.as_ref().is_none_or(|servers| servers.contains(&view.server_id))
        && filter.state.as_ref().is_none_or(|state| state == view.state.name())
        && filter.offload.is_none_or(|state| state == view.offload)
}
