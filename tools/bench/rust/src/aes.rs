//! An upper bound: AES-128-GCM of ring over payloads of packet size, in one thread, without a network.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

use crate::{net::Outcome, usage};

/// The encrypted payload of a datagram of 1452 bytes.
const PAYLOAD: usize = 1410;
/// Packets between two reads of the clock: they stay in the cache, as real packets do.
const BLOCK: u64 = 44;

pub fn goodput(size: u64) -> Outcome<Value> {
    let failed = |_| "AES-128-GCM failed";
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(failed)?);
    let mut packets = vec![vec![0x5a; PAYLOAD]; BLOCK as usize];
    let (mut sealing, mut opening) = (0, 0);
    let blocks = size.div_ceil(PAYLOAD as u64 * BLOCK);
    for block in 0..blocks {
        let nonce = |i: usize| {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&(block * BLOCK + i as u64).to_be_bytes());
            Nonce::assume_unique_for_key(nonce)
        };
        let began = usage::cpu();
        for (i, packet) in packets.iter_mut().enumerate() {
            key.seal_in_place_append_tag(nonce(i), Aad::empty(), packet)
                .map_err(failed)?;
        }
        let sealed = usage::cpu();
        for (i, packet) in packets.iter_mut().enumerate() {
            key.open_in_place(nonce(i), Aad::empty(), packet)
                .map_err(failed)?;
            packet.truncate(PAYLOAD);
        }
        sealing += sealed - began;
        opening += usage::cpu() - sealed;
    }
    let cpu = [sealing, opening].map(|nanos| nanos as f64 / 1e9);
    let bytes = blocks * BLOCK * PAYLOAD as u64;
    Ok(
        json!({"bytes": bytes, "seconds": cpu[0].max(cpu[1]), "cpu": cpu, "rss": [usage::memory(), 0]}),
    )
}
