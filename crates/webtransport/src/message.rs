//! The rules that every message of HTTP/3 keeps (RFC 9114 sections 4.2 and 4.3), whether a request or a response.

use crate::field_section::Field;

/// A message is malformed (RFC 9114 section 4.1.2), for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A message that keeps the rules.
#[derive(Debug)]
pub(crate) struct Message(Vec<Field>);

impl Message {
    /// Check the fields of a message that may have these pseudo-header fields.
    pub(crate) fn check(fields: Vec<Field>, pseudo: &[&str]) -> Result<Self, Malformed> {
        let mut is_after_pseudo = false;
        for (index, field) in fields.iter().enumerate() {
            if field
                .value
                .iter()
                .any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))
            {
                return Err(Malformed("the value of a field has a line break or NUL"));
            }
            if field.name.starts_with(b":") {
                if is_after_pseudo {
                    return Err(Malformed("a pseudo-header field follows other fields"));
                }
                if !pseudo.iter().any(|name| name.as_bytes() == &*field.name) {
                    return Err(Malformed("a pseudo-header field is unknown here"));
                }
                if fields[..index].iter().any(|other| other.name == field.name) {
                    return Err(Malformed("a pseudo-header field occurs twice"));
                }
                if std::str::from_utf8(&field.value).is_err() {
                    return Err(Malformed("the value of a pseudo-header field is no text"));
                }
                continue;
            }
            is_after_pseudo = true;
            if field.name.is_empty() || !field.name.iter().all(|byte| is_token(*byte)) {
                return Err(Malformed("the name of a field has an invalid character"));
            }
            match &*field.name {
                b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
                | b"upgrade" => {
                    return Err(Malformed("a field is specific to connections of HTTP/1.1"));
                }
                b"te" if &*field.value != b"trailers" => {
                    return Err(Malformed("the field te is not trailers"));
                }
                _ => {}
            }
        }
        Ok(Self(fields))
    }

    /// The value of the first field with this name, if it is text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|field| &*field.name == name.as_bytes())
            .and_then(|field| std::str::from_utf8(&field.value).ok())
    }
}

/// A character of a token (RFC 9110 section 5.6.2) that is not uppercase.
fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[(&'static str, &'static str)]) -> Result<Message, Malformed> {
        let fields = fields
            .iter()
            .map(|(name, value)| Field {
                name: name.as_bytes().into(),
                value: value.as_bytes().into(),
            })
            .collect();
        Message::check(fields, &[":method", ":path"])
    }

    #[test]
    fn fields_are_found_by_name() {
        let message = check(&[
            (":method", "GET"),
            ("x-y", "1"),
            ("x-y", "2"),
            ("te", "trailers"),
        ]);
        let message = message.expect("valid");
        assert_eq!(message.get(":method"), Some("GET"));
        assert_eq!(message.get("x-y"), Some("1"));
        assert_eq!(message.get(":path"), None);
    }

    #[test]
    fn malformed_messages_are_told_by_their_defect() {
        for (fields, reason) in [
            (
                &[("x", "a\nb")][..],
                "the value of a field has a line break or NUL",
            ),
            (
                &[("x", "a\0")],
                "the value of a field has a line break or NUL",
            ),
            (
                &[("x", "1"), (":path", "/")],
                "a pseudo-header field follows other fields",
            ),
            (
                &[(":status", "200")],
                "a pseudo-header field is unknown here",
            ),
            (
                &[(":path", "/"), (":path", "/")],
                "a pseudo-header field occurs twice",
            ),
            (&[("", "1")], "the name of a field has an invalid character"),
            (
                &[("X", "1")],
                "the name of a field has an invalid character",
            ),
            (
                &[("x y", "1")],
                "the name of a field has an invalid character",
            ),
            (
                &[("upgrade", "1")],
                "a field is specific to connections of HTTP/1.1",
            ),
            (&[("te", "gzip")], "the field te is not trailers"),
        ] {
            assert_eq!(
                check(fields).expect_err("malformed"),
                Malformed(reason),
                "{fields:?}"
            );
        }
    }
}
