//! Which calls fail: what the words of `FAULTS` mean.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use libc::c_int;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Send,
    Receive,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// Of so many calls in a hundred.
    Share(u64),
    /// From, and until: since the first call of the process.
    Within(Duration, Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fault {
    call: Call,
    error: c_int,
    when: When,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    faults: Vec<Fault>,
    first: OnceLock<Instant>,
    calls: AtomicU64,
}

impl Plan {
    pub(crate) fn parse(words: &str) -> Result<Self, String> {
        let faults = words.split(',').filter(|each| !each.trim().is_empty());
        Ok(Self {
            faults: faults.map(fault).collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// The error of this call, if it is to fail.
    pub(crate) fn error(&self, call: Call) -> Option<c_int> {
        if self.faults.is_empty() {
            return None;
        }
        let since = self.first.get_or_init(Instant::now).elapsed();
        let roll = scattered(self.calls.fetch_add(1, Ordering::Relaxed)) % 100;
        self.faults
            .iter()
            .find(|fault| {
                fault.call == call
                    && match fault.when {
                        When::Share(share) => roll < share,
                        When::Within(from, until) => (from..until).contains(&since),
                    }
            })
            .map(|fault| fault.error)
    }
}

/// SplitMix64: the same for the same call, and without a pattern.
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fault(words: &str) -> Result<Fault, String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let [call, error, when] = words[..] else {
        return Err(format!("{words:?} is not: call error when"));
    };
    Ok(Fault {
        call: match call {
            "send" => Call::Send,
            "receive" => Call::Receive,
            _ => return Err(format!("{call:?} is neither send nor receive")),
        },
        error: match error {
            "ECONNREFUSED" => libc::ECONNREFUSED,
            "EIO" => libc::EIO,
            "EMSGSIZE" => libc::EMSGSIZE,
            "ENETDOWN" => libc::ENETDOWN,
            "ENETUNREACH" => libc::ENETUNREACH,
            "ENOBUFS" => libc::ENOBUFS,
            "ENOMEM" => libc::ENOMEM,
            "EPERM" => libc::EPERM,
            _ => return Err(format!("{error:?} is no error that a socket here has")),
        },
        when: self::when(when).ok_or_else(|| format!("{when:?} is neither 5% nor 1ms+2ms"))?,
    })
}

fn when(word: &str) -> Option<When> {
    if let Some(share) = word.strip_suffix('%') {
        return share.parse().ok().map(When::Share);
    }
    let (from, time) = word.split_once('+')?;
    let millis = |word: &str| {
        word.strip_suffix("ms")?
            .parse()
            .ok()
            .map(Duration::from_millis)
    };
    let from = millis(from)?;
    Some(When::Within(from, from + millis(time)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_calls_fails_and_no_other() {
        let plan = Plan::parse("send ENOBUFS 20%, receive EIO 0%").expect("words");
        let sent = (0..1000).filter(|_| plan.error(Call::Send) == Some(libc::ENOBUFS));
        let failed = sent.count();
        assert!((150..250).contains(&failed), "{failed}");
        assert!((0..1000).all(|_| plan.error(Call::Receive).is_none()));
        assert_eq!(Plan::parse("").expect("words").error(Call::Send), None);
    }

    #[test]
    fn a_time_begins_with_the_first_call() {
        let plan = Plan::parse("send ENETDOWN 0ms+60000ms").expect("words");
        assert_eq!(plan.error(Call::Send), Some(libc::ENETDOWN));
        assert_eq!(plan.error(Call::Receive), None);
        let later = Plan::parse("send ENETDOWN 60000ms+1ms").expect("words");
        assert_eq!(later.error(Call::Send), None);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for words in [
            "send",
            "send EIO",
            "write EIO 5%",
            "send EX 5%",
            "send EIO 5",
            "send EIO 5s+1s",
        ] {
            assert!(Plan::parse(words).is_err(), "{words}");
        }
    }
}
