//! The TCP option that tells a real server the client's address ("TCP option address", TOA).
//!
//! Kind 254, then the length, then port and address of the client in network order: 8 bytes for an IPv4 client, 20
//! for an IPv6 one. It stands right behind the 20 bytes of the fixed header, where the kernel modules and libraries
//! that read it look first.
//!
//! A client can send such an option too and so claim any address; [`strip`] removes it from everything a client sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::addr::Addr;
use crate::frame::Frame;
use crate::id::{CPort, Proto};
use crate::wire::checksum::{self, Change};
use crate::wire::parse::Flow;
use crate::wire::tcp::options::{EOL, NOP};
use crate::wire::tcp::{self, MAX_OPTIONS, Options};
use crate::wire::{ethernet, ipv4, ipv6};

/// The option's kind, of those for experiments (RFC 4727).
pub const KIND: u8 = 254;

/// Length of the option for an IPv4 client, bytes.
pub const LEN_V4: usize = 8;
/// Length of the option for an IPv6 client, bytes.
pub const LEN_V6: usize = 20;

/// Length of the option for a client of this family, bytes: also by how much a server's MSS has to be lowered.
pub const fn len<A: Addr>() -> usize {
    if A::IS_V6 { LEN_V6 } else { LEN_V4 }
}

/// Why a segment goes without the option. The segment is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// The options the client sent leave less than it needs of the 40 bytes, even without padding; or they are
    /// malformed and longer than what leaves room.
    Options,
    /// The packet would be longer than the MTU.
    Mtu,
    /// The buffer has no room in front of the frame.
    Headroom,
}

/// Tells the client's address in a TCP segment: the option is put in front of the others, and lengths and checksums
/// are updated, as is the view.
///
/// Where the 40 bytes do not suffice, the padding (NOP, EOL) of the client's own options is dropped and only what
/// still lacks to a multiple of four is put back, at the end. All real options are kept: the balancer takes none of
/// the client's away to say something of its own.
///
/// `max_ip_len` is the MTU of the interface the segment leaves by, bytes.
///
/// # Errors
///
/// [`NoRoom`]; the segment may go on as it is.
#[inline]
pub fn insert<F: Frame, A: Addr>(
    frame: &mut F,
    flow: &mut Flow<A>,
    (client, port): (A, CPort),
    max_ip_len: u16,
) -> Result<(), NoRoom> {
    if flow.key.proto != Proto::Tcp {
        return Err(NoRoom::Options);
    }
    let headers = usize::from(flow.l4()) + tcp::LEN;
    let old_len = usize::from(flow.payload).saturating_sub(headers);
    if old_len + len::<A>() > MAX_OPTIONS {
        let mut option = [0; LEN_V6];
        write_option(&mut option, client, port);
        return insert_without_padding(frame, flow, &option[..len::<A>()], max_ip_len);
    }
    let mut change = Change::default();
    change.word(0, u16::from_be_bytes([KIND, len::<A>() as u8]));
    change.word(0, port.0);
    change.sums(0, A::memory_sum([client]));
    lengthen(frame, flow, len::<A>(), change, max_ip_len)?;
    if let Some(room) = frame.bytes_mut().get_mut(headers..headers + len::<A>()) {
        // In its place, and not copied there: a copy in larger pieces than were written would wait for all stores before.
        write_option(room, client, port);
    }
    Ok(())
}

/// Writes the option into the first bytes of `room`.
#[inline(always)]
fn write_option<A: Addr>(room: &mut [u8], client: A, port: CPort) {
    let [high, low] = port.0.to_be_bytes();
    room[..4].copy_from_slice(&[KIND, len::<A>() as u8, high, low]);
    client.write(&mut room[4..]);
}

