//! Pooled buffers to receive into. Received datagrams share them, and a buffer is reused once no
//! reader holds it.
//!
//! Without the pool, readers would free these large buffers to the allocator, which returns them
//! to the kernel: each receive would fault the pages in again. `send_buffers` is the other direction.

use std::{collections::VecDeque, io::IoSliceMut, mem};

use bytes::BytesMut;

/// Bytes of a whole buffer: the most that the kernel coalesces.
const WHOLE: usize = 64 * 1024;

/// Fewer bytes than this are copied into a small buffer: a reader that keeps one datagram keeps its
/// buffer.
const SMALL: usize = WHOLE / 4;

/// Up to this size, of one datagram, the bytes get an allocation of exactly their size.
const TINY: usize = 2 * 1024;

/// Bytes in pooled buffers of one size: more than the largest window, so that buffers are reused
/// even if a reader lags.
const MAX_POOLED: usize = 16 * 1024 * 1024;

pub(super) struct RecvBuffers {
    /// Whole buffers for the next receive.
    ready: Vec<BytesMut>,
    whole: BufferPool,
    small: BufferPool,
}

impl RecvBuffers {
    /// Buffers for `batch` messages in one receive.
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
            .map(|buffer| IoSliceMut::new(buffer))
            .collect()
    }

    /// Take the first `len` bytes of the slice with this index, and replace the slice if needed.
    pub(super) fn take(&mut self, index: usize, len: usize) -> BytesMut {
        if len >= SMALL {
            let mut fresh = self.whole.take();
            fresh.resize(WHOLE, 0);
            let mut buffer = mem::replace(&mut self.ready[index], fresh);
            let data = buffer.split_to(len);
            buffer.clear();
            self.whole.put_back(buffer);
            return data;
        }
        let received = &self.ready[index][..len];
        if len <= TINY {
            return BytesMut::from(received);
        }
        let mut buffer = self.small.take();
        buffer.extend_from_slice(received);
        let data = buffer.split();
        self.small.put_back(buffer);
        data
    }

    /// Whether readers hold a pool full of buffers. A stream's bytes are charged for themselves, not for the buffer
    /// that they are a part of: from then on each datagram must have a buffer of its own.
    pub(super) fn is_pinned(&self) -> bool {
        self.whole.is_pinned || self.small.is_pinned
    }

    /// Bytes of pooled buffers; readers may still hold some of them.
    pub(super) fn retained(&self) -> usize {
        self.whole.retained() + self.small.retained()
    }

    /// Free the pooled buffers.
    pub(super) fn forget(&mut self) {
        for pool in [&mut self.whole, &mut self.small] {
            pool.free = VecDeque::new();
            pool.is_pinned = false;
        }
    }
}

/// Buffers of one size.
struct BufferPool {
    size: usize,
    /// Empty remainders of the buffers that were handed out, the oldest first.
    free: VecDeque<BytesMut>,
    /// The pool is full, and a reader holds the oldest.
    is_pinned: bool,
}

impl BufferPool {
    fn new(size: usize) -> Self {
        Self {
            size,
            free: VecDeque::new(),
            is_pinned: false,
        }
    }

    /// An empty buffer: the oldest, if no reader holds it, or a new one.
    fn take(&mut self) -> BytesMut {
        let mut oldest = self.free.pop_front();
        if let Some(buffer) = oldest.take_if(|buffer| buffer.try_reclaim(self.size)) {
            self.is_pinned = false;
            return buffer;
        }
        if let Some(buffer) = oldest {
            self.is_pinned = self.free.len() + 1 >= MAX_POOLED / self.size;
            self.put_back(buffer);
        }
        BytesMut::with_capacity(self.size)
    }

    fn retained(&self) -> usize {
        self.free.len() * self.size
    }

    /// Pool a buffer, unless the pool is full; then its readers free it.
    fn put_back(&mut self, rest: BytesMut) {
        if self.free.len() < MAX_POOLED / self.size {
            self.free.push_back(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receive `len` bytes of `value` as the first message of a batch.
    fn received(buffers: &mut RecvBuffers, len: usize, value: u8) -> BytesMut {
        buffers.slices()[0][..len].fill(value);
        buffers.take(0, len)
    }

    #[test]
    fn a_buffer_is_reused_when_its_readers_are_done() {
        let mut buffers = RecvBuffers::new(1);
        let first = received(&mut buffers, WHOLE, 1);
        let place = first.as_ptr();
        let second = received(&mut buffers, SMALL, 2);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(first, [1; WHOLE][..]);
        drop(first);
        drop(second);
        // The buffer of the next receive is ready already.
        drop(received(&mut buffers, WHOLE, 3));
        let fourth = received(&mut buffers, WHOLE, 4);
        assert_eq!(fourth, [4; WHOLE][..]);
        assert_eq!(fourth.as_ptr(), place);
    }

    #[test]
    fn a_small_buffer_is_reused_too() {
        let mut buffers = RecvBuffers::new(1);
        let first = received(&mut buffers, TINY + 1, 1);
        let place = first.as_ptr();
        assert_eq!(first, [1; TINY + 1][..]);
        drop(first);
        let second = received(&mut buffers, SMALL - 1, 2);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second, [2; SMALL - 1][..]);
    }

    #[test]
    fn the_pool_does_not_wait_for_slow_readers_and_is_bounded() {
        let mut buffers = RecvBuffers::new(1);
        let most = MAX_POOLED / WHOLE;
        let held: Vec<_> = (0..most + 50)
            .map(|i| received(&mut buffers, SMALL, i as u8))
            .collect();
        assert_eq!(buffers.retained(), most * WHOLE);
        for (i, data) in held.iter().enumerate() {
            assert_eq!(data, &[i as u8; SMALL][..]);
        }
        buffers.forget();
        assert_eq!(buffers.retained(), 0);
    }

    #[test]
    fn buffers_are_pinned_while_readers_hold_a_pool_full_of_parts() {
        for len in [TINY + 1, SMALL] {
            let mut buffers = RecvBuffers::new(1);
            let most = MAX_POOLED / SMALL;
            let held: Vec<_> = (0..most + 50)
                .map(|_| received(&mut buffers, len, 1).split_to(256))
                .collect();
            assert!(buffers.is_pinned());
            drop(held);
            drop(received(&mut buffers, len, 1));
            assert!(!buffers.is_pinned());
        }
    }

    #[test]
    fn one_datagram_does_not_hold_a_whole_buffer() {
        let mut buffers = RecvBuffers::new(1);
        let data = received(&mut buffers, TINY, 1);
        assert!(data.capacity() < 2 * TINY);
    }
}
