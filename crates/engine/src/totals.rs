//! The counters of an endpoint, and their sums in the process: relaxed atomics, so that counting never
//! waits and a fork cannot leave them locked. The driver and the handles count; this file only adds.

use std::{
    array,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    error::{CloseKind, ConnectionError, Party},
    statistics::Statistics,
};

/// Upper bounds of the buckets of a [`Distribution`]: from a network on one machine to the longest
/// default handshake timeout.
const BOUNDS: [Duration; 13] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// One for each bound, and one for all longer times.
const BUCKETS: usize = BOUNDS.len() + 1;

const PARTIES: usize = Party::ALL.len();
const KINDS: usize = CloseKind::ALL.len();

/// How many times fall between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distribution {
    /// How many times are at most as long as the bound of the same index, and longer than the one
    /// before. The last bucket has no bound.
    pub buckets: [u64; BUCKETS],
    /// The sum of all times.
    pub sum: Duration,
}

impl Distribution {
    /// The upper bounds of all buckets but the last.
    pub const BOUNDS: &[Duration] = &BOUNDS;

    fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
    }
}

/// A [`Distribution`] that can be counted into. A gauge takes out what it put in.
struct Times {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Times {
    const fn zero() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            micros: AtomicU64::new(0),
        }
    }

    fn bucket(&self, time: Duration) -> &AtomicU64 {
        &self.buckets[BOUNDS.partition_point(|bound| *bound < time)]
    }

    fn insert(&self, time: Duration) {
        self.bucket(time).fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros(time), Ordering::Relaxed);
    }

    fn remove(&self, time: Duration) {
        self.bucket(time).fetch_sub(1, Ordering::Relaxed);
        self.micros.fetch_sub(micros(time), Ordering::Relaxed);
    }

    fn read(&self) -> Distribution {
        Distribution {
            buckets: array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }

    fn reset(&self) {
        for counter in self.buckets.iter().chain([&self.micros]) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Whether the address is one of IPv6, and not IPv4's in its notation.
fn is_ip6(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv6()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an endpoint has done since it was made, and what it has in use now; or the sums of
        /// all endpoints of the process, which those that have ended stay part of.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct EndpointStatistics {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections that ended after their handshake, by the index of who ended them in
            /// [`Party::ALL`] and of how in [`CloseKind::ALL`].
            pub connections_closed: [[u64; KINDS]; PARTIES],
            /// The durations of completed handshakes.
            pub handshake_times: Distribution,
            /// Those of sessions of WebTransport, up to the proof of the peer's identity.
            pub webtransport_handshake_times: Distribution,
            /// The smoothed round-trip times of the open connections now.
            pub round_trip_times: Distribution,
            /// Bytes that all connections together may hold for readers
            /// ([`Config::receive_budget`](crate::Config::receive_budget)); zero in the sums.
            pub receive_budget: u64,
            /// How much of it is reserved now.
            pub receive_reserved: u64,
            /// Bytes that all connections together may hold for peers
            /// ([`Config::send_budget`](crate::Config::send_budget)); zero in the sums.
            pub send_budget: u64,
            /// How much of it is reserved now.
            pub send_reserved: u64,
        }

        impl EndpointStatistics {
            /// The names and values of the fields that are plain numbers, without the budgets.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        /// The counters behind [`EndpointStatistics`]. A session of WebTransport counts in those that
        /// have its name only, and [`with_sessions`](EndpointStatistics::with_sessions) makes the sums.
        pub(crate) struct Totals {
            $(pub(crate) $name: AtomicU64,)*
            closed: [[AtomicU64; KINDS]; PARTIES],
            handshake_times: Times,
            webtransport_handshake_times: Times,
            round_trip_times: Times,
        }

        impl Totals {
            const fn zero() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                    closed: [const { [const { AtomicU64::new(0) }; KINDS] }; PARTIES],
                    handshake_times: Times::zero(),
                    webtransport_handshake_times: Times::zero(),
                    round_trip_times: Times::zero(),
                }
            }

            pub(crate) fn read(&self) -> EndpointStatistics {
                EndpointStatistics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    connections_closed: array::from_fn(|party| {
                        array::from_fn(|kind| self.closed[party][kind].load(Ordering::Relaxed))
                    }),
                    handshake_times: self.handshake_times.read(),
                    webtransport_handshake_times: self.webtransport_handshake_times.read(),
                    round_trip_times: self.round_trip_times.read(),
                    ..EndpointStatistics::default()
                }
                .with_sessions()
            }

            fn reset(&self) {
                let plain = [$(&self.$name,)*];
                for counter in plain.into_iter().chain(self.closed.iter().flatten()) {
                    counter.store(0, Ordering::Relaxed);
                }
                self.handshake_times.reset();
                self.webtransport_handshake_times.reset();
                self.round_trip_times.reset();
            }
        }
    };
}

