//! QPACK's static table (RFC 9204 appendix A): the fields that an index names without further bytes.

/// A name and a value.
pub(crate) type Entry = (&'static str, &'static str);

/// The entry with this index.
pub(crate) fn entry(index: u64) -> Option<Entry> {
    TABLE.get(usize::try_from(index).ok()?).copied()
}

/// The index of this field, and whether the entry's value is the field's too.
pub(crate) fn find(name: &str, value: &str) -> Option<(usize, bool)> {
    let exact = TABLE.iter().position(|entry| *entry == (name, value));
    let named = || TABLE.iter().position(|entry| entry.0 == name);
    exact
        .map(|index| (index, true))
        .or_else(|| named().map(|index| (index, false)))
}

#[rustfmt::skip]
static TABLE: [Entry; 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The indices that RFC 9204 appendix A gives to some entries, from each end of each run of names.
    #[test]
    fn entries_have_the_indices_of_the_rfc() {
        for (index, name, value) in [
            (0, ":authority", ""),
            (1, ":path", "/"),
            (15, ":method", "CONNECT"),
            (17, ":method", "GET"),
            (23, ":scheme", "https"),
            (25, ":status", "200"),
            (27, ":status", "404"),
            (52, "content-type", "text/html; charset=utf-8"),
            (67, ":status", "400"),
            (71, ":status", "500"),
            (90, "origin", ""),
            (98, "x-frame-options", "sameorigin"),
        ] {
            assert_eq!(entry(index), Some((name, value)));
        }
        assert_eq!(entry(99), None);
        assert_eq!(entry(u64::MAX), None);
    }

    #[test]
    fn entries_are_found_by_field_and_by_name() {
        for index in 0..99 {
            let (name, value) = entry(index).expect("an entry");
            let (found, is_exact) = find(name, value).expect("itself");
            assert_eq!((found as u64, is_exact), (index, true));
        }
        assert_eq!(find(":status", "501"), Some((24, false)));
        assert_eq!(find(":protocol", "webtransport"), None);
    }
}
