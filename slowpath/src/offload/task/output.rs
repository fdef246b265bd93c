//! Writes of book and replica on their way to the target, and what became of them.

use fullnat::offload::AnyEnds;
use runtime_client::proto::p4::v1::entity::Entity as EntityKind;
use runtime_client::proto::p4::v1::{DirectMeterEntry, Entity as EntityMessage, MeterConfig};
use runtime_client::write::{Entity, Entry, Kind, Outcome, Update, Writer};

use super::Task;
use crate::offload::PuntRate;
use crate::offload::book::{End, Moment, SessionId, Sides, Write};
use crate::offload::flows::Flows;
use crate::offload::replica::{self, Step};
use crate::offload::wire;

/// Keys of the writer: sessions are below 2^48, orphans and rows of static tables have a bit of their own.
const ORPHAN: u64 = 1 << 62;
const ROW: u64 = 1 << 63;

/// Updates of the longest operation.
const LONGEST: usize = 2;

impl Task {
    /// Gives the writer what it has room for.
    pub(super) fn write(&mut self, now: Moment) {
        while self.stage.writes_rows()
            && self.writer.room() >= LONGEST
            && let Some(write) = self.replica.next_write(now)
        {
            submit_row(&mut self.writer, &write);
        }
        while self.writer.room() >= LONGEST
            && let Some(write) = self.book.next_write()
        {
            submit(&mut self.writer, self.book.flows(), &write, self.tells.ages);
        }
    }

    /// Tells book and replica what became of their writes.
    pub(super) fn take_settled(&mut self, now: Moment) {
        let mut rest = &self.settled[..];
        if !rest.is_empty() {
            self.busy_at = now;
        }
        while let Some(first) = rest.first() {
            // Updates of one operation are settled next to each other.
            let (operation, others) = rest.split_at(usize::from(first.of).clamp(1, rest.len()));
            rest = others;
            let end = End::from(&first.outcome);
            if let Some(problem) = operation.iter().find_map(|update| problem(&update.outcome)) {
                self.last_error = Some(problem);
            }
            match first.key {
                key if key & ROW != 0 => self.replica.settled(key as u32, end, now),
                key if key & ORPHAN != 0 => self.book.orphan_settled(key as u32, end),
                key => {
                    let ends = operation.iter().map(|update| End::from(&update.outcome));
                    self.book.settled(SessionId::of_number(key), ends, now);
                }
            }
        }
        self.settled.clear();
    }
}

/// What went wrong, for people. That an entry to be deleted is gone already is not wrong.
fn problem(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Refused(refusal) if refusal.code == runtime_client::Code::NotFound => None,
        Outcome::Refused(refusal) => Some(format!("an update was refused: {refusal}")),
        Outcome::Unknown(refusal) => Some(format!("an update had no clear answer: {refusal}")),
        Outcome::Applied | Outcome::NotSent => None,
    }
}

fn submit(writer: &mut Writer, flows: &Flows, write: &Write, ages: bool) {
    match write {
        Write::Insert { id, ends, idle_ms } => {
            let idle_ms = if ages { *idle_ms } else { 0 };
            wire::with_inserts(flows, ends, idle_ms, |updates| give(writer, id.number(), updates));
        }
        Write::Delete { id, ends, sides } => delete(writer, flows, *id, ends, *sides),
        Write::Orphan { ticket, key } => wire::with_flow_key(key, |entry| {
            give(writer, ORPHAN | u64::from(*ticket), &[Update::delete(entry)]);
        }),
    }
}

fn delete(writer: &mut Writer, flows: &Flows, id: SessionId, ends: &AnyEnds, sides: Sides) {
    if sides == Sides::BOTH {
        return wire::with_deletes(flows, ends, |updates| give(writer, id.number(), updates));
    }
    // The book deletes something or nothing.
    if let Some(direction) = sides.iter().next() {
        wire::with_flow_key(&flows.key(ends, direction), |entry| give(writer, id.number(), &[Update::delete(entry)]));
    }
}

fn submit_row(writer: &mut Writer, write: &replica::Write) {
    let key = ROW | u64::from(write.number);
    match write.step {
        Step::Write(kind) => {
            let action = write.action.filter(|_| kind != Kind::Delete);
            write
                .key
                .with(action.as_ref(), |entry| give(writer, key, &[Update { kind, entity: Entity::Entry(entry) }]));
        }
        Step::Meter(rate) => {
            let entity = write.key.with(None, |entry| meter(&entry, rate));
            give(writer, key, &[Update { kind: Kind::Modify, entity: Entity::Message(&entity) }]);
        }
    }
}

/// The meter of an entry: packets beyond the rate are red.
fn meter(entry: &Entry<'_>, PuntRate { rate, burst }: PuntRate) -> EntityMessage {
    let [rate, burst] = [rate, burst].map(i64::from);
    let config = MeterConfig { cir: rate, cburst: burst, pir: rate, pburst: burst, ..MeterConfig::default() };
    let entry =
        DirectMeterEntry { table_entry: Some(entry.to_message()), config: Some(config), ..DirectMeterEntry::default() };
    EntityMessage { entity: Some(EntityKind::DirectMeterEntry(entry)) }
}

fn give(writer: &mut Writer, key: u64, updates: &[Update<'_>]) {
    if writer.submit(key, updates).is_err() {
        unreachable!("there was room for the longest operation, and batches are at least that long");
    }
}