/// As [`insert`], dropping the padding of the options.
#[cold]
fn insert_without_padding<F: Frame, A: Addr>(
    frame: &mut F,
    flow: &mut Flow<A>,
    option: &[u8],
    max_ip_len: u16,
) -> Result<(), NoRoom> {
    let old = tcp::option_bytes(frame.bytes(), flow);
    let mut new = [NOP; MAX_OPTIONS];
    let mut len = option.len();
    new[..len].copy_from_slice(option);
    let mut walk = Options::new(old);
    for option in &mut walk {
        let room = new.get_mut(len..len + option.len).ok_or(NoRoom::Options)?;
        room.copy_from_slice(&old[option.at..option.at + option.len]);
        len += option.len;
    }
    if old.get(walk.ended_at()).is_some_and(|&kind| kind != EOL) {
        return Err(NoRoom::Options);
    }
    // Never shorter than before: all that would save is a few bytes, for a case of its own.
    let len = len.next_multiple_of(4).max(old.len());
    let new = &new[..len];
    let mut change = Change::default();
    change.word(checksum::sum(old), checksum::sum(new));
    let by = len - old.len();
    lengthen(frame, flow, by, change, max_ip_len)?;
    let at = usize::from(flow.l4()) + tcp::LEN;
    if let Some(room) = frame.bytes_mut().get_mut(at..at + len) {
        room.copy_from_slice(new);
    }
    Ok(())
}

/// Makes room for `by` more bytes of options right behind the fixed TCP header, by moving all headers towards the
/// front. The checksum counts `change`, what becomes of the options.
#[inline]
fn lengthen<F: Frame, A: Addr>(
    frame: &mut F,
    flow: &mut Flow<A>,
    by: usize,
    mut change: Change,
    max_ip_len: u16,
) -> Result<(), NoRoom> {
    // At most 20, from MAX_OPTIONS and the lengths of the option.
    let more = by as u16;
    let old_len = flow.ip_len();
    let ip_len = old_len.checked_add(more).filter(|&len| len <= max_ip_len).ok_or(NoRoom::Mtu)?;
    let end = flow.end.checked_add(more).ok_or(NoRoom::Mtu)?;
    if !frame.grow_front(by) {
        return Err(NoRoom::Headroom);
    }
    let bytes = frame.bytes_mut();
    move_headers(bytes, by, usize::from(flow.l4()) + tcp::LEN);
    flow.payload += more;
    flow.end = end;

    let Some((head, header)) = bytes.split_at_mut_checked(usize::from(flow.l4())) else { return Ok(()) };
    write_ip_len::<A>(head, old_len, ip_len);
    let Some(header) = header.first_chunk_mut::<{ tcp::LEN }>() else { return Ok(()) };
    let old_word = u16::from_be_bytes([header[tcp::DATA_OFFSET], header[tcp::DATA_OFFSET + 1]]);
    header[tcp::DATA_OFFSET] += ((by / 4) as u8) << 4;
    let new_word = u16::from_be_bytes([header[tcp::DATA_OFFSET], header[tcp::DATA_OFFSET + 1]]);
    change.word(old_word, new_word);
    // The pseudo header counts the length of the segment.
    change.word(0, more);
    tcp::update_checksum(header, change);
    Ok(())
}

/// Moves the first `len` bytes behind a gap of `by` bytes to the front.
#[inline(always)]
fn move_headers(bytes: &mut [u8], by: usize, len: usize) {
    // The two lengths there are, as constants: a few vector moves instead of a call.
    const V4: usize = ipv4::END + tcp::LEN;
    const V6: usize = ipv6::END + tcp::LEN;
    match len {
        V4 => move_bytes::<V4>(bytes, by),
        V6 => move_bytes::<V6>(bytes, by),
        _ => {}
    }
}

#[inline(always)]
fn move_bytes<const N: usize>(bytes: &mut [u8], by: usize) {
    let Some(&headers) = bytes.get(by..).and_then(|rest| rest.first_chunk::<N>()) else { return };
    if let Some(front) = bytes.first_chunk_mut() {
        *front = headers;
    }
}

