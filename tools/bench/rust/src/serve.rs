//! The listener: the first byte of each stream is the command. The letters are those of
//! tools/bench/README.md.

use std::{io::Read, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use serde_json::json;

use crate::{
    net::{Connection, Node, Outcome, Stream},
    usage,
};

/// Bytes in one read and in one write.
pub const PIECE: usize = 64 * 1024;

/// Until standard input is closed.
pub async fn serve<N: Node>(node: N) -> Outcome<()> {
    println!(
        "{}",
        json!({"address": format!("/ip4/127.0.0.1/udp/{}/quic-v1", node.address().port())})
    );
    exit_at_end_of_input();
    loop {
        let handshake = node.accept().await?;
        tokio::spawn(async move {
            // A dialer reports its own failures.
            let Ok(connection) = handshake.await else {
                return;
            };
            while let Ok(stream) = connection.accept().await {
                tokio::spawn(async move {
                    // The dialer ends streams and reports its own failures.
                    let _ = answer(stream).await;
                });
            }
        });
    }
}

pub fn exit_at_end_of_input() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

async fn answer(mut stream: impl Stream) -> Outcome<()> {
    let mut what = [0];
    stream.read_exact(&mut what).await?;
    match &what {
        b"u" => {
            let (bytes, began, ended) = drain(&mut stream, Duration::MAX).await?;
            tell(&mut stream, &[bytes, began, ended]).await?;
        }
        b"d" => {
            let size = number(&mut stream).await?;
            let limit = number(&mut stream).await?;
            fill(&mut stream, size, Duration::from_nanos(limit)).await?;
        }
        b"e" => {
            let mut piece = vec![0; 4096];
            loop {
                match stream.read(&mut piece).await? {
                    0 => break,
                    n => {
                        stream.write_all(&piece[..n]).await?;
                        stream.flush().await?;
                    }
                }
            }
        }
        _ => tell(&mut stream, &[usage::cpu(), usage::memory()]).await?,
    }
    Ok(stream.close().await?)
}

/// Read to the end, or until `limit`. Returns the number of bytes, and the times of the first and the
/// last.
pub async fn drain(stream: &mut impl Stream, limit: Duration) -> Outcome<(u64, u64, u64)> {
    let mut piece = vec![0; PIECE];
    let mut bytes = stream.read(&mut piece).await? as u64;
    let began = usage::now();
    loop {
        let n = stream.read(&mut piece).await?;
        let now = usage::now();
        bytes += n as u64;
        if n == 0 || u128::from(now - began) > limit.as_nanos() {
            return Ok((bytes, began, now));
        }
    }
}

/// Write `size` bytes, or as many as it can until `limit`.
pub async fn fill(stream: &mut impl Stream, size: u64, limit: Duration) -> Outcome<()> {
    let piece = vec![0x5a; PIECE];
    let end = usage::now() + limit.as_nanos() as u64;
    let mut rest = size;
    while rest > 0 && usage::now() < end {
        let n = rest.min(PIECE as u64);
        stream.write_all(&piece[..n as usize]).await?;
        rest -= n;
    }
    Ok(())
}

pub async fn number(stream: &mut impl Stream) -> Outcome<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).await?;
    Ok(u64::from_be_bytes(bytes))
}

async fn tell(stream: &mut impl Stream, numbers: &[u64]) -> Outcome<()> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    Ok(stream.write_all(&bytes).await?)
}
