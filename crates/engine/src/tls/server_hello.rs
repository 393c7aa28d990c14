//! Reads the cipher suite and the key exchange group from the ServerHello of TLS 1.3 (RFC 8446 section
//! 4.1.3), which is public and arrives or leaves in pieces. It checks nothing: TLS has done that.

/// The largest message that is read. TLS accepts none with more than 90 bytes beside its key share, and
/// the longest key share, X25519MLKEM768's, has 1120.
const LONGEST: usize = 2048;

/// Type and length of a handshake message.
const HEADER: usize = 4;

/// RFC 8446 section 4.
const SERVER_HELLO: u8 = 2;

/// RFC 8446 section 4.2.
const KEY_SHARE: u16 = 51;

/// The random of a HelloRetryRequest, which is a ServerHello otherwise (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a ServerHello chooses, by IANA's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) cipher_suite: u16,
    pub(super) group: u16,
}

/// Collects a server's first messages until the ServerHello is complete.
#[derive(Debug)]
pub(super) enum ServerHelloReader {
    /// The bytes of an incomplete message.
    Reading(Vec<u8>),
    /// `None` if the server sent something else.
    Done(Option<ServerHello>),
}

impl ServerHelloReader {
    pub(super) fn new() -> Self {
        Self::Reading(Vec::new())
    }

    pub(super) fn found(&self) -> Option<ServerHello> {
        match self {
            Self::Reading(_) => None,
            Self::Done(found) => *found,
        }
    }

    /// Take the next bytes of the server's messages. Those after the ServerHello are not looked at.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Self::Reading(partial) = self {
            let Some(missing) = missing(partial) else {
                *self = Self::Done(None);
                return;
            };
            let taken;
            (taken, bytes) = bytes.split_at(missing.min(bytes.len()));
            partial.extend_from_slice(taken);
            if taken.len() < missing {
                return;
            }
            if partial.len() == HEADER {
                continue;
            }
            match parse(partial) {
                Some(Message::Retry) => partial.clear(),
                Some(Message::ServerHello(hello)) => *self = Self::Done(Some(hello)),
                None => *self = Self::Done(None),
            }
        }
    }
}

/// How many bytes complete the header, or else the message. `None` if it is not read.
fn missing(partial: &[u8]) -> Option<usize> {
    let Some(header) = partial.first_chunk::<HEADER>() else {
        return Some(HEADER - partial.len());
    };
    let [kind, length @ ..] = *header;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    // An empty message would never be complete.
    let is_read = kind == SERVER_HELLO && (1..=LONGEST).contains(&length);
    is_read.then(|| HEADER + length - partial.len())
}

enum Message {
    Retry,
    ServerHello(ServerHello),
}

/// Parse a complete message.
fn parse(message: &[u8]) -> Option<Message> {
    let mut fields = Fields(message);
    fields.take(HEADER + 2)?;
    if fields.take(RETRY.len())? == RETRY {
        return Some(Message::Retry);
    }
    let session_id = fields.byte()?;
    fields.take(usize::from(session_id))?;
    let cipher_suite = fields.number()?;
    let _compression = fields.byte()?;
    let mut extensions = Fields(fields.vector()?);
    loop {
        let (kind, content) = (extensions.number()?, extensions.vector()?);
        if kind == KEY_SHARE {
            let group = Fields(content).number()?;
            let hello = ServerHello {
                cipher_suite,
                group,
            };
            return Some(Message::ServerHello(hello));
        }
    }
}

