//! Where the admin API is, and how paths and queries are written.

use http::Uri;

use crate::failure::Failure;

/// The address of a server: `http://host:port` and perhaps a path under which the API stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(String);

impl Address {
    /// Reads an address; `host:port` alone is taken as `http`.
    ///
    /// # Errors
    /// What is wrong with it, and how it should look.
    pub fn parse(text: &str) -> Result<Address, Failure> {
        let wrong =
            |why: &str| Failure::Usage(format!("server `{text}`: {why}; write it as http://HOST:PORT"));
        if text.starts_with("https://") {
            return Err(wrong(
                "this program speaks http only, without TLS; reach a server elsewhere through a tunnel (as in `ssh -L \
                 7602:127.0.0.1:7602 HOST`)",
            ));
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|_| wrong("this is no address"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("the scheme is not http"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a name or password does not belong here: `quotactl login` keeps the token"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        Ok(Address(format!("http://{authority}{path}")))
    }

    /// The address of something under it.
    pub fn with(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether it is this machine, where a token does not cross a wire.
    pub fn is_local(&self) -> bool {
        let uri: Uri = match self.0.parse() {
            Ok(uri) => uri,
            Err(_) => return false,
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text as a part of a path or a query (RFC 3986, section 2.3: only unreserved characters stay).
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A path with its query.
pub fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let mut out = path.to_owned();
    for (i, (key, value)) in query.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(&format!("{key}={}", encoded(value)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_brought_into_one_form() {
        let read = |text: &str| Address::parse(text).map(|a| a.to_string());
        assert_eq!(read("127.0.0.1:7700").unwrap(), "http://127.0.0.1:7700");
        assert_eq!(read("http://a.example:7700/").unwrap(), "http://a.example:7700");
        assert_eq!(read("http://a.example/admin/v1/").unwrap(), "http://a.example/admin");
        for wrong in ["https://a.example", "ftp://a", "http://u:p@a", "http://", "a b", "http://a/?x=1"] {
            assert!(matches!(read(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn this_machine_is_known() {
        for (text, local) in
            [("localhost:1", true), ("127.0.0.9:1", true), ("[::1]:1", true), ("10.0.0.1:1", false)]
        {
            assert_eq!(Address::parse(text).unwrap().is_local(), local, "{text}");
        }
    }

    #[test]
    fn queries_carry_any_text() {
        let path =
            with_query("/v1/campaigns", &[("reason", "more, 红 & x".into()), ("dry_run", "true".into())]);
        assert_eq!(path, "/v1/campaigns?reason=more%2C%20%E7%BA%A2%20%26%20x&dry_run=true");
    }
}