totals! {
    /// Endpoints that exist now: one, or none once it has ended.
    endpoints,
    /// Inbound connections whose handshake is in progress now.
    handshakes_inbound,
    /// Outbound connections whose handshake is in progress now: one for each address that is dialed,
    /// and one more while a silent peer is asked again.
    handshakes_outbound,
    /// Connections that are open now: their handshake has completed, and neither side has ended them.
    connections_open,
    /// Streams now on which either direction is still open.
    streams_open,
    /// Dialed connections over IPv4 whose handshake completed.
    dialed_ip4,
    /// Dialed connections over IPv6 whose handshake completed.
    dialed_ip6,
    /// Inbound connections over IPv4 whose handshake completed.
    accepted_ip4,
    /// Inbound connections over IPv6 whose handshake completed.
    accepted_ip6,
    /// Dialed connections over IPv4 that have ended after their handshake.
    dialed_closed_ip4,
    /// Dialed connections over IPv6 that have ended after their handshake.
    dialed_closed_ip6,
    /// Inbound connections over IPv4 that have ended after their handshake.
    accepted_closed_ip4,
    /// Inbound connections over IPv6 that have ended after their handshake.
    accepted_closed_ip6,
    /// Sessions of WebTransport among `dialed_ip4`.
    dialed_webtransport_ip4,
    /// Sessions of WebTransport among `dialed_ip6`.
    dialed_webtransport_ip6,
    /// Sessions of WebTransport among `accepted_ip4`.
    accepted_webtransport_ip4,
    /// Sessions of WebTransport among `accepted_ip6`.
    accepted_webtransport_ip6,
    /// Sessions of WebTransport among `dialed_closed_ip4`.
    dialed_closed_webtransport_ip4,
    /// Sessions of WebTransport among `dialed_closed_ip6`.
    dialed_closed_webtransport_ip6,
    /// Sessions of WebTransport among `accepted_closed_ip4`.
    accepted_closed_webtransport_ip4,
    /// Sessions of WebTransport among `accepted_closed_ip6`.
    accepted_closed_webtransport_ip6,
    /// Inbound handshakes started.
    handshakes_started,
    /// Inbound handshakes that failed, for any reason.
    handshakes_failed,
    /// Failed inbound handshakes that this side refused, because of the peer's certificate.
    handshakes_refused,
    /// Inbound connections refused because their address is denied.
    refused_denied_address,
    /// Inbound connections refused because of [`Config::max_connections`](crate::Config::max_connections).
    refused_connections,
    /// Inbound connections refused because of
    /// [`Config::max_connections_per_address`](crate::Config::max_connections_per_address).
    refused_connections_per_address,
    /// First packets ignored because of [`Config::max_handshakes`](crate::Config::max_handshakes).
    /// While the limit is reached most are dropped before they can be counted.
    ignored_handshakes,
    /// First packets ignored because of
    /// [`Config::max_handshakes_per_address`](crate::Config::max_handshakes_per_address).
    ignored_handshakes_per_address,
    /// Inbound connections closed after their handshake because of
    /// [`Config::max_accept_backlog`](crate::Config::max_accept_backlog).
    refused_accept_backlog,
    /// Retry packets sent to validate an address (RFC 9000 section 8.1.2).
    retries_sent,
    /// Stateless resets sent for packets of unknown connections (RFC 9000 section 10.3).
    resets_sent,
    /// Stateless resets not sent, because of the limit of 1 000 per second after a burst of 1 000.
    resets_suppressed,
    /// Datagrams received on all sockets, those of no connection included.
    datagrams_received,
    /// Their bytes of UDP payload.
    bytes_received,
    /// The batches in which the system passed them on. With receive offload, fewer than
    /// `datagrams_received`.
    batches_received,
    /// Received datagrams that were dropped because their source cannot be answered.
    datagrams_unanswerable,
    /// Datagrams that connections sent.
    datagrams_sent,
    /// Their bytes of UDP payload.
    bytes_sent,
    /// The batches in which the system took them. With segmentation offload, fewer than
    /// `datagrams_sent`.
    batches_sent,
    /// Packets that connections sent. A datagram may hold several in the handshake.
    packets_sent,
    /// Packets declared lost (RFC 9002 section 6).
    packets_lost,
    /// Bytes of the packets declared lost.
    bytes_lost,
    /// Congestion events (RFC 9002 section 7).
    congestion_events,
    /// PINGs that kept silent connections alive.
    keep_alives_sent,
    /// Address changes of peers that were followed (RFC 9000 section 9).
    migrations,
    /// Streams that this program opened.
    streams_opened,
    /// Streams of peers that this program accepted.
    streams_accepted,
}