/// The rest of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// Bytes after their length in two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8448 section 3.
    const HELLO: &str = "\
        020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e26928001301\
        00002e00330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e75\
        1f0f002b00020304";

    /// RFC 8448 section 5: the HelloRetryRequest, and the ServerHello that follows.
    const RETRY_REQUEST: &str = "\
        020000ac0303cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c001301\
        000084003300020017002c0074007271dcd04bb88bc3189119398a00000000eefafc76c146b823b096\
        f8aacad365dd0030953f4edf625636e5f21bb2e23fcc654b1b5b40318d10d137abcbb87574e36e8a1f\
        025f7dfa5d6e50781b5eda4aa15b0c8be778257d16aa3030e9e7841dd9e4c0342267e8ca0caf571fb2\
        b7cff0f934b0002b00020304";
    const HELLO_AFTER_RETRY: &str = "\
        020000770303bb341d847fd789c47c387172dc0c9bf147fccacb5043d86ca4c598d3ff571b98001301\
        00004f003300450017004104583e054b7a66672ae020ad9d2686fcc85b5ad41a134a0f03ee72b89305\
        2bd85b4c8de6776f5b04ac07d83540eab3e3d9c547bc6528c4317d294686093a6cad7d002b00020304";

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).expect("hex")
    }

    fn read(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Option<ServerHello> {
        let mut reader = ServerHelloReader::new();
        for piece in pieces {
            reader.read(piece.as_ref());
        }
        reader.found()
    }

    const AES_X25519: Option<ServerHello> = Some(ServerHello {
        cipher_suite: 0x1301,
        group: 0x001d,
    });
    const AES_P256: Option<ServerHello> = Some(ServerHello {
        cipher_suite: 0x1301,
        group: 0x0017,
    });

    #[test]
    fn a_recorded_hello_is_read_at_once_and_byte_by_byte() {
        let hello = bytes(HELLO);
        assert_eq!(read([&hello]), AES_X25519);
        assert_eq!(read(hello.chunks(1)), AES_X25519);
        assert_eq!(read([&hello[..hello.len() - 1]]), None);
    }

    #[test]
    fn the_hello_after_a_retry_request_counts() {
        let (retry, hello) = (bytes(RETRY_REQUEST), bytes(HELLO_AFTER_RETRY));
        let both = [retry.clone(), hello.clone()].concat();
        assert_eq!(read([&retry]), None);
        assert_eq!(read([&retry, &hello]), AES_P256);
        assert_eq!(read([&both]), AES_P256);
        assert_eq!(read(both.chunks(7)), AES_P256);
    }

    #[test]
    fn what_follows_the_hello_changes_nothing() {
        let more = [
            bytes(HELLO),
            vec![8, 0, 0, 2, 0, 0],
            bytes(HELLO_AFTER_RETRY),
        ]
        .concat();
        assert_eq!(read([&more]), AES_X25519);
    }

    /// A session id, as TLS over TCP has it, and a key share as long as that of X25519MLKEM768.
    #[test]
    fn a_long_hello_with_a_session_id_is_read() {
        let share = vec![7; 1120];
        let extensions = [
            &[0x00, 0x33, 0x04, 0x64, 0x11, 0xec, 0x04, 0x60],
            &share[..],
        ]
        .concat();
        let head = [&[0x03, 0x03], &[9; 32][..], &[32], &[5; 32]].concat();
        let body = [&head[..], &[0x13, 0x02, 0x00, 0x04, 0x68], &extensions].concat();
        let length = u16::try_from(body.len()).expect("a short message");
        let [high, low] = length.to_be_bytes();
        let hello = [&[SERVER_HELLO, 0, high, low], &body[..]].concat();
        let expected = ServerHello {
            cipher_suite: 0x1302,
            group: 0x11ec,
        };
        assert_eq!(read(hello.chunks(500)), Some(expected));
    }

    #[test]
    fn other_messages_end_the_reading() {
        let mut hello = bytes(HELLO);
        for (place, value) in [(0, 1), (1, 1), (2, 9)] {
            let before = std::mem::replace(&mut hello[place], value);
            assert_eq!(read([&hello, &bytes(HELLO)]), None);
            hello[place] = before;
        }
        assert_eq!(read([&[SERVER_HELLO, 0, 0, 0], &bytes(HELLO)[..]]), None);
    }

    #[test]
    fn extensions_may_come_in_any_order_and_the_key_share_may_be_missing() {
        let mut hello = bytes(HELLO);
        let versions = hello.split_off(hello.len() - 6);
        let key_share = hello.split_off(hello.len() - 40);
        let swapped = [&hello[..], &versions, &key_share].concat();
        assert_eq!(read([&swapped]), AES_X25519);

        let shorter = 6;
        let end = hello.len();
        hello[3] -= 40;
        hello[end - 1] = shorter;
        assert_eq!(read([&hello[..], &versions]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_few_are_kept(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..12),
            length in 0u16..3000,
        ) {
            let mut reader = ServerHelloReader::new();
            let [high, low] = length.to_be_bytes();
            reader.read(&[SERVER_HELLO, 0, high, low]);
            for piece in pieces {
                reader.read(&piece);
                if let ServerHelloReader::Reading(partial) = &reader {
                    prop_assert!(partial.len() < HEADER + LONGEST);
                }
            }
        }

        #[test]
        fn a_damaged_hello_is_no_panic(place in 0usize..90, value: u8, end in 0usize..=90) {
            let mut hello = bytes(HELLO);
            hello[place] = value;
            read([&hello[..end], &hello[end..]]);
        }
    }
}
