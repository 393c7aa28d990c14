//! The part of nix's `Errno` that the engine uses, with the numbers of Winsock. The symbols are POSIX's, so
//! that the texts of errors are those of the documentation on every system.

use std::fmt;

/// An error number of Winsock. Equal numbers are equal errors, also those without a name here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(i32);

macro_rules! errors {
    ($($name:ident = $number:literal, $symbol:literal, $text:literal;)*) => {
        #[allow(dead_code)] // Which of them are used depends on the system's part of the engine.
        impl Errno {
            $(pub(crate) const $name: Self = Self($number);)*

            fn known(self) -> Option<(&'static str, &'static str)> {
                match self.0 {
                    $($number => Some(($symbol, $text)),)*
                    _ => None,
                }
            }
        }
    };
}

errors! {
    // Winsock has neither of these two: no error has these numbers.
    EPERM = -1, "EPERM", "Operation not permitted";
    ENODEV = -2, "ENODEV", "No such device";
    EINTR = 10004, "EINTR", "Interrupted function call";
    EACCES = 10013, "EACCES", "Permission denied";
    EINVAL = 10022, "EINVAL", "Invalid argument";
    EAGAIN = 10035, "EAGAIN", "Resource temporarily unavailable";
    EMSGSIZE = 10040, "EMSGSIZE", "Message too long";
    ENOPROTOOPT = 10042, "ENOPROTOOPT", "Bad protocol option";
    EOPNOTSUPP = 10045, "EOPNOTSUPP", "Operation not supported";
    EAFNOSUPPORT = 10047, "EAFNOSUPPORT", "Address family not supported";
    EADDRNOTAVAIL = 10049, "EADDRNOTAVAIL", "Cannot assign requested address";
    ENETDOWN = 10050, "ENETDOWN", "Network is down";
    ENETUNREACH = 10051, "ENETUNREACH", "Network is unreachable";
    ENETRESET = 10052, "ENETRESET", "Network dropped connection because of reset";
    ECONNRESET = 10054, "ECONNRESET", "Connection reset by peer";
    ENOBUFS = 10055, "ENOBUFS", "No buffer space available";
    ECONNREFUSED = 10061, "ECONNREFUSED", "Connection refused";
    EHOSTUNREACH = 10065, "EHOSTUNREACH", "No route to host";
}

impl Errno {
    pub(crate) const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    #[cfg(test)]
    pub(crate) const fn raw(self) -> i32 {
        self.0
    }

    /// What the error means.
    pub(crate) fn desc(self) -> &'static str {
        self.known().map_or("Unknown error", |(_, text)| text)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((symbol, _)) => f.write_str(symbol),
            None => write!(f, "Windows error {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}: {}", self.desc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_symbol_of_posix_and_an_unknown_one_its_number() {
        assert_eq!(format!("{:?}", Errno::EAGAIN), "EAGAIN");
        assert_eq!(
            Errno::from_raw(10065).to_string(),
            "EHOSTUNREACH: No route to host"
        );
        assert_eq!(
            Errno::from_raw(87).to_string(),
            "Windows error 87: Unknown error"
        );
        assert_eq!(Errno::from_raw(10061), Errno::ECONNREFUSED);
        assert_eq!(Errno::ECONNREFUSED.raw(), 10061);
        assert_ne!(Errno::from_raw(87), Errno::from_raw(88));
    }
}
