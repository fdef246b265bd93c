//! The rings between a switch in this process and the workers: one to each and one from each.

use dpdk::swx::Wire;
use dpdk::{Burst, Consumer, Eal, Producer, Ring, RingError, RingMode};
use fullnat::frame::Frame;

/// Frames that may wait on their way to or from a worker.
pub const RING: u32 = 1024;
/// Frames that a wire is given, or asked for, at once.
const BURST: usize = 32;

/// The switch's end of the rings to the workers. Frames of a flow go to the same worker, in their order.
struct Workers {
    rings: Vec<(Consumer, Producer)>,
    /// By worker what is to go to it; empty between two calls.
    sorted: Vec<Burst<BURST>>,
    /// Who is asked first.
    next: usize,
}

/// A worker's end of its rings.
pub type WorkerEnd = (Consumer, Producer);

/// Makes the rings between the switch and so many workers, at least one.
///
/// # Errors
///
/// DPDK has not enough memory.
pub fn rings(eal: &Eal, workers: usize) -> Result<(Box<dyn Wire>, Vec<WorkerEnd>), RingError> {
    let (mut rings, mut ends) = (Vec::new(), Vec::new());
    for worker in 0..workers {
        let (to, taken) = Ring::create(eal, &format!("carom-punt-{worker}"), RING, RingMode::Spsc)?;
        let (put, from) = Ring::create(eal, &format!("carom-inject-{worker}"), RING, RingMode::Spsc)?;
        rings.push((from, to));
        ends.push((taken, put));
    }
    let sorted = rings.iter().map(|_| Burst::new()).collect();
    Ok((Box::new(Workers { rings, sorted, next: 0 }), ends))
}

impl Wire for Workers {
    fn receive(&mut self, burst: &mut Burst<BURST>) {
        // Each is first in its turn, so that none can fill all bursts.
        let (later, first) = self.rings.split_at_mut(self.next);
        for (from, _) in first.iter_mut().chain(later) {
            from.dequeue_burst(burst);
        }
        self.next = if self.next + 1 < self.rings.len() { self.next + 1 } else { 0 };
    }

    fn send(&mut self, burst: &mut Burst<BURST>) {
        if let [(_, to)] = &mut self.rings[..] {
            to.enqueue_burst(burst);
            return;
        }
        let workers = self.rings.len() as u32;
        for frame in burst.drain() {
            let worker = flow_number(frame.bytes()) % workers;
            // It has room for a whole burst.
            let _ = self.sorted[worker as usize].push(frame);
        }
        for ((_, to), frames) in self.rings.iter_mut().zip(&mut self.sorted) {
            to.enqueue_burst(frames);
            // What did not fit is counted by who called, as lost.
            frames.drain().for_each(|frame| _ = burst.push(frame));
        }
    }
}

/// A number that all frames of a flow share: of addresses and ports, behind the tag.
fn flow_number(frame: &[u8]) -> u32 {
    /// MAC addresses, tag, EtherType.
    const HEADERS: usize = 18;
    let range = match frame.get(HEADERS - 2..HEADERS) {
        // From the source address on: to the ports if there are no options, which few have.
        Some([0x08, 0x00]) => HEADERS + 12..HEADERS + 24,
        Some([0x86, 0xdd]) => HEADERS + 8..HEADERS + 44,
        _ => return 0,
    };
    let words = frame.get(range).unwrap_or_default().chunks_exact(4);
    words.fold(0, |hash: u32, word| {
        let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        // The multiplier of Knuth's multiplicative hashing: 2³² divided by the golden ratio.
        (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tagged IPv4 or IPv6 header with these last bytes of addresses and ports.
    fn frame(ethertype: u16, last: [u8; 12]) -> Vec<u8> {
        let mut frame = vec![7; 80];
        frame[16..18].copy_from_slice(&ethertype.to_be_bytes());
        let end = if ethertype == 0x0800 { 42 } else { 62 };
        frame[end - 12..end].copy_from_slice(&last);
        frame
    }

    #[test]
    fn frames_of_a_flow_have_one_number_and_flows_many() {
        for ethertype in [0x0800, 0x86dd] {
            let number = |last: [u8; 12]| flow_number(&frame(ethertype, last));
            let numbers: std::collections::BTreeSet<u32> =
                (0..=255).map(|port| number([10, 0, 0, 1, 10, 0, 0, 2, 0x9c, port, 0, 80]) % 4).collect();
            assert_eq!(numbers.len(), 4, "each of four workers gets flows");
            let mut other = frame(ethertype, [1; 12]);
            other[..14].fill(9);
            other[64..].fill(9);
            assert_eq!(flow_number(&other), number([1; 12]), "tag, reason and payload are not of the flow");
        }
    }

    #[test]
    fn any_frame_has_a_number() {
        for ethertype in [0x0800, 0x86dd, 0x0806] {
            let frame = frame(ethertype, [3; 12]);
            (0..frame.len()).for_each(|length| _ = flow_number(&frame[..length]));
        }
    }
}
