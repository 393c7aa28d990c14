//! The Huffman code of HPACK and QPACK (RFC 7541 section 5.2 and appendix B): decoding only, as what this crate
//! sends is short.

/// The length in bits of each octet's code, and of the end of a string, which is no octet.
///
/// The code is canonical: codes of one length are consecutive numbers in the order of their octets, and a
/// longer code begins after the shorter ones. So the lengths are the whole table.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const LONGEST: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Run {
    /// The first code.
    code: u32,
    /// How many codes there are.
    count: u32,
    /// Where the first symbol stands in `SORTED`.
    start: usize,
}

/// The symbols in the order of their codes.
static SORTED: [u16; SYMBOLS] = TABLE.0;
/// The codes of each length.
static RUNS: [Run; LONGEST + 1] = TABLE.1;

const TABLE: ([u16; SYMBOLS], [Run; LONGEST + 1]) = {
    let mut sorted = [0; SYMBOLS];
    let mut runs = [Run {
        code: 0,
        count: 0,
        start: 0,
    }; LONGEST + 1];
    let (mut code, mut at, mut length) = (0, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        let start = at;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        let count = (at - start) as u32;
        runs[length] = Run { code, count, start };
        code += count;
        length += 1;
    }
    (sorted, runs)
};

/// The symbol of this code.
fn symbol(code: u32, length: usize) -> Option<u16> {
    let run = &RUNS[length];
    let offset = code.checked_sub(run.code)?;
    (offset < run.count).then(|| SORTED[run.start + offset as usize])
}

/// Decode a string. `None` if it is not the encoding of one, or longer than `limit`.
pub(crate) fn decode(encoded: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(limit.min(encoded.len() * 8 / 5));
    let (mut code, mut length) = (0_u32, 0);
    for byte in encoded {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            let Some(symbol) = symbol(code, length) else {
                if length == LONGEST {
                    return None;
                }
                continue;
            };
            // The end of a string is never encoded: only its first bits are, as padding.
            if symbol == END || out.len() == limit {
                return None;
            }
            out.push(symbol as u8);
            (code, length) = (0, 0);
        }
    }
    // The padding is shorter than a byte, and the code of the end begins with ones alone.
    (length < 8 && code == (1 << length) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code_of(symbol: u16) -> (u32, usize) {
        let length = usize::from(LENGTHS[usize::from(symbol)]);
        let run = RUNS[length];
        let offset = SORTED[run.start..]
            .iter()
            .position(|each| *each == symbol)
            .expect("every symbol is sorted");
        (run.code + offset as u32, length)
    }

    /// These bits, filled up with ones.
    fn packed(codes: impl IntoIterator<Item = (u32, usize)>) -> Vec<u8> {
        let mut bits: Vec<u8> = codes
            .into_iter()
            .flat_map(|(code, length)| (0..length).rev().map(move |bit| (code >> bit & 1) as u8))
            .collect();
        bits.resize(bits.len().next_multiple_of(8), 1);
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit))
            .collect()
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        packed(text.iter().map(|byte| code_of(u16::from(*byte))))
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn examples_of_the_rfc() {
        for (encoded, text) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5ba9 7d7f", "custom-key"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("6402", "302"),
            ("aec3 771a 4b", "private"),
            (
                "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3",
                "https://www.example.com",
            ),
            ("640e ff", "307"),
            ("9bd9 ab", "gzip"),
            (
                "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 \
                 3160 65c0 03ed 4ee5 b106 3d50 07",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            let encoded = hex(encoded);
            assert_eq!(decode(&encoded, 1000).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), encoded);
        }
    }

    /// Codes that RFC 7541 appendix B lists, of every length.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (symbol, code, length) in [
            (48, 0x0, 5),
            (116, 0x9, 5),
            (32, 0x14, 6),
            (58, 0x5c, 7),
            (38, 0xf8, 8),
            (33, 0x3f8, 10),
            (39, 0x7fa, 11),
            (35, 0xffa, 12),
            (0, 0x1ff8, 13),
            (94, 0x3ffc, 14),
            (60, 0x7ffc, 15),
            (92, 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (153, 0x001f_ffdc, 21),
            (129, 0x003f_ffd2, 22),
            (1, 0x007f_ffd8, 23),
            (9, 0x00ff_ffea, 24),
            (199, 0x01ff_ffec, 25),
            (192, 0x03ff_ffe0, 26),
            (203, 0x07ff_ffde, 27),
            (2, 0x0fff_ffe2, 28),
            (10, 0x3fff_fffc, 30),
            (22, 0x3fff_fffe, 30),
            (END, 0x3fff_ffff, 30),
        ] {
            assert_eq!(code_of(symbol), (code, length), "{symbol}");
        }
    }

    /// The sum of Kraft is 1: no string of bits is without a meaning, and no code is missing.
    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS
            .iter()
            .map(|length| 1 << (LONGEST - usize::from(*length)))
            .sum();
        assert_eq!(sum, 1 << LONGEST);
        let mut sorted = SORTED;
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..=END));
    }

    #[test]
    fn every_octet_comes_back() {
        for octet in 0..=255 {
            let text = [octet; 3];
            assert_eq!(decode(&encode(&text), 3), Some(text.to_vec()), "{octet}");
        }
    }

    #[test]
    fn padding_is_ones_and_shorter_than_a_byte() {
        assert_eq!(decode(&[0b0000_0111], 9), Some(b"0".to_vec()));
        assert_eq!(decode(&[0b0000_0110], 9), None);
        assert_eq!(decode(&[0b0000_0111, 0xff], 9), None);
        assert_eq!(decode(&[0xff], 9), None);
        assert_eq!(decode(&[], 9), Some(Vec::new()));
        // 17 bits, and so 7 of padding, the most that there can be.
        assert_eq!(encode(b"0#").len(), 3);
        assert_eq!(decode(&encode(b"0#"), 9), Some(b"0#".to_vec()));
    }

    #[test]
    fn the_end_of_a_string_is_not_encoded() {
        assert_eq!(decode(&packed([code_of(END)]), 9), None);
        assert_eq!(
            decode(&packed([code_of(48), code_of(END), code_of(48)]), 9),
            None
        );
        assert_eq!(decode(&[0xff; 100], 100), None);
    }

    #[test]
    fn the_length_is_limited() {
        let encoded = encode(&[b'0'; 100]);
        assert_eq!(decode(&encoded, 99), None);
        assert_eq!(decode(&encoded, 100), Some(vec![b'0'; 100]));
    }

    proptest! {
        #[test]
        fn strings_come_back(text: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&text), text.len()), Some(text));
        }

        /// There is one encoding of each string.
        #[test]
        fn what_is_decoded_encodes_to_the_same(encoded: Vec<u8>) {
            if let Some(text) = decode(&encoded, 1000) {
                prop_assert_eq!(encode(&text), encoded);
            }
        }
    }
}
