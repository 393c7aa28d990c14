//! The command line: its parser, and the text of `--help`.

use std::net::{Ipv6Addr, SocketAddr};

use crate::{
    conditions::{Conditions, Directions},
    units,
};

/// What `relay --help` says.
pub const HELP: &str = "\
A UDP relay between dialers and one target that simulates a bad network.

    relay --to 127.0.0.1:4001 --delay 25ms --loss 1% --seed 7

It prints {\"address\": \"IP:PORT\"} when it listens: dial that instead of the target. It ends when
its standard input is closed (Ctrl-D), and then prints its counters to standard error. It parses no
packets. Equal seeds treat the n-th datagram of a direction equally.

Where
  --to IP:PORT         the target
  --listen IP:PORT     where to listen; by default any free loopback port

What happens to datagrams, independently in each direction
  --delay TIME         one-way delay, half a round trip                       25ms
  --jitter TIME        up to this more per datagram: later ones may overtake  5ms
  --loss SHARE         never arrive                                           1%
  --duplicate SHARE    arrive twice                                           2%
  --corrupt SHARE      arrive with one bit flipped                            0.5%
  --reorder SHARE      are delayed until later ones have overtaken them       10%
  --rate RATE          a link of this speed ...                               20Mbit/s
  --queue BYTES        ... with a queue of this size: more is dropped; by     64KiB
                       default the bytes of 100 ms at that rate
  --mtu BYTES          larger ones are dropped (bytes of UDP payload) ...     1300
  --mtu-after TIME     ... from then on                                       2s
  --drop-marked WHERE  those with an ECN mark are dropped ...                 to-target
                       (to-target, to-client or both); elsewhere marks stay
  --drop-marked-after TIME  ... from then on                                  2s

What happens at a time, counted from the first datagram
  --blackout AT+FOR    nothing arrives for that long; may be repeated         2s+500ms
  --rebind TIME        at this interval every dialer gets a new port towards  1s
                       the target, as behind a NAT that lost its mapping

  --seed N             a number; by default 0

While it runs: one command per line of standard input, each answered by one line of JSON
  rebind               new ports towards the target, now
  blackout FOR         nothing arrives, from now
  mtu BYTES            larger ones are dropped, from now
  loss SHARE           this share is lost, from now
  drop-marked WHERE    those with an ECN mark are dropped there, from now; none ends it
  totals               the counters
";

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// The target.
    pub to: SocketAddr,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The seed of all decisions.
    pub seed: u64,
    /// What happens to datagrams.
    pub conditions: Conditions,
}

impl Options {
    /// A relay to `to` that changes nothing.
    pub fn new(to: SocketAddr) -> Self {
        let any: SocketAddr = if to.is_ipv4() {
            ([127, 0, 0, 1], 0).into()
        } else {
            (Ipv6Addr::LOCALHOST, 0).into()
        };
        Self {
            to,
            listen: any,
            seed: 0,
            conditions: Conditions::default(),
        }
    }