impl EndpointStatistics {
    /// Add sessions of WebTransport to the numbers of all connections. They are counted apart: if two
    /// counters had each session, a snapshot between both would make the difference, the connections
    /// without WebTransport, too large, and smaller in the next snapshot.
    fn with_sessions(mut self) -> Self {
        for (all, sessions) in [
            (&mut self.dialed_ip4, self.dialed_webtransport_ip4),
            (&mut self.dialed_ip6, self.dialed_webtransport_ip6),
            (&mut self.accepted_ip4, self.accepted_webtransport_ip4),
            (&mut self.accepted_ip6, self.accepted_webtransport_ip6),
            (
                &mut self.dialed_closed_ip4,
                self.dialed_closed_webtransport_ip4,
            ),
            (
                &mut self.dialed_closed_ip6,
                self.dialed_closed_webtransport_ip6,
            ),
            (
                &mut self.accepted_closed_ip4,
                self.accepted_closed_webtransport_ip4,
            ),
            (
                &mut self.accepted_closed_ip6,
                self.accepted_closed_webtransport_ip6,
            ),
        ] {
            *all += sessions;
        }
        self.handshake_times.add(&self.webtransport_handshake_times);
        self
    }
}

/// The sums of all endpoints of the process.
pub(crate) static PROCESS: Totals = Totals::zero();

impl Default for Totals {
    fn default() -> Self {
        Self::zero()
    }
}

