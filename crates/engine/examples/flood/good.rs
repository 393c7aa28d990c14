//! The good peer: one connection that moves bytes all the time, and others that come, are
//! answered and go.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{CloseKind, Config, Connection, Endpoint, Identity, WriteError};

use crate::Failure;

/// Between two connects.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Good {
    dialer: Endpoint,
    moved: Arc<AtomicU64>,
    _transfer: (Endpoint, Connection),
}

impl Good {
    pub(crate) fn start(to: SocketAddr) -> Result<Self, Failure> {
        let endpoint = Endpoint::new(&Identity::generate(), Config::default())?;
        let connection = endpoint.connect(to, None)?;
        connection.wait_connected()?;
        let stream = connection.open()?;
        let moved = Arc::<AtomicU64>::default();
        let counter = moved.clone();
        thread::spawn(move || {
            let block = vec![1; 128 * 1024];
            let ended = loop {
                match stream.write_all(&block) {
                    Ok(_) => counter.fetch_add(block.len() as u64, Ordering::Relaxed),
                    Err(error) => break error,
                };
            };
            // The reason is nowhere else. Both sides close when all is measured.
            if !matches!(&ended, WriteError::Lost(loss) if loss.kind == CloseKind::Closed) {
                println!("  the good transfer ended: {ended}");
            }
        });
        Ok(Self {
            dialer: Endpoint::new(&Identity::generate(), Config::default())?,
            moved,
            _transfer: (endpoint, connection),
        })
    }

    /// Bytes that the transfer has handed over; all but some 10 MB are acknowledged.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Connect again and again, each time until an answer has come on a stream. How long each
    /// took, and how many came to nothing.
    pub(crate) fn connect_for(&self, to: SocketAddr, time: Duration) -> (Vec<Duration>, usize) {
        let (began, mut times, mut failed) = (Instant::now(), Vec::new(), 0);
        while began.elapsed() < time {
            let start = Instant::now();
            match self.visit(to) {
                Ok(()) => times.push(start.elapsed()),
                Err(error) => {
                    println!("  a good peer failed: {error}");
                    failed += 1;
                }
            }
            thread::sleep(PAUSE); // scenario: fifty a second, not as many as there can be.
        }
        (times, failed)
    }

    fn visit(&self, to: SocketAddr) -> Result<(), Failure> {
        let connection = self.dialer.connect(to, None)?;
        connection.wait_connected()?;
        let stream = connection.open()?;
        stream.write_all(b"?")?;
        let answer = stream.read_to_end(1)?;
        connection.close(0, b"");
        if answer == b"?" {
            Ok(())
        } else {
            Err("a wrong answer".into())
        }
    }
}
