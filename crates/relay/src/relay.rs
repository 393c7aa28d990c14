//! The loop over sockets: one for all dialers, and one for each of them towards the target, so
//! that answers can be assigned. `line` decides about datagrams; this file only moves them.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use quinn_udp::RecvMeta;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    command::Command,
    line::{Batch, Line},
    options::Options,
    socket::Socket,
};

/// Buffers per receive call, each large enough for what GRO coalesces.
const RECEIVE_BATCH: usize = 16;
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Batches of fewer bytes than this are copied out of their buffer, so that it can be reused.
const WORTH_A_BUFFER: usize = 16 * 1024;

/// Most buffers retained for reuse.
const MOST_SPARE: usize = 2048;

/// Receive calls on one socket before the others are served.
const RECEIVE_TURN: usize = 4;

/// A dialer without datagrams either way for this long loses its socket when another arrives.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

const TO_TARGET: usize = 0;
const TO_CLIENT: usize = 1;

/// A dialer, and its socket towards the target.
struct Client {
    address: SocketAddr,
    socket: Socket,
    last_heard: Instant,
}

/// The socket of all dialers, or the one of a dialer towards the target.
#[derive(Clone, Copy)]
enum Side {
    Front,
    Client(u64),
}

/// A relay between dialers and one target.
pub struct Relay {
    to: SocketAddr,
    front: Socket,
    address: SocketAddr,
    clients: HashMap<u64, Client>,
    ids: HashMap<SocketAddr, u64>,
    next_id: u64,
    lines: [Line; 2],
    buffers: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    rebind_every: Option<Duration>,
    rebind_at: Option<Instant>,
    rebinds: u64,
    /// Batches that the system refused to send, or that no socket could be bound for.
    refused: u64,
    /// Kernel drops of sockets that are closed by now.
    old_drops: u64,
    /// Longest time between a batch's due time and its sending.
    most_late: Duration,
}

