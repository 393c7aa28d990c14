//! Memory to receive into, which becomes the datagrams' own and is used again when nobody
//! holds it any more.
//!
//! Readers free it in their threads, and an allocator gives pieces of this size back to the
//! kernel: their pages would be faulted in anew for each. See `chunk` for the other direction.

use std::{collections::VecDeque, io::IoSliceMut, mem};

use bytes::BytesMut;

/// Bytes per piece: what the kernel coalesces at most.
const PIECE: usize = 64 * 1024;

/// Fewer bytes than this are copied into memory of just their size, since whoever keeps one
/// datagram keeps the whole piece.
const COPIED_BELOW: usize = PIECE / 4;

/// Pieces that are remembered: 4 MiB.
const REMEMBERED: usize = 64;

pub(super) struct Pieces {
    /// Whole ones, for the next receive.
    ready: Vec<BytesMut>,
    /// What is left of those that were given out, the oldest first.
    lent: VecDeque<BytesMut>,
}

impl Pieces {
    /// Pieces for so many messages in one receive.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            ready: (0..batch).map(|_| BytesMut::zeroed(PIECE)).collect(),
            lent: VecDeque::new(),
        }
    }

    pub(super) fn slices(&mut self) -> Vec<IoSliceMut<'_>> {
        self.ready
            .iter_mut()
            .map(|piece| IoSliceMut::new(piece))
            .collect()
    }

    /// The first `len` bytes of the slice with this index, which is another one afterwards.
    pub(super) fn take(&mut self, index: usize, len: usize) -> BytesMut {
        if len < COPIED_BELOW {
            return BytesMut::from(&self.ready[index][..len]);
        }
        let fresh = self.fresh();
        let mut piece = mem::replace(&mut self.ready[index], fresh);
        let data = piece.split_to(len);
        piece.clear();
        self.lent.push_back(piece);
        data
    }

    fn fresh(&mut self) -> BytesMut {
        let mut oldest = self.lent.pop_front();
        let free = oldest.take_if(|piece| piece.try_reclaim(PIECE));
        // Where its readers are slow, it goes to the end of the queue, or is theirs alone.
        self.lent
            .extend(oldest.filter(|_| self.lent.len() + 1 < REMEMBERED));
        let mut piece = free.unwrap_or_else(|| BytesMut::with_capacity(PIECE));
        piece.resize(PIECE, 0);
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receive so many bytes of this value as the first message of a batch.
    fn received(pieces: &mut Pieces, len: usize, value: u8) -> BytesMut {
        pieces.slices()[0][..len].fill(value);
        pieces.take(0, len)
    }

    #[test]
    fn memory_is_used_again_when_its_readers_are_done() {
        let mut pieces = Pieces::new(1);
        let first = received(&mut pieces, PIECE, 1);
        let place = first.as_ptr();
        let second = received(&mut pieces, COPIED_BELOW, 2);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(first, [1; PIECE][..]);
        drop(first);
        drop(second);
        // The next is in place already.
        drop(received(&mut pieces, PIECE, 3));
        let fourth = received(&mut pieces, PIECE, 4);
        assert_eq!(fourth, [4; PIECE][..]);
        assert_eq!(fourth.as_ptr(), place);
    }

    #[test]
    fn slow_readers_are_not_waited_for_and_few_pieces_remembered() {
        let mut pieces = Pieces::new(1);
        let held: Vec<_> = (0..200u8)
            .map(|i| received(&mut pieces, COPIED_BELOW, i))
            .collect();
        assert!(pieces.lent.len() <= REMEMBERED);
        for (i, data) in (0..200u8).zip(&held) {
            assert_eq!(data, &[i; COPIED_BELOW][..]);
        }
    }

    #[test]
    fn few_bytes_hold_no_piece() {
        let mut pieces = Pieces::new(1);
        let data = received(&mut pieces, COPIED_BELOW - 1, 1);
        assert!(data.capacity() < COPIED_BELOW);
        assert!(pieces.lent.is_empty());
    }
}
