//! Where servers are: an address with one host, or with several of which one takes writes.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use super::PgOpenError;

/// Most hosts that one address may name.
const HOSTS_MAX: usize = 16;

/// One server of an address.
#[derive(Clone)]
pub(super) struct Target {
    /// How to connect.
    pub connect: PgConnectOptions,
    /// `host:port`, for messages.
    pub at: String,
}

impl Target {
    /// Who wants what, without the password.
    pub fn who(&self) -> String {
        let database = self.connect.get_database().unwrap_or(self.connect.get_username());
        format!("user {}, database {database}", self.connect.get_username())
    }
}

/// The servers of `url`, in its order.
pub(super) fn parse(url: &str) -> Result<Vec<Target>, PgOpenError> {
    let bad = |why: &str| PgOpenError::BadUrl { why: why.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no '://'"))?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(bad("it does not begin with postgres://"));
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let hosts: Vec<&str> = hosts.split(',').collect();
    if hosts.len() > HOSTS_MAX {
        return Err(bad(&format!("it names {} hosts, and at most {HOSTS_MAX} are looked at", hosts.len())));
    }
    hosts.into_iter().map(|host| one(&format!("{scheme}://{user}{host}{tail}"), host)).collect()
}

fn one(url: &str, host: &str) -> Result<Target, PgOpenError> {
    // What the parser says names neither user nor password.
    let connect = PgConnectOptions::from_str(url)
        .map_err(|error| PgOpenError::BadUrl { why: format!("host {host:?}: {error}") })?;
    let at = match connect.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", connect.get_host(), connect.get_port()),
    };
    Ok(Target { connect, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(url: &str) -> Vec<String> {
        parse(url).unwrap().iter().map(|target| target.at.clone()).collect()
    }

    #[test]
    fn one_host_or_several() {
        assert_eq!(places("postgres://u:p@127.0.0.1:5433/db"), ["127.0.0.1:5433"]);
        let url = "postgresql://u:p%40ss@a:1,b,[::1]:7/db?application_name=x";
        assert_eq!(places(url), ["a:1", "b:5432", "[::1]:7"]);
        assert!(parse(url).unwrap().iter().all(|t| t.who() == "user u, database db"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for url in ["a:secret@b", "mysql://u:secret@b/db", "postgres://u:secret@b:99999/db"] {
            let Err(error) = parse(url) else { panic!("{url} was taken") };
            let text = error.to_string();
            assert!(text.contains("postgres://") && !text.contains("secret"), "{text}");
        }
        let many = vec!["h"; 17].join(",");
        assert!(parse(&format!("postgres://{many}/db")).is_err());
    }
}
