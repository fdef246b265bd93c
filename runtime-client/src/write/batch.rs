//! Updates on their way to one request.

use prost::bytes::Bytes;

/// One operation of a batch: updates that stand next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub key: u64,
    pub updates: u16,
}

/// Encoded updates and whose they are.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub body: Vec<u8>,
    pub operations: Vec<Operation>,
    updates: usize,
}

impl Batch {
    /// Updates in it.
    pub fn len(&self) -> usize {
        self.updates
    }

    pub fn is_empty(&self) -> bool {
        self.updates == 0
    }

    /// Notes that the last bytes of `body` are the updates of this operation.
    pub fn note(&mut self, key: u64, updates: u16) {
        self.operations.push(Operation { key, updates });
        self.updates += usize::from(updates);
    }

    /// Makes it empty and keeps its memory. `sent` is what became of the body; its memory comes back if nobody else has
    /// it any more.
    pub fn recycle(&mut self, sent: Option<Bytes>) {
        if let Some(Ok(body)) = sent.map(Bytes::try_into_mut) {
            self.body = body.into();
        }
        self.body.clear();
        self.operations.clear();
        self.updates = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_after_sending() {
        let mut batch = Batch { body: Vec::with_capacity(4096), ..Batch::default() };
        batch.body.extend([1; 100]);
        batch.note(1, 2);
        let place = batch.body.as_ptr();
        let sent = Bytes::from(std::mem::take(&mut batch.body));
        let with_tonic = sent.clone();
        drop(with_tonic);
        batch.recycle(Some(sent));
        assert!(batch.is_empty() && batch.body.is_empty() && batch.operations.is_empty());
        assert_eq!((batch.body.as_ptr(), batch.body.capacity()), (place, 4096));
    }
}
