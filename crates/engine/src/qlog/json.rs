//! Writes JSON objects and arrays into a string, member by member. It writes what it is told, in that
//! order; qlog's names are in `connection_log`, `frames` and `packet`.

use std::{fmt::Write, time::Duration};

/// Append an object.
pub(super) fn object(out: &mut String, fill: impl FnOnce(&mut Members<'_>)) {
    out.push('{');
    fill(&mut Members {
        out,
        is_empty: true,
    });
    out.push('}');
}

/// The members of an object that is being written.
pub(super) struct Members<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl Members<'_> {
    fn key(&mut self, key: &str) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        self.out
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        let _ = write!(self.key(key), "{value}");
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        let _ = write!(self.key(key), "{value}");
    }

    /// A duration in milliseconds, to the microsecond.
    pub(super) fn milliseconds(&mut self, key: &str, value: Duration) {
        let micros = value.as_micros();
        let _ = write!(self.key(key), "{}.{:03}", micros / 1000, micros % 1000);
    }

    /// Text, which a peer may have chosen.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        quote(self.key(key), value);
    }

    pub(super) fn hex(&mut self, key: &str, bytes: &[u8]) {
        let out = self.key(key);
        out.push('"');
        for byte in bytes {
            let _ = write!(out, "{byte:02x}");
        }
        out.push('"');
    }

    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Members<'_>)) {
        object(self.key(key), fill);
    }

    pub(super) fn array(&mut self, key: &str, fill: impl FnOnce(&mut Elements<'_>)) {
        let out = self.key(key);
        out.push('[');
        fill(&mut Elements {
            out,
            is_empty: true,
        });
        out.push(']');
    }
}

/// The elements of an array that is being written.
pub(super) struct Elements<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl Elements<'_> {
    fn next(&mut self) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(',');
        }
        self.out
    }

    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Members<'_>)) {
        object(self.next(), fill);
    }

    pub(super) fn text(&mut self, value: &str) {
        quote(self.next(), value);
    }

    /// An array of one number, or of the first and the last of several.
    pub(super) fn range(&mut self, first: u64, last: u64) {
        let out = self.next();
        let _ = match first == last {
            true => write!(out, "[{first}]"),
            false => write!(out, "[{first},{last}]"),
        };
    }
}

/// RFC 8259 section 7: quotation mark, reverse solidus and control characters are escaped.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_separated() {
        let mut out = String::new();
        object(&mut out, |members| {
            members.number("n", 7);
            members.flag("f", true);
            members.hex("h", &[0, 0xab]);
            members.milliseconds("t", Duration::from_micros(1_002_003));
            members.object("empty", |_| {});
            members.array("ranges", |elements| {
                elements.range(1, 1);
                elements.range(3, 9);
            });
        });
        assert_eq!(
            out,
            r#"{"n":7,"f":true,"h":"00ab","t":1002.003,"empty":{},"ranges":[[1],[3,9]]}"#
        );
    }

    #[test]
    fn text_of_a_peer_stays_inside_its_quotation_marks() {
        let mut out = String::new();
        object(&mut out, |members| members.text("r", "a\"b\\c\n\u{1e}é"));
        assert_eq!(out, r#"{"r":"a\"b\\c\u000a\u001eé"}"#);
    }
}
