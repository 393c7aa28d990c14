//! Reads the application protocols that a ClientHello offers (RFC 8446 section 4.1.2, RFC 7301).
//!
//! The input comes from peers that are not authenticated: nothing is allocated and no input may cause a panic.
//! Nothing else of the message is checked; the TLS session that gets it does that.

/// How a ClientHello begins. RFC 8446 section 4.
const CLIENT_HELLO: u8 = 1;

/// RFC 7301 section 3.1.
const ALPN: u16 = 16;

/// Type and length of a handshake message. RFC 8446 section 4.
const HEADER: usize = 4;

/// The first bytes of a client's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientHello<'a> {
    /// So far the beginning of a ClientHello.
    Partial {
        /// The length of the whole message, once its header is there.
        length: Option<usize>,
    },
    /// A whole ClientHello that offers these protocols.
    Whole(Protocols<'a>),
    /// No ClientHello, or one whose extensions cannot be read.
    Unreadable,
}

/// The protocols of an ALPN extension, in the client's order; none without the extension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protocols<'a>(&'a [u8]);

/// A length points past the end, or a vector is shorter than TLS allows.
#[derive(Debug)]
struct Malformed;

/// Read the first message of `bytes`. Bytes after it are ignored.
pub fn read(bytes: &[u8]) -> ClientHello<'_> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return ClientHello::Partial { length: None };
    };
    if kind != CLIENT_HELLO {
        return ClientHello::Unreadable;
    }
    let Some((length, rest)) = rest.split_first_chunk::<3>() else {
        return ClientHello::Partial { length: None };
    };
    let length = number(length);
    match rest.get(..length) {
        None => ClientHello::Partial {
            length: Some(HEADER + length),
        },
        Some(body) => match protocols(Reader(body)) {
            Ok(protocols) => ClientHello::Whole(protocols),
            Err(Malformed) => ClientHello::Unreadable,
        },
    }
}

/// The protocols of a ClientHello without its header.
fn protocols(mut body: Reader<'_>) -> Result<Protocols<'_>, Malformed> {
    // legacy_version and random.
    body.take(2 + 32)?;
    let _session_id = body.vector::<1>()?;
    let _cipher_suites = body.vector::<2>()?;
    let _compression_methods = body.vector::<1>()?;
    if body.is_empty() {
        return Ok(Protocols::default());
    }
    let mut extensions = Reader(body.vector::<2>()?);
    body.end()?;
    let mut found = None;
    while !extensions.is_empty() {
        let kind = extensions.number::<2>()?;
        let contents = extensions.vector::<2>()?;
        // RFC 8446 section 4.2: no extension may occur twice.
        if kind == usize::from(ALPN) && found.replace(list(contents)?).is_some() {
            return Err(Malformed);
        }
    }
    Ok(found.unwrap_or_default())
}

/// `ProtocolName protocol_name_list<2..2^16-1>`, in which no name is empty.
fn list(contents: &[u8]) -> Result<Protocols<'_>, Malformed> {
    let mut outer = Reader(contents);
    let names = outer.vector::<2>()?;
    outer.end()?;
    if names.is_empty() {
        return Err(Malformed);
    }
    let mut rest = Reader(names);
    while !rest.is_empty() {
        if rest.vector::<1>()?.is_empty() {
            return Err(Malformed);
        }
    }
    Ok(Protocols(names))
}

impl<'a> Protocols<'a> {
    /// The names.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = Reader(self.0);
        std::iter::from_fn(move || rest.vector::<1>().ok())
    }

    /// Whether `protocol` is one of them.
    pub fn contains(self, protocol: &[u8]) -> bool {
        self.iter().any(|offered| offered == protocol)
    }
}

/// The unread rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Result<usize, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(number(bytes))
    }

    /// A vector whose length takes `N` bytes.
    fn vector<const N: usize>(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number::<N>()?;
        self.take(length)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | usize::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(width: usize, contents: &[u8]) -> Vec<u8> {
        let length = contents.len().to_be_bytes();
        [&length[length.len() - width..], contents].concat()
    }

    fn extension(kind: u16, contents: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, contents)].concat()
    }

    fn alpn(names: &[&[u8]]) -> Vec<u8> {
        let names: Vec<u8> = names.iter().flat_map(|name| vector(1, name)).collect();
        extension(ALPN, &vector(2, &names))
    }

    fn message(after_compression: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[9; 32]),
            &vector(2, &[0x13, 0x01]),
            &vector(1, &[0]),
            after_compression,
        ]
        .concat();
        [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        message(&vector(2, extensions))
    }

    #[track_caller]
    fn names(bytes: &[u8]) -> Vec<&[u8]> {
        match read(bytes) {
            ClientHello::Whole(protocols) => protocols.iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn protocols_are_read_in_their_order() {
        let other = extension(43, &[2, 3, 4]);
        let bytes = hello(&[&other[..], &alpn(&[b"h3", b"libp2p"]), &other].concat());
        assert_eq!(names(&bytes), [&b"h3"[..], b"libp2p"]);
        let ClientHello::Whole(protocols) = read(&bytes) else {
            panic!("a whole ClientHello");
        };
        assert!(protocols.contains(b"h3") && protocols.contains(b"libp2p"));
        assert!(!protocols.contains(b"h") && !protocols.contains(b""));
        // What follows is another message.
        assert_eq!(names(&[&bytes[..], b"more"].concat()).len(), 2);
    }

    #[test]
    fn a_client_may_offer_none() {
        assert_eq!(names(&hello(&extension(43, &[]))), [&[]; 0]);
        assert_eq!(names(&hello(&[])), [&[]; 0]);
        assert_eq!(names(&message(&[])), [&[]; 0]);
    }

    #[test]
    fn every_beginning_is_partial() {
        let bytes = hello(&alpn(&[b"h3"]));
        for end in 0..bytes.len() {
            let length = (end >= HEADER).then_some(bytes.len());
            assert_eq!(read(&bytes[..end]), ClientHello::Partial { length });
        }
    }

    #[test]
    fn what_is_malformed_is_unreadable() {
        let twice = [alpn(&[b"h3"]), alpn(&[b"libp2p"])].concat();
        let sound = alpn(&[b"h3"]);
        for bytes in [
            vec![2],
            vec![0x16, 3, 1],
            message(&[0]),
            message(&[&vector(2, &sound)[..], b"?"].concat()),
            hello(&twice),
            hello(&sound[..sound.len() - 1]),
            hello(&extension(ALPN, &[])),
            hello(&extension(ALPN, &vector(2, &[]))),
            hello(&extension(ALPN, &vector(2, &vector(1, &[])))),
            hello(&extension(ALPN, &vector(2, &[3, b'h', b'3']))),
            hello(&extension(
                ALPN,
                &[&vector(2, &vector(1, b"h3"))[..], b"?"].concat(),
            )),
            [&[CLIENT_HELLO][..], &vector(3, &[3, 3])].concat(),
            [&[CLIENT_HELLO][..], &vector(3, &[])].concat(),
        ] {
            assert_eq!(read(&bytes), ClientHello::Unreadable, "{bytes:02x?}");
        }
    }
}