    /// Parse a command line, without the program's name.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut to = None;
        let mut listen = None;
        let mut seed = 0;
        let mut conditions = Conditions::default();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = match arguments.next() {
                Some(value) if KNOWN.contains(&name.as_str()) => value.as_str(),
                _ if !KNOWN.contains(&name.as_str()) => {
                    return Err(format!("there is no option {name:?}"));
                }
                _ => return Err(format!("{name} needs a value")),
            };
            let c = &mut conditions;
            let parsed = match name.as_str() {
                "--to" => address(value).map(|at| to = Some(at)),
                "--listen" => address(value).map(|at| listen = Some(at)),
                "--seed" => value
                    .parse()
                    .map(|it| seed = it)
                    .map_err(|_| format!("{value:?} is not a number")),
                "--delay" => units::time(value).map(|it| c.latency = it),
                "--jitter" => units::time(value).map(|it| c.jitter = it),
                "--loss" => units::share(value).map(|it| c.loss = it),
                "--duplicate" => units::share(value).map(|it| c.duplication = it),
                "--corrupt" => units::share(value).map(|it| c.corruption = it),
                "--reorder" => units::share(value).map(|it| c.reordering = it),
                "--rate" => units::rate(value).map(|it| c.rate = Some(it)),
                "--queue" => units::bytes(value).map(|it| c.queue = Some(it)),
                "--mtu" => units::bytes(value).map(|it| c.mtu = Some(it)),
                "--mtu-after" => units::time(value).map(|it| c.mtu_after = it),
                "--drop-marked" => Directions::parse(value).map(|it| c.drop_marked = it),
                "--drop-marked-after" => units::time(value).map(|it| c.drop_marked_after = it),
                "--blackout" => units::period(value).map(|it| c.blackouts.push(it)),
                _ => units::time(value).map(|it| c.rebind = Some(it)),
            };
            parsed.map_err(|error| format!("{name}: {error}"))?;
        }
        if conditions.rebind.is_some_and(|every| every.is_zero()) {
            return Err("--rebind must be longer than 0s; omit it to never rebind".to_owned());
        }
        if conditions.queue.is_some() && conditions.rate.is_none() {
            return Err("--queue needs --rate".to_owned());
        }
        if !conditions.mtu_after.is_zero() && conditions.mtu.is_none() {
            return Err("--mtu-after needs --mtu".to_owned());
        }
        if !conditions.drop_marked_after.is_zero()
            && conditions.drop_marked == Directions::default()
        {
            return Err("--drop-marked-after needs --drop-marked".to_owned());
        }
        let mut options = Self::new(to.ok_or("--to is needed: the target, IP:PORT")?);
        options.listen = listen.unwrap_or(options.listen);
        if options.listen.is_ipv4() != options.to.is_ipv4() {
            return Err("--listen and --to must both be IPv4 or both IPv6".to_owned());
        }
        Ok(Self {
            seed,
            conditions,
            ..options
        })
    }
}

/// Every option; `--rebind` is the last arm of the match above.
const KNOWN: [&str; 17] = [
    "--to",
    "--listen",
    "--seed",
    "--delay",
    "--jitter",
    "--loss",
    "--duplicate",
    "--corrupt",
    "--reorder",
    "--rate",
    "--queue",
    "--mtu",
    "--mtu-after",
    "--drop-marked",
    "--drop-marked-after",
    "--blackout",
    "--rebind",
];

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not understood: write it like 127.0.0.1:4001"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_is_read() {
        let all = parsed(
            "--to 127.0.0.1:9 --listen 127.0.0.1:8 --delay 50ms --jitter 1ms --loss 1% \
             --duplicate 2% --corrupt 3% --reorder 4% --rate 8Mbit/s --queue 64KiB --mtu 1300 \
             --mtu-after 2s --drop-marked both --drop-marked-after 4s --blackout 1s+2s --blackout 5s+1s --rebind 3s --seed 7",
        )
        .expect("options");
        let c = all.conditions;
        assert_eq!((all.to.port(), all.listen.port(), all.seed), (9, 8, 7));
        assert_eq!(c.latency, Duration::from_millis(50));
        assert_eq!(c.jitter, Duration::from_millis(1));
        assert_eq!((c.loss, c.duplication), (0.01, 0.02));
        assert_eq!((c.corruption, c.reordering), (0.03, 0.04));
        assert_eq!((c.rate, c.queue), (Some(1_000_000), Some(65_536)));
        assert_eq!((c.mtu, c.mtu_after), (Some(1300), Duration::from_secs(2)));
        assert!(c.drop_marked.to_target && c.drop_marked.to_client);
        assert_eq!(c.drop_marked_after, Duration::from_secs(4));
        assert_eq!(c.blackouts.len(), 2);
        assert_eq!(c.rebind, Some(Duration::from_secs(3)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            ("--delay 5ms", "--to is needed"),
            ("--to nowhere", "127.0.0.1:4001"),
            ("--to 127.0.0.1:9 --delay", "needs a value"),
            ("--to 127.0.0.1:9 --lag 5ms", "no option \"--lag\""),
            ("--to 127.0.0.1:9 --loss 5", "--loss"),
            ("--to 127.0.0.1:9 --seed x", "not a number"),
            ("--to 127.0.0.1:9 --queue 5", "--rate"),
            ("--to 127.0.0.1:9 --mtu-after 5s", "--mtu"),
            ("--to 127.0.0.1:9 --drop-marked up", "to-target"),
            ("--to 127.0.0.1:9 --drop-marked-after 5s", "--drop-marked"),
            ("--to 127.0.0.1:9 --rebind 0s", "--rebind"),
            ("--to 127.0.0.1:9 --listen [::1]:9", "IPv6"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_option() {
        for name in KNOWN {
            assert!(HELP.contains(&format!("  {name} ")), "{name}");
        }
    }
}
