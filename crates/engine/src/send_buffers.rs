//! Copies of bytes, in pieces that are cheap to have again and again.
//!
//! What a program writes is copied once, into buffers that come back here when QUIC is done
//! with them. Fresh memory of that size costs more than the copying: allocators return it to
//! the kernel when it is freed, and its pages are faulted in anew.

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes per buffer. Larger ones were measured slower (caches).
const BUFFER: usize = 64 * 1024;

/// Fewer bytes than this are not worth a buffer of that size.
const POOLED_FROM: usize = BUFFER / 2;

/// Buffers that are kept for more of the same traffic, in the whole process: 4 MiB.
const RETAINED: usize = 64;

/// Received chunks smaller than this are copied, not kept: a chunk pins the whole buffer it
/// was received into.
const PINNING: usize = 256;

/// Never waited for: it is no loss to go without, and in the child of a fork it may be locked
/// for ever.
static FREE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Bytes in buffers that are kept.
pub(crate) fn retained() -> usize {
    FREE.try_lock().map_or(0, |free| free.len() * BUFFER)
}

/// Keep none for a traffic that is over.
pub(crate) fn forget() {
    // Not freed under the lock, where writers would go without.
    let free = FREE.try_lock().map(|mut free| std::mem::take(&mut *free));
    drop(free);
}

/// A buffer with `len` bytes in it, on its way through QUIC.
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

/// A copy of `data`, in pieces.
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

/// `chunk`, without a large buffer behind a few bytes.
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
    fn every_byte_is_copied_whatever_the_size() {
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
    fn a_buffer_that_comes_back_brings_nothing_along() {
        drop(copied(&[1; BUFFER]).collect::<Vec<_>>());
        let later: Vec<Bytes> = copied(&[2; POOLED_FROM]).collect();
        assert_eq!(later.concat(), [2; POOLED_FROM]);
    }
}
