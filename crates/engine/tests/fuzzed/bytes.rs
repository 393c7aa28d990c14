//! How a fuzzer's bytes become choices: each taken from the front, zeros once none are left,
//! so that every input means something and a small change of it changes one choice.

use std::time::Duration;

pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// A number of any size, small ones as likely as large ones: how many bytes, then those.
    pub(crate) fn number(&mut self) -> u64 {
        let len = usize::from(self.u8() % 9);
        let bytes = self.take(len).iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// From nothing to the longest there is.
    pub(crate) fn duration(&mut self) -> Duration {
        match self.u8() % 4 {
            0 => Duration::from_nanos(self.number()),
            1 => Duration::from_millis(self.number()),
            2 => Duration::from_secs(self.number()),
            _ => Duration::MAX,
        }
    }
}
