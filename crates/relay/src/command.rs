//! The commands to a running relay, one per line.

use std::time::Duration;

use crate::{conditions::Directions, units};

/// A line of standard input.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Give every dialer a new port towards the target.
    Rebind,
    /// Drop all datagrams for this long.
    Blackout(Duration),
    /// Drop datagrams with more bytes of UDP payload than this.
    Mtu(usize),
    /// Drop this share of datagrams.
    Loss(f64),
    /// Drop datagrams with an ECN mark in these directions only.
    DropMarked(Directions),
    /// Report the counters.
    Totals,
}

impl Command {
    /// Parse a line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            ["rebind"] => Ok(Self::Rebind),
            ["blackout", lasts] => units::time(lasts).map(Self::Blackout),
            ["mtu", size] => units::bytes(size).map(Self::Mtu),
            ["loss", share] => units::share(share).map(Self::Loss),
            ["drop-marked", directions] => Directions::parse(directions).map(Self::DropMarked),
            ["totals"] => Ok(Self::Totals),
            _ => Err(format!(
                "there is no command {line:?}; relay --help lists them"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(Command::parse(" rebind\r"), Ok(Command::Rebind));
        let second = Duration::from_secs(1);
        assert_eq!(Command::parse("blackout 1s"), Ok(Command::Blackout(second)));
        assert_eq!(Command::parse("mtu 1300"), Ok(Command::Mtu(1300)));
        assert_eq!(Command::parse("loss 100%"), Ok(Command::Loss(1.0)));
        assert_eq!(Command::parse("totals"), Ok(Command::Totals));
        let to_client = Directions {
            to_client: true,
            ..Directions::default()
        };
        assert_eq!(
            Command::parse("drop-marked to-client"),
            Ok(Command::DropMarked(to_client))
        );
        for wrong in ["", "rebind 5", "blackout", "mtu x", "drop-marked"] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
    }
}