/// Writes the length of an IP packet into its header.
#[inline(always)]
fn write_ip_len<A: Addr>(head: &mut [u8], old_len: u16, len: u16) {
    if A::IS_V6 {
        let Some(head) = head.first_chunk_mut::<{ ipv6::END }>() else { return };
        let ip = &mut head[ethernet::LEN..];
        let payload_len = len.saturating_sub(ipv6::LEN as u16);
        ip[ipv6::PAYLOAD_LENGTH..ipv6::PAYLOAD_LENGTH + 2].copy_from_slice(&payload_len.to_be_bytes());
    } else {
        let Some(head) = head.first_chunk_mut::<{ ipv4::END }>() else { return };
        let ip = &mut head[ethernet::LEN..];
        let check = u16::from_be_bytes([ip[ipv4::CHECKSUM], ip[ipv4::CHECKSUM + 1]]);
        let mut change = Change::default();
        change.word(old_len, len);
        ip[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&change.apply(check).to_be_bytes());
        ip[ipv4::TOTAL_LENGTH..ipv4::TOTAL_LENGTH + 2].copy_from_slice(&len.to_be_bytes());
    }
}

/// Removes every option of kind 254, of whatever length, from a segment that a client sent. True when there was one.
///
/// It is overwritten by NOPs in place: nothing moves, nothing gets shorter. The list ends at an EOL or at the first
/// option whose length is impossible, and what is behind that becomes zero, as RFC 9293 section 3.1 wants of padding:
/// a receiver that reads malformed lists otherwise than we do finds nothing there. The checksum is updated.
#[inline(always)]
pub fn strip<A: Addr>(frame: &mut [u8], flow: &Flow<A>) -> bool {
    usize::from(flow.payload) > usize::from(flow.l4()) + tcp::LEN && strip_options(frame, flow)
}

#[inline(never)]
fn strip_options<A: Addr>(frame: &mut [u8], flow: &Flow<A>) -> bool {
    let options = tcp::option_bytes(frame, flow);
    // What nearly every segment has: no options, or padded timestamps (RFC 7323 appendix A) that fill the list.
    if options.is_empty() || (options.len() == 12 && options.starts_with(&[NOP, NOP, 8, 10])) {
        return false;
    }
    strip_any(frame, flow)
}

fn strip_any<A: Addr>(frame: &mut [u8], flow: &Flow<A>) -> bool {
    let options = tcp::option_bytes(frame, flow);
    let mut clean = [0; MAX_OPTIONS];
    let Some(clean) = clean.get_mut(..options.len()) else { return false };
    clean.copy_from_slice(options);
    let mut found = false;
    let mut walk = Options::new(options);
    for option in &mut walk {
        if option.kind == KIND {
            clean[option.at..option.at + option.len].fill(NOP);
            found = true;
        }
    }
    let rest = &mut clean[walk.ended_at()..];
    found |= rest.contains(&KIND);
    rest.fill(EOL);
    if *clean != *options {
        let mut change = Change::default();
        change.word(checksum::sum(options), checksum::sum(clean));
        if let Some(header) = frame.get_mut(usize::from(flow.l4())..usize::from(flow.payload)) {
            header[tcp::LEN..].copy_from_slice(clean);
            tcp::update_checksum(header, change);
        }
    }
    found
}

/// Reads the address out of the option bytes of a segment (see [`tcp::option_bytes`]), as a real server does: the
/// first option of kind 254 with a length of 8 or 20.
pub fn decode(options: &[u8]) -> Option<SocketAddr> {
    Options::new(options).find_map(|option| {
        if option.kind != KIND {
            return None;
        }
        let [port_hi, port_lo, address @ ..] = options.get(option.at + 2..option.at + option.len)? else { return None };
        let ip = match option.len {
            LEN_V4 => IpAddr::V4(Ipv4Addr::read(address)),
            LEN_V6 => IpAddr::V6(Ipv6Addr::read(address)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes([*port_hi, *port_lo])))
    })
}

#[cfg(test)]
mod tests;
