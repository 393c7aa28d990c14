//! System calls on UDP sockets that fail as a real system's do: `LD_PRELOAD` this library, and say
//! in `FAULTS` which, with what error, and when.
//!
//! ```text
//! FAULTS="send ENOBUFS 20%, receive ECONNREFUSED 5%"    so many of the calls
//! FAULTS="send ENETUNREACH 300ms+2000ms"                all calls in that time after the first
//! ```
//!
//! `send` is sendmsg(2), `receive` is recvmmsg(2): what the engine's sockets use. A call that fails
//! does nothing else. Calls on other sockets are let through, and so is everything without `FAULTS`.

mod plan;

use std::{
    ffi::CStr,
    mem::{MaybeUninit, size_of, transmute},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use libc::{c_int, c_uint, c_void, mmsghdr, msghdr, ssize_t, timespec};

use plan::{Call, Plan};

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let words = std::env::var("FAULTS").unwrap_or_default();
    Plan::parse(&words).unwrap_or_else(|why| panic!("FAULTS={words:?}: {why}"))
});
static INJECTED: AtomicU64 = AtomicU64::new(0);

type SendMsg = unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t;
type RecvMmsg = unsafe extern "C" fn(c_int, *mut mmsghdr, c_uint, c_int, *mut timespec) -> c_int;

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

/// The function that ours stands before.
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

/// Whether this call is to fail; `errno` says so already.
fn fails(call: Call, socket: c_int) -> bool {
    let Some(error) = PLAN.error(call) else {
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

/// How many calls were made to fail.
#[unsafe(no_mangle)]
pub extern "C" fn faults_injected() -> u64 {
    INJECTED.load(Ordering::Relaxed)
}

/// # Safety
/// As sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if fails(Call::Send, socket) {
        return -1;
    }
    // SAFETY: handed on as it came from a caller who keeps the same promises.
    unsafe { SENDMSG(socket, message, flags) }
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
