//! The target's side: what becomes of writes and reads, packets that pass, connections that break.

use super::*;

impl World {
    pub(super) fn send(&mut self) {
        let Some(write) = self.book.next_write() else { return };
        let life = match write {
            Write::Insert { id, .. } | Write::Delete { id, .. } => {
                let same = |flight: &Flight| matches!(flight.write, Write::Insert { id: other, .. } | Write::Delete { id: other, .. } if other == id);
                assert!(!self.flights.iter().any(same), "one operation per session");
                self.lives[&id]
            }
            Write::Orphan { .. } => 0,
        };
        let flows = self.book.flows();
        let update =
            |ends: &AnyEnds, direction| (*ends, direction, flows.key(ends, direction), flows.action(ends, direction));
        let updates = match &write {
            Write::Insert { ends, .. } => DIRECTIONS.map(|direction| update(ends, direction)).to_vec(),
            Write::Delete { ends, sides, .. } => sides.iter().map(|direction| update(ends, direction)).collect(),
            // Of a delete only the key matters.
            Write::Orphan { key, .. } => {
                let (of, direction) = (ends(0), Direction::Inbound);
                vec![(of, direction, *key, FlowAction::of(&of, direction))]
            }
        };
        self.flights.push(Flight { write, life, updates });
    }

    /// Applies a write and says what became of each update.
    pub(super) fn apply(&mut self, Flight { write, life, updates }: &Flight) -> Vec<End> {
        let insert = matches!(write, Write::Insert { .. });
        let mut ends = Vec::new();
        for update @ (_, _, key, _) in updates {
            ends.push(if self.faults && self.random.chance(5, 100) {
                End::Refused(if self.random.chance(50, 100) { Code::Aborted } else { Code::Internal })
            } else if !insert {
                if self.rows.remove(key).is_some() { End::Applied } else { End::Refused(Code::NotFound) }
            } else if self.rows.contains_key(key) {
                End::Refused(Code::AlreadyExists)
            } else if self.rows.len() >= self.capacity {
                let codes = [Code::ResourceExhausted, Code::Unknown];
                End::Refused(codes[self.random.below(2)])
            } else {
                self.put(*life, *update);
                End::Applied
            });
        }
        ends
    }

    /// The target gets an entry.
    pub(super) fn put(&mut self, life: u64, (of, direction, key, does): (AnyEnds, Direction, FlowKey, FlowAction)) {
        let (count, meaning) = (Count::default(), small::meaning(&of));
        self.rows.insert(key, Row { life, of, meaning, direction, does, count, hit_at: self.now });
    }

    /// The key of a session's entry as the book has it now.
    pub(super) fn key_of(&self, tuple: u32, direction: Direction) -> FlowKey {
        self.book.flows().key(&ends(tuple), direction)
    }

    /// Some operation is answered, in whatever order.
    pub(super) fn settle_one(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.random.below(self.flights.len());
        let flight = self.flights.swap_remove(at);
        let lost = self.faults && self.random.chance(15, 100);
        self.settle(flight, lost);
    }

    pub(super) fn settle(&mut self, flight: Flight, lost: bool) {
        let (write, updates) = (flight.write, flight.updates.len());
        let ends = if lost {
            match self.random.below(3) {
                0 => {}
                1 => {
                    self.apply(&flight);
                }
                // Deletes may come late too: then they may hit another's entry.
                _ => {
                    let delay = self.random.below(LATE_MS as usize) as u64;
                    self.late.push((self.now + delay, flight));
                }
            }
            vec![End::Unknown; updates]
        } else {
            self.apply(&flight)
        };
        match write {
            Write::Insert { id, .. } | Write::Delete { id, .. } => {
                self.book.settled(id, ends.into_iter(), ms(self.now))
            }
            Write::Orphan { ticket, .. } => self.book.orphan_settled(ticket, ends[0]),
        }
    }