impl Totals {
    /// Add to a counter of the endpoint and of the process.
    pub(crate) fn add(&self, counter: impl Fn(&Self) -> &AtomicU64, more: u64) {
        if more > 0 {
            counter(self).fetch_add(more, Ordering::Relaxed);
            counter(&PROCESS).fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Take from a counter of what is in use now.
    pub(crate) fn take(&self, counter: impl Fn(&Self) -> &AtomicU64, less: u64) {
        counter(self).fetch_sub(less, Ordering::Relaxed);
        counter(&PROCESS).fetch_sub(less, Ordering::Relaxed);
    }

    /// A connection ended after its handshake.
    pub(crate) fn closed(
        &self,
        error: &ConnectionError,
        is_inbound: bool,
        is_webtransport: bool,
        remote: SocketAddr,
    ) {
        let (party, kind) = (error.by as usize, error.kind as usize);
        self.add(|totals| &totals.closed[party][kind], 1);
        match (is_inbound, is_webtransport, is_ip6(remote)) {
            (false, false, false) => self.add(|totals| &totals.dialed_closed_ip4, 1),
            (false, false, true) => self.add(|totals| &totals.dialed_closed_ip6, 1),
            (false, true, false) => self.add(|totals| &totals.dialed_closed_webtransport_ip4, 1),
            (false, true, true) => self.add(|totals| &totals.dialed_closed_webtransport_ip6, 1),
            (true, false, false) => self.add(|totals| &totals.accepted_closed_ip4, 1),
            (true, false, true) => self.add(|totals| &totals.accepted_closed_ip6, 1),
            (true, true, false) => self.add(|totals| &totals.accepted_closed_webtransport_ip4, 1),
            (true, true, true) => self.add(|totals| &totals.accepted_closed_webtransport_ip6, 1),
        }
    }

    /// The handshake of a connection with `remote` completed. Inbound ones are then offered to a listener.
    pub(crate) fn opened(&self, is_inbound: bool, is_webtransport: bool, remote: SocketAddr) {
        match (is_inbound, is_webtransport, is_ip6(remote)) {
            (false, false, false) => self.add(|totals| &totals.dialed_ip4, 1),
            (false, false, true) => self.add(|totals| &totals.dialed_ip6, 1),
            (false, true, false) => self.add(|totals| &totals.dialed_webtransport_ip4, 1),
            (false, true, true) => self.add(|totals| &totals.dialed_webtransport_ip6, 1),
            (true, false, false) => self.add(|totals| &totals.accepted_ip4, 1),
            (true, false, true) => self.add(|totals| &totals.accepted_ip6, 1),
            (true, true, false) => self.add(|totals| &totals.accepted_webtransport_ip4, 1),
            (true, true, true) => self.add(|totals| &totals.accepted_webtransport_ip6, 1),
        }
    }

    /// A handshake completed in this time.
    pub(crate) fn handshake_completed(&self, time: Duration, is_webtransport: bool) {
        for totals in [self, &PROCESS] {
            match is_webtransport {
                true => totals.webtransport_handshake_times.insert(time),
                false => totals.handshake_times.insert(time),
            }
        }
    }

    /// An open connection's round-trip time was `before` and is `after`; `None` while it is not open.
    pub(crate) fn round_trip_time_changed(
        &self,
        before: Option<Duration>,
        after: Option<Duration>,
    ) {
        if before == after {
            return;
        }
        for totals in [self, &PROCESS] {
            if let Some(after) = after {
                totals.round_trip_times.insert(after);
            }
            if let Some(before) = before {
                totals.round_trip_times.remove(before);
            }
        }
    }

    /// Add what a connection did between two of its snapshots.
    pub(crate) fn add_difference(&self, before: &Statistics, after: &Statistics) {
        let more = |of: fn(&Statistics) -> u64| of(after).saturating_sub(of(before));
        self.add(|it| &it.datagrams_sent, more(|it| it.datagrams_sent));
        self.add(|it| &it.bytes_sent, more(|it| it.bytes_sent));
        self.add(|it| &it.batches_sent, more(|it| it.sends));
        self.add(|it| &it.packets_sent, more(|it| it.packets_sent));
        self.add(|it| &it.packets_lost, more(|it| it.packets_lost));
        self.add(|it| &it.bytes_lost, more(|it| it.bytes_lost));
        self.add(|it| &it.congestion_events, more(|it| it.congestion_events));
        self.add(|it| &it.keep_alives_sent, more(|it| it.keep_alives_sent));
        self.add(|it| &it.migrations, more(|it| it.migrations));
        self.streams_changed(before.streams_open, after.streams_open);
    }

    fn streams_changed(&self, before: usize, after: usize) {
        match after.checked_sub(before) {
            Some(more) => self.add(|totals| &totals.streams_open, more as u64),
            None => self.take(|totals| &totals.streams_open, (before - after) as u64),
        }
    }
}

/// In the child of a fork: forget what the parent's endpoints counted.
pub(crate) fn forget() {
    PROCESS.reset();
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_of_the_next_bound() {
        let times = Times::zero();
        let ms = Duration::from_millis;
        times.insert(ms(1));
        times.insert(ms(1) + Duration::from_micros(1));
        times.insert(ms(11_000));
        let read = times.read();
        assert_eq!(read.buckets[1], 1);
        assert_eq!(read.buckets[2], 1);
        assert_eq!(read.buckets[BUCKETS - 1], 1);
        assert_eq!(read.sum, ms(11_002) + Duration::from_micros(1));
        times.remove(ms(11_000));
        times.remove(ms(1));
        assert_eq!(times.read().buckets.iter().sum::<u64>(), 1);
        times.reset();
        assert_eq!(times.read(), Distribution::default());
    }

    #[test]
    fn the_process_has_the_sum_of_its_endpoints() {
        let (one, other) = (Totals::zero(), Totals::zero());
        let before = PROCESS.read().retries_sent;
        one.add(|totals| &totals.retries_sent, 2);
        other.add(|totals| &totals.retries_sent, 3);
        assert_eq!((one.read().retries_sent, other.read().retries_sent), (2, 3));
        // Other tests of this process may count, too.
        assert!(PROCESS.read().retries_sent >= before + 5);
    }

    #[test]
    fn the_end_of_a_connection_counts_by_who_and_how() {
        let totals = Totals::zero();
        let remote = SocketAddr::from(([127, 0, 0, 1], 1));
        totals.closed(&ConnectionError::closed_here(0, b""), true, false, remote);
        let read = totals.read();
        let (party, kind) = (Party::Local as usize, CloseKind::Closed as usize);
        assert_eq!(read.connections_closed[party][kind], 1);
        assert_eq!((read.accepted_closed_ip4, read.dialed_closed_ip4), (1, 0));
        assert_eq!(Party::ALL[party], Party::Local);
        assert_eq!(CloseKind::ALL[kind], CloseKind::Closed);
    }

    #[test]
    fn a_session_of_webtransport_is_one_of_all_connections() {
        let ip4 = SocketAddr::from(([127, 0, 0, 1], 1));
        let ip6 = SocketAddr::from(([0_u16, 0, 0, 0, 0, 0, 0, 1], 1));
        for (is_inbound, direction) in [(false, "dialed"), (true, "accepted")] {
            for (remote, version) in [(ip4, "ip4"), (ip6, "ip6")] {
                let totals = Totals::zero();
                for is_webtransport in [false, true, true] {
                    totals.opened(is_inbound, is_webtransport, remote);
                }
                totals.closed(
                    &ConnectionError::closed_here(0, b""),
                    is_inbound,
                    true,
                    remote,
                );
                let read = totals.read();
                let counted: HashMap<_, _> = read.counters().filter(|it| it.1 > 0).collect();
                assert_eq!(counted.len(), 4, "{counted:?}");
                for (kind, expected) in [
                    ("", 3),
                    ("_webtransport", 2),
                    ("_closed", 1),
                    ("_closed_webtransport", 1),
                ] {
                    let name = format!("{direction}{kind}_{version}");
                    assert_eq!(counted.get(&*name), Some(&expected), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_handshake_of_webtransport_is_one_of_all_handshakes() {
        let totals = Totals::zero();
        let ms = Duration::from_millis;
        totals.handshake_completed(ms(10), false);
        totals.handshake_completed(ms(40), true);
        let read = totals.read();
        let of = |times: Distribution| (times.buckets.iter().sum::<u64>(), times.sum);
        assert_eq!(of(read.handshake_times), (2, ms(50)));
        assert_eq!(of(read.webtransport_handshake_times), (1, ms(40)));
        totals.reset();
        let read = totals.read();
        assert_eq!(read.handshake_times, Distribution::default());
        assert_eq!(read.webtransport_handshake_times, Distribution::default());
    }

    #[test]
    fn every_index_is_that_of_its_variant() {
        for (index, kind) in CloseKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        for (index, party) in Party::ALL.into_iter().enumerate() {
            assert_eq!(party as usize, index);
        }
    }
}
