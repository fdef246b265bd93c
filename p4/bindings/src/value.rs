//! Numbers as P4Runtime carries them.

use std::fmt;

/// An unsigned number as a canonical byte string: big-endian, no leading zero bytes, at least one byte (P4Runtime
/// specification, section "Bytestrings").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bytes {
    bytes: [u8; 8],
    start: u8,
}

impl Bytes {
    /// The byte string of a number.
    pub fn new(number: u64) -> Self {
        // Zero has 64 leading zeros and still one byte.
        let start = (number.leading_zeros() / 8).min(7) as u8;
        Bytes { bytes: number.to_be_bytes(), start }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or_default()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// Why a key or action cannot be made of what a target sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The field or parameter with this id is missing.
    Missing(u32),
    /// There is no field or parameter with this id, or it is there twice.
    Unexpected(u32),
    /// The value of the field or parameter with this id is empty or has more bits than the program gives it.
    Value(u32),
    /// The table has no action with this id.
    Action(u32),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Missing(id) => write!(f, "field or parameter {id} is missing"),
            DecodeError::Unexpected(id) => write!(f, "field or parameter {id} is unknown or repeated"),
            DecodeError::Value(id) => write!(f, "the value of field or parameter {id} is empty or too wide"),
            DecodeError::Action(id) => write!(f, "the table has no action {id:#010x}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Most fields of a key, and most parameters of an action.
const MOST: usize = 12;

/// Fields of a key or parameters of an action, by id, in the order of P4Info. A slice.
#[derive(Clone, Debug)]
pub struct Fields {
    fields: [(u32, Bytes); MOST],
    len: usize,
}

impl Fields {
    pub(crate) fn new() -> Self {
        Fields { fields: [(0, Bytes { bytes: [0; 8], start: 7 }); MOST], len: 0 }
    }

    fn push(&mut self, id: u32, number: u64) {
        // The generated tables have no more than fit; a test encodes all of them.
        self.fields[self.len] = (id, Bytes::new(number));
        self.len += 1;
    }
}

impl std::ops::Deref for Fields {
    type Target = [(u32, Bytes)];

    fn deref(&self) -> &Self::Target {
        &self.fields[..self.len]
    }
}

/// Fields or parameters as they were received, while they are taken out.
pub(crate) struct Received<'a> {
    fields: [Option<(u32, &'a [u8])>; MOST],
}

impl<'a> Received<'a> {
    pub(crate) fn new(fields: impl IntoIterator<Item = (u32, &'a [u8])>) -> Result<Self, DecodeError> {
        let mut received = Received { fields: [None; MOST] };
        for (at, field) in fields.into_iter().enumerate() {
            *received.fields.get_mut(at).ok_or(DecodeError::Unexpected(field.0))? = Some(field);
        }
        Ok(received)
    }

    fn take(&mut self, id: u32, bits: u32) -> Result<u64, DecodeError> {
        let slot = self.fields.iter_mut().find(|slot| slot.is_some_and(|(found, _)| found == id));
        let (_, bytes) = slot.and_then(Option::take).ok_or(DecodeError::Missing(id))?;
        if bytes.is_empty() {
            return Err(DecodeError::Value(id));
        }
        // Leading zeros are legal from a target that is older than the canonical form.
        let mut number: u64 = 0;
        for &byte in bytes {
            number = number.checked_mul(256).ok_or(DecodeError::Value(id))? | u64::from(byte);
        }
        if bits < 64 && number >> bits != 0 { Err(DecodeError::Value(id)) } else { Ok(number) }
    }

    /// All must have been taken.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.fields.iter().flatten().next() {
            Some((id, _)) => Err(DecodeError::Unexpected(*id)),
            None => Ok(()),
        }
    }
}

/// A Rust type that carries one field of the program, or two.
pub(crate) trait Value: Sized {
    fn put(self, ids: &[u32], fields: &mut Fields);
    fn take(ids: &[u32], received: &mut Received<'_>) -> Result<Self, DecodeError>;
}

macro_rules! one_field {
    ($($type:ty),*) => { $(
        impl Value for $type {
            fn put(self, ids: &[u32], fields: &mut Fields) {
                fields.push(ids[0], u64::from(self));
            }

            fn take(ids: &[u32], received: &mut Received<'_>) -> Result<Self, DecodeError> {
                Ok(received.take(ids[0], <$type>::BITS)? as $type)
            }
        }
    )* };
}

one_field!(u8, u16, u32);

/// A MAC address, 48 bits.
impl Value for [u8; 6] {
    fn put(self, ids: &[u32], fields: &mut Fields) {
        let [a, b, c, d, e, f] = self;
        fields.push(ids[0], u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }

    fn take(ids: &[u32], received: &mut Received<'_>) -> Result<Self, DecodeError> {
        let [_, _, a, b, c, d, e, f] = received.take(ids[0], 48)?.to_be_bytes();
        Ok([a, b, c, d, e, f])
    }
}

/// An IPv6 address, two fields of 64 bits: some targets compute on no more.
impl Value for u128 {
    fn put(self, ids: &[u32], fields: &mut Fields) {
        fields.push(ids[0], (self >> 64) as u64);
        fields.push(ids[1], self as u64);
    }

    fn take(ids: &[u32], received: &mut Received<'_>) -> Result<Self, DecodeError> {
        let high = received.take(ids[0], 64)?;
        Ok(u128::from(high) << 64 | u128::from(received.take(ids[1], 64)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_strings_are_canonical() {
        assert_eq!(Bytes::new(0).as_ref(), [0]);
        assert_eq!(Bytes::new(0xff).as_ref(), [0xff]);
        assert_eq!(Bytes::new(0x100).as_ref(), [1, 0]);
        assert_eq!(Bytes::new(u64::MAX).as_ref(), [0xff; 8]);
    }

    fn take<V: Value>(ids: &[u32], fields: &[(u32, &[u8])]) -> Result<V, DecodeError> {
        let mut received = Received::new(fields.iter().copied())?;
        let value = V::take(ids, &mut received)?;
        received.finish()?;
        Ok(value)
    }

    #[test]
    fn leading_zeros_are_understood_and_too_wide_values_refused() {
        assert_eq!(take::<u16>(&[3], &[(3, &[0, 0, 1, 2])]), Ok(0x102));
        assert_eq!(take::<u16>(&[3], &[(3, &[1, 0, 0])]), Err(DecodeError::Value(3)));
        assert_eq!(take::<u16>(&[3], &[(3, &[])]), Err(DecodeError::Value(3)));
        assert_eq!(take::<[u8; 6]>(&[1], &[(1, &[1, 0, 0, 0, 0, 0, 0])]), Err(DecodeError::Value(1)));
        assert_eq!(take::<u128>(&[1, 2], &[(2, &[0xff; 8]), (1, &[1])]), Ok((1 << 64) | u128::from(u64::MAX)));
        assert_eq!(take::<u128>(&[1, 2], &[(2, &[1, 0, 0, 0, 0, 0, 0, 0, 0]), (1, &[1])]), Err(DecodeError::Value(2)));
    }

    #[test]
    fn missing_and_unexpected_fields_are_named() {
        assert_eq!(take::<u8>(&[1], &[]), Err(DecodeError::Missing(1)));
        assert_eq!(take::<u8>(&[1], &[(1, &[1]), (1, &[1])]), Err(DecodeError::Unexpected(1)));
        assert_eq!(take::<u8>(&[1], &[(1, &[1]), (9, &[1])]), Err(DecodeError::Unexpected(9)));
        let many = [(7, [1].as_slice()); 13];
        assert_eq!(take::<u8>(&[7], &many), Err(DecodeError::Unexpected(7)));
    }
}
