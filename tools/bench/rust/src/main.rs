//! The contenders in Rust, each with a name. The command line is that of tools/bench/README.md:
//! `contender NAME serve` and `contender NAME dial ADDRESS MEASURE name=value...`.

mod aes;
mod engine;
mod libp2p;
mod measure;
mod net;
mod quinn;
mod serve;
mod udp;
mod usage;

use std::{env, net::SocketAddr, time::Duration};

use measure::{Options, measure};
use net::{Node, Outcome};
use tokio::runtime::{Builder, Runtime};

enum Role {
    Serve,
    Dial(SocketAddr, String, Options),
}

fn role(arguments: &[String]) -> Outcome<Role> {
    match arguments {
        [role] if role == "serve" => Ok(Role::Serve),
        [role, address, measure, rest @ ..] if role == "dial" => {
            let port = address.split('/').nth(4).unwrap_or_default();
            let port = port
                .parse()
                .map_err(|_| format!("{address} is no /ip4/.../udp/PORT/quic-v1"))?;
            let pairs = rest.iter().filter_map(|argument| argument.split_once('='));
            let options = Options(
                pairs
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
            );
            Ok(Role::Dial(
                SocketAddr::from(([127, 0, 0, 1], port)),
                measure.clone(),
                options,
            ))
        }
        _ => Err("NAME serve, or NAME dial ADDRESS MEASURE name=value...".into()),
    }
}

async fn run<N: Node>(node: N, role: Role) -> Outcome<()> {
    match role {
        Role::Serve => serve::serve(node).await,
        Role::Dial(to, what, options) => {
            println!("{}", measure(node, to, &what, &options).await?);
            Ok(())
        }
    }
}

/// The runtime of `#[tokio::main]`.
fn multi() -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

fn current() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        return Err(
            "engine, quinn, quinn-multi, quinn-default, libp2p, libp2p-current, udp or aes".into(),
        );
    };
    let role = role(rest)?;
    match (name.as_str(), role) {
        ("engine", role) => {
            let node = engine::Node::new()?;
            node.runtime()?.block_on(run(node, role))
        }
        ("quinn", role) => current()?.block_on(async { run(quinn::Node::new(false)?, role).await }),
        ("quinn-multi", role) => {
            multi()?.block_on(async { run(quinn::Node::new(false)?, role).await })
        }
        ("quinn-default", role) => {
            current()?.block_on(async { run(quinn::Node::new(true)?, role).await })
        }
        ("libp2p", role) => {
            multi()?.block_on(async { run(libp2p::Node::new().await?, role).await })
        }
        ("libp2p-current", role) => {
            current()?.block_on(async { run(libp2p::Node::new().await?, role).await })
        }
        ("udp", Role::Serve) => udp::serve(),
        ("udp", Role::Dial(to, _, options)) => {
            let limit = Duration::from_millis(options.get("limit", 6_000)?);
            println!(
                "{}",
                udp::goodput(to, options.get("size", 2 << 30)?, limit)?
            );
            Ok(())
        }
        ("aes", Role::Serve) => {
            println!(
                "{}",
                serde_json::json!({"address": "/ip4/127.0.0.1/udp/1/quic-v1"})
            );
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new())?;
            Ok(())
        }
        ("aes", Role::Dial(_, _, options)) => {
            println!("{}", aes::goodput(options.get("size", 2 << 30)?)?);
            Ok(())
        }
        _ => Err(format!("no contender {name}").into()),
    }
}
