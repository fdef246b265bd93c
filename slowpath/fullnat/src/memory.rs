//! Memory that is there before it is needed.

/// An empty list with room for `capacity` items, all of which was written to. The system gives memory where it is first
/// written, and clears it: of a huge page that takes up to a millisecond, in which a worker would lose packets.
pub fn touched<T: Clone>(capacity: usize, filler: &T) -> Vec<T> {
    let mut list = Vec::with_capacity(capacity);
    list.resize(capacity, filler.clone());
    list.clear();
    list
}
