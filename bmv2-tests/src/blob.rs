//! Bytes that look random but are known in advance, and their SHA-256.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// The first `len` bytes of the one sequence both ends know, as a reader. What is read does not depend on how large the
/// reads are.
#[derive(Clone, Debug)]
pub struct Blob {
    counter: u64,
    left: u64,
    word: [u8; 8],
    /// Bytes of `word` already given out.
    used: usize,
}

impl Blob {
    /// A blob of `len` bytes.
    pub fn new(len: u64) -> Self {
        Blob { counter: 0, left: len, word: [0; 8], used: 8 }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixer.
    fn next_word(&mut self) -> [u8; 8] {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.counter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let total = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let mut filled = 0;
        while filled < total {
            if self.used == self.word.len() {
                self.word = self.next_word();
                self.used = 0;
            }
            let take = (total - filled).min(self.word.len() - self.used);
            buf[filled..filled + take].copy_from_slice(&self.word[self.used..self.used + take]);
            self.used += take;
            filled += take;
        }
        self.left -= filled as u64;
        Ok(filled)
    }
}

/// SHA-256 of everything `reader` gives, in hex, and the number of bytes.
pub fn sha256(mut reader: impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut buf = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match reader.read(&mut buf)? {
            0 => return Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), total)),
            n => {
                hash.update(&buf[..n]);
                total += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_depend_on_the_size_of_the_reads() {
        let mut whole = Vec::new();
        Blob::new(1001).read_to_end(&mut whole).unwrap();
        assert_eq!(whole.len(), 1001);
        for step in [1, 3, 8, 13] {
            let (mut blob, mut pieces, mut buf) = (Blob::new(1001), Vec::new(), vec![0; step]);
            while let Ok(n @ 1..) = blob.read(&mut buf) {
                pieces.extend_from_slice(&buf[..n]);
            }
            assert_eq!(pieces, whole, "reads of {step} bytes");
        }
    }

    #[test]
    fn sha256_of_abc() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&b"abc"[..]).unwrap(), (expected.to_owned(), 3));
    }
}
