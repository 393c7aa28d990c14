//! Responses: what a server writes, and the status that a client reads.

use crate::{
    field_section::{self, Field},
    frame,
    message::{Malformed, Message},
};

/// Append a HEADERS frame with this status and field.
pub(crate) fn write(out: &mut Vec<u8>, status: u16, field: Option<(&str, &str)>) {
    let status = status.to_string();
    let mut fields = vec![(":status", status.as_str())];
    fields.extend(field);
    let mut section = Vec::new();
    field_section::write(&mut section, &fields);
    frame::write(out, frame::HEADERS, &section);
}

/// The status of a response.
pub(crate) fn read(fields: Vec<Field>) -> Result<u16, Malformed> {
    Message::check(fields, &[":status"])?
        .get(":status")
        .filter(|status| status.len() == 3 && status.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|status| status.parse().ok())
        .filter(|status| *status >= 100)
        .ok_or(Malformed("a response has no valid status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_back() {
        for status in [100, 200, 404, 431, 501, 599] {
            let mut out = Vec::new();
            write(&mut out, status, Some(("allow", "CONNECT")));
            let fields = field_section::read(&out[2..]).expect("our own");
            assert_eq!(read(fields), Ok(status));
        }
        let mut out = Vec::new();
        write(&mut out, 200, None);
        assert_eq!(out, [0x01, 3, 0, 0, 0xd9]);
    }

    #[test]
    fn a_response_without_a_status_is_malformed() {
        for fields in [
            &[][..],
            &[(":status", "20")],
            &[(":status", "+20")],
            &[(":status", "099")],
        ] {
            let mut section = Vec::new();
            field_section::write(&mut section, fields);
            let fields = field_section::read(&section).expect("our own");
            assert_eq!(
                read(fields),
                Err(Malformed("a response has no valid status"))
            );
        }
    }
}
