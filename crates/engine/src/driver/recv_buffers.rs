//! Memory to receive into, which becomes the datagrams' own and is used again when nobody
//! holds it any more.
//!
//! Readers free it in their threads, and an allocator gives pieces of these sizes back to the
//! kernel: their pages would be faulted in anew for each. See `chunk` for the other direction.

use std::{collections::VecDeque, io::IoSliceMut, mem};

use bytes::BytesMut;

/// Bytes of a whole piece: what the kernel coalesces at most.
const WHOLE: usize = 64 * 1024;

/// Fewer bytes than this are copied into a small piece, since whoever keeps one datagram keeps
/// the whole piece.
const SMALL: usize = WHOLE / 4;

/// Up to this, one datagram, they get memory of just their size.
const TINY: usize = 2 * 1024;

/// Bytes in pieces of one size that are remembered: more than the largest window, so that a
/// reader who lags gets no fresh memory either.
const REMEMBERED: usize = 16 * 1024 * 1024;

pub(super) struct RecvBuffers {
    /// Whole ones, for the next receive.
    ready: Vec<BytesMut>,
    whole: BufferPool,
    small: BufferPool,
}

impl RecvBuffers {
    /// RecvBuffers for so many messages in one receive.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            ready: (0..batch).map(|_| BytesMut::zeroed(WHOLE)).collect(),
            whole: BufferPool::new(WHOLE),
            small: BufferPool::new(SMALL),
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
        if len >= SMALL {
            let mut fresh = self.whole.take();
            fresh.resize(WHOLE, 0);
            let mut piece = mem::replace(&mut self.ready[index], fresh);
            let data = piece.split_to(len);
            piece.clear();
            self.whole.remember(piece);
            return data;
        }
        let received = &self.ready[index][..len];
        if len <= TINY {
            return BytesMut::from(received);
        }
        let mut piece = self.small.take();
        piece.extend_from_slice(received);
        let data = piece.split();
        self.small.remember(piece);
        data
    }

    /// Bytes that are kept for more of the same traffic, some of which readers may still hold.
    pub(super) fn retained(&self) -> usize {
        self.whole.retained() + self.small.retained()
    }

    /// Keep nothing for a traffic that is over.
    pub(super) fn forget(&mut self) {
        self.whole.free = VecDeque::new();
        self.small.free = VecDeque::new();
    }
}

/// RecvBuffers of one size.
struct BufferPool {
    size: usize,
    /// The empty rests of those that were given out, the oldest first.
    free: VecDeque<BytesMut>,
}

impl BufferPool {
    fn new(size: usize) -> Self {
        let free = VecDeque::new();
        Self { size, free }
    }

    /// An empty one: the oldest, if its readers are done with it, or fresh memory.
    fn take(&mut self) -> BytesMut {
        let mut oldest = self.free.pop_front();
        if let Some(piece) = oldest.take_if(|piece| piece.try_reclaim(self.size)) {
            return piece;
        }
        if let Some(piece) = oldest {
            self.remember(piece);
        }
        BytesMut::with_capacity(self.size)
    }

    fn retained(&self) -> usize {
        self.free.len() * self.size
    }

    /// Where there are too many, it is its readers' alone.
    fn remember(&mut self, rest: BytesMut) {
        if self.free.len() < REMEMBERED / self.size {
            self.free.push_back(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receive so many bytes of this value as the first message of a batch.
    fn received(pieces: &mut RecvBuffers, len: usize, value: u8) -> BytesMut {
        pieces.slices()[0][..len].fill(value);
        pieces.take(0, len)
    }

    #[test]
    fn memory_is_used_again_when_its_readers_are_done() {
        let mut pieces = RecvBuffers::new(1);
        let first = received(&mut pieces, WHOLE, 1);
        let place = first.as_ptr();
        let second = received(&mut pieces, SMALL, 2);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(first, [1; WHOLE][..]);
        drop(first);
        drop(second);
        // The next is in place already.
        drop(received(&mut pieces, WHOLE, 3));
        let fourth = received(&mut pieces, WHOLE, 4);
        assert_eq!(fourth, [4; WHOLE][..]);
        assert_eq!(fourth.as_ptr(), place);
    }

    #[test]
    fn so_is_that_of_small_ones() {
        let mut pieces = RecvBuffers::new(1);
        let first = received(&mut pieces, TINY + 1, 1);
        let place = first.as_ptr();
        assert_eq!(first, [1; TINY + 1][..]);
        drop(first);
        let second = received(&mut pieces, SMALL - 1, 2);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second, [2; SMALL - 1][..]);
    }

    #[test]
    fn slow_readers_are_not_waited_for_and_few_pieces_remembered() {
        let mut pieces = RecvBuffers::new(1);
        let most = REMEMBERED / WHOLE;
        let held: Vec<_> = (0..most + 50)
            .map(|i| received(&mut pieces, SMALL, i as u8))
            .collect();
        assert_eq!(pieces.retained(), most * WHOLE);
        for (i, data) in held.iter().enumerate() {
            assert_eq!(data, &[i as u8; SMALL][..]);
        }
        pieces.forget();
        assert_eq!(pieces.retained(), 0);
    }

    #[test]
    fn one_datagram_holds_no_piece() {
        let mut pieces = RecvBuffers::new(1);
        let data = received(&mut pieces, TINY, 1);
        assert!(data.capacity() < 2 * TINY);
    }
}