    pub(super) fn apply_late(&mut self) {
        let now = self.now;
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= now);
        self.late = rest;
        for (_, flight) in due {
            let before: Vec<(FlowKey, u64)> = self.rows.iter().map(|(key, row)| (*key, row.life)).collect();
            self.apply(&flight);
            let gone = before.into_iter().filter(|(key, _)| !self.rows.contains_key(key)).map(|(_, life)| life);
            self.harmed.extend(gone);
        }
    }

    pub(super) fn read(&mut self) {
        let mut looks = Vec::new();
        let most = 1 + self.random.below(4);
        let look = self.book.next_looks(most, &mut looks, ms(self.now));
        if !looks.is_empty() {
            let ids: Vec<SessionId> = looks.into_iter().map(|(id, _)| id).collect();
            let answer = self.random.chance(50, 100).then(|| self.answer(&ids));
            self.readings.push(Reading { look, ids, answer });
        }
    }

    pub(super) fn answer(&self, ids: &[SessionId]) -> Answer {
        let mut answer = Answer { found: Vec::new(), idle: HashSet::new() };
        for id in ids {
            let Some(session) = self.book.sessions.get(id) else { continue };
            let keys = DIRECTIONS.map(|direction| self.book.flows().key(&session.ends, direction));
            answer.found.extend(keys.iter().filter_map(|key| self.found(key)));
            let quiet = |key: &FlowKey| {
                let Some(row) = self.rows.get(key) else { return false };
                row.count == Count::default() || self.now - row.hit_at >= IDLE - IDLE / 16
            };
            if keys.iter().all(quiet) {
                answer.idle.insert(*id);
            }
        }
        answer
    }

    pub(super) fn found(&self, key: &FlowKey) -> Option<Found> {
        let row = self.rows.get(key)?;
        let watched = self.book.flows().watched(&row.of).has(row.direction);
        let quiet_ms = (self.tells_time && watched).then_some(self.now - row.hit_at);
        Some(Found { key: *key, count: row.count, quiet_ms })
    }

    pub(super) fn end_read(&mut self) {
        if self.readings.is_empty() {
            return;
        }
        let at = self.random.below(self.readings.len());
        let Reading { look, ids, answer } = self.readings.swap_remove(at);
        if self.faults && self.random.chance(20, 100) {
            return self.book.looked(look, ids.into_iter(), None, ms(self.now));
        }
        let answer = answer.unwrap_or_else(|| self.answer(&ids));
        self.idle = answer.idle;
        self.book.looked(look, ids.into_iter(), Some(&answer.found), ms(self.now));
        // Before anything else happens, so that each is compared with its own moment.
        self.verdicts();
    }

    pub(super) fn traffic(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            let key = self.any_key();
            self.hit(&key);
        }
    }

    fn any_key(&mut self) -> FlowKey {
        let tuple = self.random.below(TUPLES as usize) as u32;
        let direction = DIRECTIONS[self.random.below(2)];
        self.key_of(tuple, direction)
    }

    /// A packet hits an entry. By ids the connection's entry counts it, which an inbound one leads to.
    pub(super) fn hit(&mut self, key: &FlowKey) {
        let Some(Row { life, direction, .. }) = self.rows.get(key).copied() else { return };
        let counts = match self.is_by_ids() {
            true => Direction::Outbound,
            false => direction,
        };
        let now = self.now;
        if let Some(row) = self.rows.values_mut().find(|row| (row.life, row.direction) == (life, counts)) {
            row.count = Count { packets: row.count.packets + 1, bytes: row.count.bytes + 100 };
            row.hit_at = now;
            self.hits.entry(life).or_default()[counts as usize] += 1;
        }
    }

    /// Notices, whether they are true or not: late ones and repeated ones are not.
    pub(super) fn notice(&mut self) {
        for _ in 0..self.random.below(8) {
            let key = self.any_key();
            self.book.notice(&key);
        }
    }

    pub(super) fn pass(&mut self) {
        let most = [3, 100, 3000, 12_000][self.random.below(4)];
        let target = self.now + 1 + self.random.below(most) as u64;
        while self.now < target {
            let next_late = self.late.iter().map(|(at, ..)| *at).min().unwrap_or(target);
            self.now = next_late.clamp(self.now + 1, target);
            self.apply_late();
            self.book.tick(ms(self.now));
        }
    }

    pub(super) fn sweep_on(&mut self) {
        match self.sweep.take() {
            None if self.up => {
                self.book.sweep_begin();
                let mut found: Vec<Found> = self.rows.keys().copied().filter_map(|key| self.found(&key)).collect();
                found.sort_by_key(|found| format!("{:?}", found.key));
                self.sweep = Some(found);
            }
            None => {}
            Some(mut found) if !found.is_empty() => {
                let rest = found.split_off(1 + self.random.below(found.len()));
                found.iter().for_each(|found| self.sweep_entry(found));
                self.sweep = Some(rest);
            }
            // A sweep that breaks off says nothing.
            Some(_) if self.faults && self.random.chance(20, 100) => {}
            Some(_) => self.book.sweep_end(ms(self.now)),
        }
    }

    fn sweep_entry(&mut self, found: &Found) {
        // It may have gone since it was read.
        let does = self.rows.get(&found.key).map(|row| row.does);
        sweep(&mut self.book, found, does);
    }

    pub(super) fn lose_an_entry(&mut self) {
        let mut keys: Vec<FlowKey> = self.rows.keys().copied().collect();
        keys.sort_by_key(|key| format!("{key:?}"));
        if !keys.is_empty() && self.random.chance(30, 100) {
            let key = keys[self.random.below(keys.len())];
            let row = self.rows.remove(&key).unwrap();
            self.harmed.insert(row.life);
        }
    }

    pub(super) fn hops(&mut self) {
        self.pending_hops = self.faults && !self.pending_hops;
        self.needs_changed();
    }

    pub(super) fn disconnect(&mut self) {
        self.up = false;
        self.sweep = None;
        self.book.set_writable(false);
        for flight in std::mem::take(&mut self.flights) {
            self.settle(flight, true);
        }
        for reading in std::mem::take(&mut self.readings) {
            self.book.looked(reading.look, reading.ids.into_iter(), None, ms(self.now));
        }
        if self.random.chance(20, 100) {
            // It was started again.
            self.late.clear();
            self.lose_small();
            self.harmed.extend(std::mem::take(&mut self.rows).into_values().map(|row| row.life));
            if self.random.chance(50, 100) {
                self.book.wiped(ms(self.now));
            }
        }
    }

    pub(super) fn connect(&mut self) {
        self.up = true;
        self.book.set_writable(true);
        self.take_over();
        self.book.sweep_begin();
        let found: Vec<Found> = self.rows.keys().copied().filter_map(|key| self.found(&key)).collect();
        found.iter().for_each(|found| self.sweep_entry(found));
        self.book.sweep_end(ms(self.now));
        self.book.set_ready(true);
    }
}
