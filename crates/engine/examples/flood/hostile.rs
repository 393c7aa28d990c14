//! Hostile datagrams: what a host without keys can send, from many ports and many
//! addresses of the loopback. It reads no answer.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, initial::Forge};

/// Sockets that it sends from, four on each address.
const SOCKETS: u16 = 400;
/// How often it looks at the clock.
const TICK: Duration = Duration::from_millis(2);

pub(crate) const KINDS: [&str; 8] = [
    "garbage", "initials", "halves", "failing", "tokens", "versions", "shorts", "mixture",
];

pub(crate) fn run(kind: &str, to: SocketAddr, rate: u64, time: Duration) -> Result<u64, Failure> {
    let sockets: Vec<UdpSocket> = (0..SOCKETS)
        .map(|n| UdpSocket::bind((Ipv4Addr::new(127, 0, 1, (n / 4 + 1) as u8), 0)))
        .collect::<Result<_, _>>()?;
    let mut forgery = Forgery::new();
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let from = &sockets[(forgery.roll() % u64::from(SOCKETS)) as usize];
            let named = match kind {
                "mixture" => KINDS[(sent % 7) as usize],
                other => other,
            };
            for datagram in forgery.make(named) {
                // A full buffer of the system is a lost datagram like any other.
                let _ = from.send_to(&datagram, to);
                sent += 1;
            }
        }
        thread::sleep(TICK); // scenario: the rate.
    }
    Ok(sent)
}

struct Forgery {
    sound: Forge,
    failing: Forge,
    state: u64,
}

impl Forgery {
    fn new() -> Self {
        Self {
            sound: Forge::sound(),
            failing: Forge::saying(b"h3", &[]),
            state: u64::from(std::process::id()) | 1,
        }
    }

    /// xorshift64.
    fn roll(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.roll().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn make(&mut self, kind: &str) -> Vec<Vec<u8>> {
        let id = self.roll().to_be_bytes();
        match kind {
            // Dialers that never answer what they are answered.
            "initials" => vec![self.sound.whole(&id, b"")],
            "halves" => vec![self.sound.initial(&id, b"", 0, 0..60)],
            // A handshake that fails with its second packet, when it has cost something.
            "failing" => {
                let rest = 100..self.failing.hello();
                vec![
                    self.failing.initial(&id, b"", 0, 0..100),
                    self.failing.initial(&id, b"", 1, rest),
                ]
            }
            "tokens" => {
                let token = self.noise(80);
                vec![self.sound.whole(&id, &token)]
            }
            // a listener answers them with Version Negotiation.
            "versions" => {
                let mut datagram = self.noise(1200);
                datagram[0] |= 0xc0;
                datagram[1..5].copy_from_slice(&[0x0a, 0x1a, 0x2a, 0x4a]);
                datagram[5] = 8;
                datagram[14] = 8;
                vec![datagram]
            }
            // Packets of connections that do not exist: each may draw a stateless reset.
            "shorts" => {
                let mut datagram = self.noise(1200);
                datagram[0] = (datagram[0] & 0x3f) | 0x40;
                vec![datagram]
            }
            _ => {
                let len = 1 + (self.roll() % 1400) as usize;
                vec![self.noise(len)]
            }
        }
    }
}
