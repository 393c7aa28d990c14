//! The command `relay`: parses options, prints the address as one line of JSON, and relays until
//! standard input is closed. The rest is in the library.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    process::ExitCode,
};

use libp2p_quic_relay::{Options, Relay, options};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|each| each == "--help" || each == "-h")
    {
        return exit_code(io::stdout().write_all(options::HELP.as_bytes()));
    }
    match Options::parse(&arguments) {
        Ok(options) => exit_code(relay(&options)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "relay: {error}\nSee relay --help.");
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

fn exit_code(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "relay: {error}");
            ExitCode::FAILURE
        }
    }
}
