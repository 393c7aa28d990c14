//! Fault injection for system calls on UDP sockets: `LD_PRELOAD` this library and name in `FAULTS`,
//! or later in `faults_set`, the calls, their error, and when they fail.
//!
//! ```text
//! FAULTS="send ENOBUFS 20%, receive ECONNREFUSED 5%"    a share of the calls
//! FAULTS="send ENETUNREACH 300ms+2000ms"                all calls in that time after the first send
//! FAULTS="send EIO 100% to=4001 batch"                  to that port, with several datagrams
//! FAULTS="option ENOPROTOOPT 100% IP_PKTINFO"           socket options, one or (unnamed) any
//! ```
//!
//! `send` is sendmsg(2), `receive` is recvmmsg(2), `option` is setsockopt(2): the calls of the
//! engine's sockets. A send may be narrowed to those `to=` a port, `from` an explicit source
//! address, of a `batch`, and `marked` for ECN. A call that fails does nothing else. Calls on other
//! sockets pass through, and so do all calls without `FAULTS`. Sends that do not fail are counted.

mod plan;
mod send;

use std::{
    collections::HashMap,
    ffi::{CStr, c_char},
    mem::{MaybeUninit, size_of, transmute},
    sync::{
        LazyLock, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use libc::{c_int, c_uint, c_void, mmsghdr, msghdr, socklen_t, ssize_t, timespec};

use plan::{Call, Plan};
use send::Send;

static PLAN: LazyLock<RwLock<Plan>> = LazyLock::new(|| {
    let text = std::env::var("FAULTS").unwrap_or_default();
    RwLock::new(Plan::parse(&text).unwrap_or_else(|why| panic!("FAULTS={text:?}: {why}")))
});
static INJECTED: AtomicU64 = AtomicU64::new(0);
static SENT: LazyLock<Mutex<HashMap<u16, Sent>>> = LazyLock::new(Mutex::default);

/// The sends to one port that did not fail.
#[derive(Clone, Copy, Default)]
struct Sent {
    calls: u64,
    datagrams: u64,
    marked: u64,
}

type SendMsg = unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t;
type RecvMmsg = unsafe extern "C" fn(c_int, *mut mmsghdr, c_uint, c_int, *mut timespec) -> c_int;
type SetSockOpt = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;

static SENDMSG: LazyLock<SendMsg> = LazyLock::new(|| {
    let symbol = next(c"sendmsg");
    // SAFETY: the C library's sendmsg has this signature (sendmsg(2)).
    unsafe { transmute::<*mut c_void, SendMsg>(symbol) }
});
static RECVMMSG: LazyLock<RecvMmsg> = LazyLock::new(|| {
    let symbol = next(c"recvmmsg");
    // SAFETY: the C library's recvmmsg has this signature (recvmmsg(2)).
    unsafe { transmute::<*mut c_void, RecvMmsg>(symbol) }
});
static SETSOCKOPT: LazyLock<SetSockOpt> = LazyLock::new(|| {
    let symbol = next(c"setsockopt");
    // SAFETY: the C library's setsockopt has this signature (setsockopt(2)).
    unsafe { transmute::<*mut c_void, SetSockOpt>(symbol) }
});

/// The C library's function that ours replaces.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: `name` ends with a zero, and RTLD_NEXT is a handle that always exists (dlsym(3)).
    let symbol = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!symbol.is_null(), "no {name:?} in this process");
    symbol
}

fn is_udp(socket: c_int) -> bool {
    let mut kind = MaybeUninit::<c_int>::zeroed();
    let mut size = size_of::<c_int>() as libc::socklen_t;
    let value = kind.as_mut_ptr().cast();
    // SAFETY: `value` is good for `size` bytes, and both live until the call returns.
    let done =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_TYPE, value, &mut size) };
    // SAFETY: zeroed is a c_int, whether or not the call has written another.
    done == 0 && unsafe { kind.assume_init() } == libc::SOCK_DGRAM
}

/// Whether this call must fail. If so, sets `errno`.
fn fails(call: Call, socket: c_int) -> bool {
    let plan = PLAN.read().unwrap_or_else(PoisonError::into_inner);
    let Some(error) = plan.error(call) else {
        return false;
    };
    if !is_udp(socket) {
        return false;
    }
    INJECTED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the calling thread's own errno, which lives as long as the thread (errno(3)).
    unsafe { *libc::__errno_location() = error };
    true
}

/// The number of calls that were made to fail.
#[unsafe(no_mangle)]
pub extern "C" fn faults_injected() -> u64 {
    INJECTED.load(Ordering::Relaxed)
}

/// Replace the plan. False, and no change, when `text` cannot be parsed.
///
/// # Safety
/// `text` is a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faults_set(text: *const c_char) -> bool {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let Ok(plan) = Plan::parse(&text) else {
        return false;
    };
    *PLAN.write().unwrap_or_else(PoisonError::into_inner) = plan;
    true
}

fn sent_to(port: u16) -> Sent {
    let sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
    sent.get(&port).copied().unwrap_or_default()
}

/// The number of sends to that port that did not fail.
#[unsafe(no_mangle)]
pub extern "C" fn faults_calls_to(port: u16) -> u64 {
    sent_to(port).calls
}

/// The number of datagrams in these sends.
#[unsafe(no_mangle)]
pub extern "C" fn faults_datagrams_to(port: u16) -> u64 {
    sent_to(port).datagrams
}

/// The number of these sends that had an ECN mark.
#[unsafe(no_mangle)]
pub extern "C" fn faults_marked_to(port: u16) -> u64 {
    sent_to(port).marked
}

/// # Safety
/// As sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: `message` is good for the call, as sendmsg(2) demands of the caller.
    let send = unsafe { Send::read(&*message) };
    if fails(Call::Send(send), socket) {
        return -1;
    }
    // SAFETY: handed on as it came from a caller who keeps the same promises.
    let done = unsafe { SENDMSG(socket, message, flags) };
    if done >= 0 && send.port != 0 {
        let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sent.entry(send.port).or_default();
        sent.calls += 1;
        sent.datagrams += send.datagrams;
        sent.marked += u64::from(send.is_marked);
    }
    done
}

/// # Safety
/// As recvmmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmmsg(
    socket: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if fails(Call::Receive, socket) {
        return -1;
    }
    // SAFETY: handed on as it came from a caller who keeps the same promises.
    unsafe { RECVMMSG(socket, messages, count, flags, timeout) }
}

/// # Safety
/// As setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    size: socklen_t,
) -> c_int {
    if fails(Call::Option(level, name), socket) {
        return -1;
    }
    // SAFETY: handed on as it came from a caller who keeps the same promises.
    unsafe { SETSOCKOPT(socket, level, name, value, size) }
}
