//! What was received, copied into memory that is used again when nobody holds it any more.
//!
//! Readers free it in their threads, and an allocator gives pieces of this size back to the
//! kernel: their pages would be faulted in anew for each. See `chunk` for the other direction.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Bytes per piece: what the kernel coalesces at most.
const PIECE: usize = 64 * 1024;

/// Fewer bytes than this get memory of just their size, since whoever keeps one datagram
/// keeps the whole piece.
const PIECE_FROM: usize = PIECE / 4;

/// Pieces that are remembered: 4 MiB.
const REMEMBERED: usize = 64;

/// Pieces that were given out, the oldest first.
#[derive(Default)]
pub(super) struct Copies(VecDeque<BytesMut>);

impl Copies {
    /// A copy of `received`, at most `PIECE` bytes.
    pub(super) fn of(&mut self, received: &[u8]) -> BytesMut {
        if received.len() < PIECE_FROM {
            return BytesMut::from(received);
        }
        let mut oldest = self.0.pop_front();
        let free = oldest.take_if(|piece| piece.try_reclaim(PIECE));
        // Where its readers are slow, it goes to the end of the queue, or is theirs alone.
        self.0
            .extend(oldest.filter(|_| self.0.len() + 1 < REMEMBERED));
        let mut piece = free.unwrap_or_else(|| BytesMut::with_capacity(PIECE));
        piece.extend_from_slice(received);
        let copy = piece.split();
        self.0.push_back(piece);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_its_readers_are_done() {
        let mut copies = Copies::default();
        let first = copies.of(&[1; PIECE]);
        let place = first.as_ptr();
        let second = copies.of(&[2; PIECE_FROM]);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(first, [1; PIECE][..]);
        drop(first);
        drop(second);
        let third = copies.of(&[3; PIECE]);
        assert_eq!(third, [3; PIECE][..]);
        assert_eq!(third.as_ptr(), place);
    }

    #[test]
    fn slow_readers_are_not_waited_for_and_few_pieces_remembered() {
        let mut copies = Copies::default();
        let held: Vec<_> = (0..200u8).map(|i| copies.of(&[i; PIECE_FROM])).collect();
        assert!(copies.0.len() <= REMEMBERED);
        for (i, copy) in (0..200u8).zip(&held) {
            assert_eq!(copy, &[i; PIECE_FROM][..]);
        }
    }
}
