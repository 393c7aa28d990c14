//! The pool of buffers that written bytes are copied into.
//!
//! Written bytes are copied once, into buffers that return to the pool when QUIC releases them.
//! Allocating that size each time costs more than the copying: allocators return it to the
//! kernel when it is freed, and its pages are faulted in again.

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes per buffer. Larger ones were measured slower (caches).
const BUFFER: usize = 64 * 1024;

/// Fewer bytes than this get an allocation of their own size.
const POOLED_FROM: usize = BUFFER / 2;

/// Buffers that the pool retains, in the whole process: 4 MiB.
const RETAINED: usize = 64;

/// Received chunks of fewer bytes are copied: a chunk pins the whole buffer that it was
/// received into.
const PINNING: usize = 256;

/// Only `try_lock`ed: a miss just allocates, and after fork() the lock may be held for ever.
static FREE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Bytes that the pool retains.
pub(crate) fn retained() -> usize {
    FREE.try_lock().map_or(0, |free| free.len() * BUFFER)
}

/// Empty the pool, once the traffic has ended.
pub(crate) fn forget() {
    // Freed after the lock is released: until then writers miss the pool.
    let free = FREE.try_lock().map(|mut free| std::mem::take(&mut *free));
    drop(free);
}

/// A buffer with `len` bytes in it, which QUIC holds.
struct Pooled {
    buffer: Box<[u8]>,
    len: usize,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if let Some(mut free) = FREE.try_lock()
            && free.len() < RETAINED
        {
            free.push(buffer);
        }
    }
}

/// A copy of `data`, in pieces of at most `BUFFER` bytes.
pub(crate) fn copied(data: &[u8]) -> impl Iterator<Item = Bytes> {
    data.chunks(BUFFER).map(|piece| {
        if piece.len() < POOLED_FROM {
            return Bytes::copy_from_slice(piece);
        }
        let known = FREE.try_lock().and_then(|mut free| free.pop());
        let mut buffer = known.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
        buffer[..piece.len()].copy_from_slice(piece);
        Bytes::from_owner(Pooled {
            buffer,
            len: piece.len(),
        })
    })
}

/// `chunk`, copied when it is so small that it would pin a much larger buffer.
pub(crate) fn unpinned(chunk: Bytes) -> Bytes {
    if chunk.len() < PINNING {
        Bytes::copy_from_slice(&chunk)
    } else {
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_for_every_size() {
        for size in [
            0,
            1,
            POOLED_FROM - 1,
            POOLED_FROM,
            BUFFER,
            BUFFER + 1,
            3 * BUFFER + 7,
        ] {
            let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let pieces: Vec<Bytes> = copied(&data).collect();
            assert_eq!(pieces.concat(), data);
            assert!(pieces.iter().all(|piece| piece.len() <= BUFFER));
        }
    }

    #[test]
    fn a_reused_buffer_holds_no_earlier_bytes() {
        drop(copied(&[1; BUFFER]).collect::<Vec<_>>());
        let later: Vec<Bytes> = copied(&[2; POOLED_FROM]).collect();
        assert_eq!(later.concat(), [2; POOLED_FROM]);
    }
}
