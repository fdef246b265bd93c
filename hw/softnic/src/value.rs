//! Byte strings of P4Runtime, and the bytes the pipeline has for them.

use std::fmt;

use dpdk::swx::KeyField;
use prost::bytes::Bytes;

/// A value that does not fit its field, or is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value does not fit")
    }
}

impl std::error::Error for OutOfRange {}

/// The bytes of a field.
fn span(place: &KeyField) -> std::ops::Range<usize> {
    let start = place.offset as usize;
    start..start + place.bits as usize / 8
}

/// Whether the pipeline has the value with its last byte first.
fn is_reversed(place: &KeyField) -> bool {
    cfg!(target_endian = "little") && !place.network_order
}

/// Puts a value of at most so many bits in its place. Any number of zeros may lead it ("Bytestrings" in the standard).
pub fn put(value: &[u8], bits: u32, place: &KeyField, into: &mut [u8]) -> Result<(), OutOfRange> {
    let into = &mut into[span(place)];
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    let digits = &value[zeros..];
    let used = digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize);
    if value.is_empty() || used > bits as usize || digits.len() > into.len() {
        return Err(OutOfRange);
    }
    into.fill(0);
    let start = into.len() - digits.len();
    into[start..].copy_from_slice(digits);
    if is_reversed(place) {
        into.reverse();
    }
    Ok(())
}

/// The value in a place, in its shortest form: at least one byte, and no zero that leads others.
pub fn get(place: &KeyField, from: &[u8]) -> Bytes {
    // A field has at most eight bytes.
    let mut bytes = [0; 8];
    let from = &from[span(place)];
    let value = &mut bytes[..from.len()];
    value.copy_from_slice(from);
    if is_reversed(place) {
        value.reverse();
    }
    let zeros = value.iter().take(value.len() - 1).take_while(|byte| **byte == 0).count();
    Bytes::copy_from_slice(&value[zeros..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bits: u32, offset: u32, network_order: bool) -> KeyField {
        KeyField { name: String::new(), bits, offset, network_order }
    }

    #[test]
    fn values_go_to_their_place_in_its_byte_order() {
        let mut bytes = [0xee; 6];
        put(&[0x12, 0x34], 16, &place(32, 1, true), &mut bytes).unwrap();
        assert_eq!(bytes, [0xee, 0, 0, 0x12, 0x34, 0xee]);
        put(&[0, 0, 0, 0, 0, 0x12, 0x34], 16, &place(32, 1, false), &mut bytes).unwrap();
        let machine = 0x1234u32.to_ne_bytes();
        assert_eq!(bytes[1..5], machine);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut bytes = [7; 2];
        for (value, bits) in [(&[][..], 16), (&[1, 0, 0], 16), (&[0x10, 0], 12), (&[2], 1)] {
            assert_eq!(put(value, bits, &place(16, 0, true), &mut bytes), Err(OutOfRange), "{value:?} in {bits}");
        }
        assert_eq!(bytes, [7, 7]);
    }

    #[test]
    fn values_come_back_in_their_shortest_form() {
        for network_order in [false, true] {
            for value in [&[0][..], &[1], &[1, 0], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
                let (mut bytes, place) = ([0xaa; 9], place(64, 1, network_order));
                put(value, 64, &place, &mut bytes).unwrap();
                assert_eq!(get(&place, &bytes), value);
            }
        }
    }
}
