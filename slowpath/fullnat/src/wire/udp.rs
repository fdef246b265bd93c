//! UDP headers (RFC 768).

/// IANA protocol number.
pub const PROTO: u8 = 17;
/// Length of a header, bytes.
pub const LEN: usize = 8;

/// Offset of the checksum in a header.
pub(crate) const CHECKSUM: usize = 6;
