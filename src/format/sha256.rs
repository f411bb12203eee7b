//! SHA-256 (FIPS 180-4), for the fingerprints of SSH keys, which are public and a few hundred bytes: the library's
//! has a code path for each kind of CPU, 10 KB of them.

/// Rounds.
const ROUNDS: usize = 64;
const BLOCK: usize = 64;

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const K: [u32; ROUNDS] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// A digest in the making.
pub struct Sha256 {
    state: [u32; 8],
    block: [u8; BLOCK],
    length: u64,
}

impl Sha256 {
    /// Of nothing.
    #[must_use]
    pub const fn new() -> Self {
        let state = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        Self { state, block: [0; BLOCK], length: 0 }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = usize::try_from(self.length & 63).unwrap_or_default();
            if let Some(place) = self.block.get_mut(at) {
                *place = *byte;
            }
            self.length = self.length.wrapping_add(1);
            if at == BLOCK.wrapping_sub(1) {
                self.compress();
            }
        }
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        self.push(&[0x80]);
        while self.length & 63 != 56 {
            self.push(&[0]);
        }
        self.push(&bits);
        let mut digest = [0; 32];
        for (place, word) in digest.chunks_exact_mut(4).zip(self.state) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }

    fn compress(&mut self) {
        // A window of sixteen words: the next one takes the place of the oldest.
        let mut words = [0u32; 16];
        for (word, bytes) in words.iter_mut().zip(self.block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        let mut s = self.state;
        for k in K {
            let [a, b, c, d, e, f, g, h] = s;
            let [oldest, w1, .., w14, _] = words;
            let w9 = words.get(9).copied().unwrap_or_default();
            let big1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(big1).wrapping_add(choice).wrapping_add(k).wrapping_add(oldest);
            let big0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            s = [t1.wrapping_add(big0).wrapping_add(majority), a, b, c, d.wrapping_add(t1), e, f, g];
            let small0 = w1.rotate_right(7) ^ w1.rotate_right(18) ^ (w1 >> 3);
            let small1 = w14.rotate_right(17) ^ w14.rotate_right(19) ^ (w14 >> 10);
            words.rotate_left(1);
            words[15] = oldest.wrapping_add(small0).wrapping_add(w9).wrapping_add(small1);
        }
        for (state, new) in self.state.iter_mut().zip(s) {
            *state = state.wrapping_add(new);
        }
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Sha256;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use sha2::Digest;

    proptest! {
        #[test]
        fn it_is_the_librarys(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut ours = Sha256::new();
            ours.push(first);
            ours.push(second);
            prop_assert_eq!(&ours.finish()[..], &sha2::Sha256::digest(&bytes)[..]);
        }
    }

    /// FIPS 180-4, the example of two blocks.
    #[test]
    fn the_standards_example() {
        let mut sha = Sha256::new();
        sha.push(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
        assert_eq!(sha.finish()[..4], [0x24, 0x8d, 0x6a, 0x61]);
    }
}