impl Relay {
    /// Listen. Nothing is relayed before [`run`](Self::run).
    pub fn bind(options: &Options) -> io::Result<Self> {
        let front = Socket::bind(options.listen)?;
        let conditions = &options.conditions;
        let marked = conditions.drop_marked;
        let line = |direction: u64, drops_marked| {
            let seed = options.seed.wrapping_mul(2) + direction;
            let mut line = Line::new(conditions.clone(), seed);
            line.drop_marked(drops_marked);
            line
        };
        Ok(Self {
            to: options.to,
            address: front.local_addr()?,
            front,
            clients: HashMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            lines: [line(0, marked.to_target), line(1, marked.to_client)],
            buffers: vec![vec![0; RECEIVE_BUFFER]; RECEIVE_BATCH],
            spare: Vec::new(),
            rebind_every: conditions.rebind,
            rebind_at: None,
            rebinds: 0,
            refused: 0,
            old_drops: 0,
            most_late: Duration::ZERO,
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Relay until `control` is closed. Its lines are commands, each answered by a line in `answers`.
    pub fn run(&mut self, control: impl AsFd, mut answers: impl Write) -> io::Result<()> {
        // The default timer slack delays every wait by 50 us. If refused, times are less exact.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut unread = Vec::new();
        loop {
            self.move_due();
            let (says_something, readable) = self.wait(&control)?;
            for side in readable {
                self.receive(side)?;
            }
            if says_something {
                let mut said = [0; 4096];
                match rustix::io::read(&control, &mut said)? {
                    0 => return Ok(()),
                    n => unread.extend_from_slice(&said[..n]),
                }
                while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = unread.drain(..=end).collect();
                    let answer = self.obey(&String::from_utf8_lossy(&line))?;
                    writeln!(answers, "{answer}")?;
                    answers.flush()?;
                }
            }
        }
    }

    fn obey(&mut self, line: &str) -> io::Result<String> {
        let now = Instant::now();
        let lines = &mut self.lines;
        match Command::parse(line) {
            Err(error) => return Ok(format!(r#"{{"error": {error:?}}}"#)),
            Ok(Command::Totals) => return Ok(self.totals()),
            Ok(Command::Rebind) => self.rebind()?,
            Ok(Command::Blackout(lasts)) => lines.iter_mut().for_each(|l| l.darken(now + lasts)),
            Ok(Command::Mtu(mtu)) => lines.iter_mut().for_each(|l| l.shrink(mtu)),
            Ok(Command::DropMarked(directions)) => {
                lines[TO_TARGET].drop_marked(directions.to_target);
                lines[TO_CLIENT].drop_marked(directions.to_client);
            }
            Ok(Command::Loss(share)) => lines.iter_mut().for_each(|l| l.lose(share)),
        }
        Ok(format!(r#"{{"done": {:?}}}"#, line.trim()))
    }

    /// The counters, as one line of JSON.
    pub fn totals(&self) -> String {
        let drops: u64 = self.sockets().map(Socket::kernel_drops).sum();
        format!(
            r#"{{"to_target": {}, "to_client": {}, "clients": {}, "rebinds": {}, "kernel_drops": {}, "refused": {}, "most_late_ms": {:.3}}}"#,
            self.lines[TO_TARGET].totals(),
            self.lines[TO_CLIENT].totals(),
            self.next_id,
            self.rebinds,
            drops + self.old_drops,
            self.refused,
            self.most_late.as_secs_f64() * 1e3,
        )
    }

    fn sockets(&self) -> impl Iterator<Item = &Socket> {
        let clients = self.clients.values().map(|client| &client.socket);
        std::iter::once(&self.front).chain(clients)
    }

    /// Send what is due.
    fn move_due(&mut self) {
        let mut now = Instant::now();
        for direction in [TO_TARGET, TO_CLIENT] {
            while let Some((at, batch)) = self.lines[direction].pop(now) {
                let Some(client) = self.clients.get(&batch.client) else {
                    continue;
                };
                let (socket, to) = match direction {
                    TO_TARGET => (&client.socket, self.to),
                    _ => (&self.front, client.address),
                };
                if !socket.send(to, batch.contents(), batch.stride, batch.ecn) {
                    self.refused += 1;
                }
                now = Instant::now();
                self.most_late = self.most_late.max(now - at);
                if batch.buffer.len() == RECEIVE_BUFFER && self.spare.len() < MOST_SPARE {
                    self.spare.push(batch.buffer);
                }
            }
        }
        if self.rebind_at.is_some_and(|at| at <= now) {
            self.rebind_at = self.rebind_every.map(|every| now + every);
            // When no new socket can be bound, the old one stays in use.
            if self.rebind().is_err() {
                self.refused += 1;
            }
        }
    }

    /// Wait for datagrams, a command or the next deadline.
    fn wait(&self, control: &impl AsFd) -> io::Result<(bool, Vec<Side>)> {
        let deadline = self
            .lines
            .iter()
            .filter_map(Line::deadline)
            .chain(self.rebind_at)
            .min();
        let timeout = deadline.map(|at| {
            let rest = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            }
        });
        let mut sides = vec![Side::Front];
        sides.extend(self.clients.keys().map(|id| Side::Client(*id)));
        let mut fds = vec![
            PollFd::new(control, PollFlags::IN),
            PollFd::new(&self.front, PollFlags::IN),
        ];
        let clients = self.clients.values().map(|client| &client.socket);
        fds.extend(clients.map(|socket| PollFd::new(socket, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let readable = fds[1..]
            .iter()
            .zip(sides)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, side)| side);
        Ok((!fds[0].revents().is_empty(), readable.collect()))
    }

    fn receive(&mut self, side: Side) -> io::Result<()> {
        for _ in 0..RECEIVE_TURN {
            let socket = match side {
                Side::Front => &self.front,
                Side::Client(id) => match self.clients.get(&id) {
                    Some(client) => &client.socket,
                    None => return Ok(()),
                },
            };
            let mut meta = [RecvMeta::default(); RECEIVE_BATCH];
            let mut slices: Vec<_> = self
                .buffers
                .iter_mut()
                .map(|buffer| io::IoSliceMut::new(buffer))
                .collect();
            let filled = match socket.receive(&mut slices, &mut meta) {
                Ok(filled) => filled,
                Err(error) => {
                    return match error.kind() {
                        io::ErrorKind::WouldBlock
                        // ICMP errors for datagrams sent before: the peer's failure, not this
                        // socket's.
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset => Ok(()),
                        _ => Err(error),
                    };
                }
            };
            let now = Instant::now();
            for (index, meta) in meta[..filled].iter().enumerate() {
                self.take(side, now, index, meta);
            }
            if filled < RECEIVE_BATCH {
                break;
            }
        }
        Ok(())
    }

    /// Put the received datagrams of a buffer on their line.
    fn take(&mut self, side: Side, now: Instant, index: usize, meta: &RecvMeta) {
        let id = match side {
            Side::Front => self.client(now, meta.addr),
            Side::Client(id) => (meta.addr == self.to).then_some(id),
        };
        let Some(id) = id else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&id) {
            client.last_heard = now;
        }
        let buffer = if meta.len < WORTH_A_BUFFER {
            self.buffers[index][..meta.len].to_vec()
        } else {
            let next = self.spare.pop();
            let next = next.unwrap_or_else(|| vec![0; RECEIVE_BUFFER]);
            std::mem::replace(&mut self.buffers[index], next)
        };
        let batch = Batch {
            client: id,
            buffer,
            len: meta.len,
            stride: meta.stride,
            ecn: meta.ecn,
        };
        if self.rebind_at.is_none() {
            self.rebind_at = self.rebind_every.map(|every| now + every);
        }
        let (direction, other) = match side {
            Side::Front => (TO_TARGET, TO_CLIENT),
            Side::Client(_) => (TO_CLIENT, TO_TARGET),
        };
        self.lines[other].begin(now);
        self.lines[direction].push(now, batch);
    }

    /// The dialer at an address. A new one gets a socket.
    fn client(&mut self, now: Instant, address: SocketAddr) -> Option<u64> {
        if let Some(id) = self.ids.get(&address) {
            return Some(*id);
        }
        self.forget(now);
        let Ok(socket) = self.towards_target() else {
            self.refused += 1;
            return None;
        };
        self.next_id += 1;
        let client = Client {
            address,
            socket,
            last_heard: now,
        };
        self.clients.insert(self.next_id, client);
        self.ids.insert(address, self.next_id);
        Some(self.next_id)
    }

    fn towards_target(&self) -> io::Result<Socket> {
        let ip = match self.to.ip() {
            ip if ip.is_loopback() => ip,
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Socket::bind(SocketAddr::new(ip, 0))
    }

    /// Drop dialers that were silent for `FORGOTTEN_AFTER`.
    fn forget(&mut self, now: Instant) {
        let (ids, old_drops) = (&mut self.ids, &mut self.old_drops);
        self.clients.retain(|_, client| {
            let is_kept = now.saturating_duration_since(client.last_heard) < FORGOTTEN_AFTER;
            if !is_kept {
                ids.remove(&client.address);
                *old_drops += client.socket.kernel_drops();
            }
            is_kept
        });
    }

    /// Give every dialer a new port towards the target; answers to the old one are lost.
    fn rebind(&mut self) -> io::Result<()> {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            let next = self.towards_target()?;
            if let Some(client) = self.clients.get_mut(&id) {
                let old = std::mem::replace(&mut client.socket, next);
                self.old_drops += old.kernel_drops();
            }
        }
        self.rebinds += 1;
        Ok(())
    }
}
