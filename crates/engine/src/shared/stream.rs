//! The state of one stream that its handle and its connection's driver share: two byte queues.

use std::sync::Arc;

use crate::{
    budget::Budget,
    queue::{RecvQueue, SendQueue},
    receive_credit::ReceiveCredit,
    sync::{Mutex, atomic::AtomicBool},
};

/// The state that the application's [`Stream`](crate::Stream) and the I/O thread share.
pub(crate) struct StreamShared {
    pub(crate) id: u64,
    pub(crate) recv_queue: Mutex<RecvQueue>,
    pub(crate) send_queue: Mutex<SendQueue>,
    /// The I/O thread has a command for this stream that it has not handled yet.
    pub(crate) is_queued: AtomicBool,
    /// Received bytes that the whole connection holds.
    pub(crate) receive_credit: Arc<ReceiveCredit>,
    read_buffer: usize,
    write_buffer: usize,
}

impl StreamShared {
    pub(crate) fn new(
        id: u64,
        receive_credit: Arc<ReceiveCredit>,
        unacked: Arc<Budget>,
        read_buffer: usize,
        write_buffer: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            recv_queue: Mutex::default(),
            send_queue: Mutex::new(SendQueue::new(unacked)),
            is_queued: AtomicBool::new(false),
            receive_credit,
            read_buffer,
            write_buffer,
        })
    }

    pub(crate) fn read_buffer(&self) -> usize {
        self.read_buffer
    }

    pub(crate) fn write_buffer(&self) -> usize {
        self.write_buffer
    }
}

impl Drop for StreamShared {
    fn drop(&mut self) {
        // Only a stream without a handle still holds bytes: its connection has ended, so that no
        // other stream waits for the credit.
        let cost = self.recv_queue.get_mut().cost;
        self.receive_credit.release(cost);
    }
}
