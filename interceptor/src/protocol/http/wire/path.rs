//! A request's path as policy judges it. What two servers could read differently is no path here: the bytes
//! that are judged are the bytes that are sent, so that nothing can be made right on the way.

/// Parts of one path.
const PARTS_MAX: usize = 64;
/// Bytes of one path.
const BYTES_MAX: usize = 8 << 10;

/// Reads a path: escapes resolved, no slash at its end.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read(raw: &str, parameters: bool) -> Result<String, &'static str> {
    let inner = raw
        .strip_prefix('/')
        .ok_or("the path does not begin with a slash")?;
    if raw.len() > BYTES_MAX {
        return Err("the path is longer than 8 KiB");
    }
    let mut path = String::with_capacity(raw.len());
    let mut parts = inner.split('/').peekable();
    let mut count = 0_usize;
    while let Some(part) = parts.next() {
        // `/v1/` is judged as `/v1`: servers give the one for the other.
        if part.is_empty() && parts.peek().is_none() {
            break;
        }
        count = count.saturating_add(1);
        if count > PARTS_MAX {
            return Err("the path has more than 64 parts");
        }
        path.push('/');
        path.push_str(&read_part(part, parameters)?);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

/// The path with each part escaped once, whatever the client has escaped of it.
#[must_use]
pub fn escaped_once(raw: &str) -> String {
    let part = |part: &str| {
        let bytes = super::unescape(part.as_bytes(), false);
        super::query::escaped(bytes.as_deref().unwrap_or(part.as_bytes()))
    };
    raw.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn read_part(part: &str, parameters: bool) -> Result<String, &'static str> {
    if part.is_empty() {
        return Err("the path has two slashes in a row");
    }
    let bytes = super::unescape(part.as_bytes(), false);
    let bytes = bytes.ok_or("the path has an escape that is none")?;
    let text = String::from_utf8(bytes).map_err(|_not_text| "the path is not UTF-8")?;
    if text.chars().any(|c| c.is_control()) {
        return Err("the path has a control character in it");
    }
    if text.contains(['/', '\\']) {
        return Err("the path has an escaped slash, or a backslash, in it");
    }
    if is_escaped_twice(text.as_bytes()) {
        return Err("the path has an escape within an escape");
    }
    if text.contains(';') && !parameters {
        return Err("the path has a parameter (`;`)");
    }
    let name = text.split(';').next().unwrap_or_default();
    if matches!(name.trim_end(), "" | "." | "..") {
        return Err("the path has `.` or `..` in it");
    }
    Ok(text)
}

/// Whether what is left after escapes were resolved would be resolved again by who does so twice.
fn is_escaped_twice(text: &[u8]) -> bool {
    text.windows(3).any(|window| match window {
        [b'%', high, low] => super::hex_pair(*high, *low).is_some(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_every_server_reads_it() {
        let rows = [
            ("/", "/"),
            ("/v1", "/v1"),
            ("/v1/", "/v1"),
            ("/v1/customers/42", "/v1/customers/42"),
            ("/v1/%63ustomers", "/v1/customers"),
            ("/a%20b", "/a b"),
            ("/%c3%a9", "/é"),
            ("/...", "/..."),
            ("/100%25", "/100%"),
            ("/.well-known/x", "/.well-known/x"),
        ];
        for (raw, expected) in rows {
            assert_eq!(read(raw, false).as_deref(), Ok(expected), "{raw}");
        }
        assert_eq!(read("/a;x=1/b", true).as_deref(), Ok("/a;x=1/b"));
    }

    #[test]
    fn a_path_is_escaped_once_however_it_came() {
        let rows = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a%20b/c:d(e)~", "/a%20b/c%3Ad%28e%29~"),
            ("/%61/%C3%A9/%2B+", "/a/%C3%A9/%2B%2B"),
        ];
        for (raw, expected) in rows {
            assert_eq!(escaped_once(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_path_that_servers_read_differently_is_none() {
        let rows = [
            "",
            "*",
            "v1",
            "//",
            "//v1",
            "/v1//x",
            "/v1/../x",
            "/v1/.",
            "/v1/%2e%2e/x",
            "/v1/..%2fx",
            "/v1%2fx",
            "/v1%5cx",
            "/v1\\x",
            "/v1/%00",
            "/v1/%0d%0a",
            "/%ff",
            "/v1/%252e%252e/x",
            "/v1/%252f",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/a;x/b",
            "/a/..;/b",
            "/%20",
            "/.. ",
        ];
        for raw in rows {
            assert!(read(raw, false).is_err(), "{raw}");
        }
        for raw in ["/a/..;/b", "/a/.;x/b", "/;x", "/a/%2e%2e;x=1"] {
            assert!(read(raw, true).is_err(), "{raw}");
        }
    }
}
