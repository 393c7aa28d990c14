//! The command `relay`: options in, the address out as one line of JSON, then datagrams until
//! standard input is closed. Everything else is the library's.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    process::ExitCode,
};

use libp2p_quic_relay::{Options, Relay, options};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return told(io::stdout().write_all(options::HELP.as_bytes()));
    }
    match Options::parse(&words) {
        Ok(options) => told(relay(&options)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "relay: {error}\nrelay --help says more.");
            ExitCode::from(2)
        }
    }
}

fn relay(options: &Options) -> io::Result<()> {
    let mut relay = Relay::bind(options)?;
    let mut stdout = io::stdout();
    writeln!(stdout, r#"{{"address": "{}"}}"#, relay.address())?;
    stdout.flush()?;
    relay.run(io::stdin(), stdout)?;
    writeln!(io::stderr(), "{}", relay.totals())
}

fn told(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "relay: {error}");
            ExitCode::FAILURE
        }
    }
}
