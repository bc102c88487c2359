//! Which server a command talks to, and with which token.
//!
//! A token goes only to the server that it was stored for: `--server` at another address does not take it along.

use super::{Profile, Profiles, check_token};
use crate::api::address::Address;
use crate::failure::Failure;

/// What the command line and the environment say.
#[derive(Default, Debug, Clone)]
pub struct Wishes {
    /// `--profile`, or `HONGBAO_PROFILE`.
    pub profile: Option<String>,
    /// `--server`, or `HONGBAO_SERVER`.
    pub server: Option<String>,
    /// `HONGBAO_TOKEN`.
    pub token: Option<String>,
}

impl Wishes {
    /// The command line's, with the environment's where it says nothing.
    pub fn new(profile: Option<&str>, server: Option<&str>) -> Wishes {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Wishes {
            profile: profile.map(str::to_owned).or_else(|| env("HONGBAO_PROFILE")),
            server: server.map(str::to_owned).or_else(|| env("HONGBAO_SERVER")),
            token: env("HONGBAO_TOKEN"),
        }
    }
}

/// A server and the token for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where.
    pub address: Address,
    /// Its token.
    pub token: Option<String>,
}

/// Chooses.
///
/// # Errors
/// When no server is named anywhere, or what is named does not exist.
pub fn choose(wishes: &Wishes, profiles: &Profiles) -> Result<Chosen, Failure> {
    let profile = named(wishes, profiles)?;
    let server = wishes.server.as_deref().or(profile.map(|p| p.server.as_str())).ok_or_else(|| {
        Failure::Usage(
            "no server is named; `quotactl login --server http://HOST:PORT` keeps one, `--server` or HONGBAO_SERVER \
             names one for a command"
                .into(),
        )
    })?;
    let address = Address::parse(server)?;
    let stored = profile.filter(|p| Address::parse(&p.server).is_ok_and(|of| of == address));
    let token = match (&wishes.token, stored.and_then(|p| p.token.as_deref())) {
        (Some(token), _) => Some(check_token(token)?),
        (None, Some(token)) => Some(token.to_owned()),
        (None, None) => None,
    };
    Ok(Chosen { address, token })
}

/// The profile that is meant: the one that is named, else the one for the server that is named, else the default.
fn named<'a>(wishes: &Wishes, profiles: &'a Profiles) -> Result<Option<&'a Profile>, Failure> {
    if let Some(name) = &wishes.profile {
        return profiles.profiles.get(name).map(Some).ok_or_else(|| unknown(name, profiles));
    }
    let default = profiles.default.as_ref().and_then(|name| profiles.profiles.get(name));
    let Some(server) = &wishes.server else { return Ok(default) };
    let wanted = Address::parse(server)?;
    let fits = |profile: &&Profile| Address::parse(&profile.server).is_ok_and(|of| of == wanted);
    Ok(default.filter(|p| fits(p)).or_else(|| profiles.profiles.values().find(fits)))
}

/// That there is no such profile.
pub fn unknown(name: &str, profiles: &Profiles) -> Failure {
    let known: Vec<&str> = profiles.profiles.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "there are none yet".to_owned() } else { known.join(", ") };
    Failure::Usage(format!(
        "there is no profile `{name}` ({known}); `quotactl login --profile {name} --server http://HOST:PORT` makes it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn profiles() -> Profiles {
        let profile =
            |server: &str, token: &str| Profile { server: server.into(), token: Some(token.into()) };
        Profiles {
            default: Some("prod".into()),
            profiles: BTreeMap::from([
                ("prod".into(), profile("http://10.0.0.1:7700", "tp")),
                ("test".into(), profile("10.0.0.2:7700/", "tt")),
            ]),
        }
    }

    fn chosen(profile: Option<&str>, server: Option<&str>, token: Option<&str>) -> (String, Option<String>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let wishes = Wishes { profile: own(profile), server: own(server), token: own(token) };
        let chosen = choose(&wishes, &profiles()).unwrap();
        (chosen.address.to_string(), chosen.token)
    }

    #[test]
    fn the_nearest_word_counts() {
        let at = |server: &str, token: &str| (server.to_owned(), Some(token.to_owned()));
        assert_eq!(chosen(None, None, None), at("http://10.0.0.1:7700", "tp"));
        assert_eq!(chosen(Some("test"), None, None), at("http://10.0.0.2:7700", "tt"));
        assert_eq!(chosen(None, None, Some("env")), at("http://10.0.0.1:7700", "env"));
        assert_eq!(chosen(None, Some("http://10.0.0.2:7700"), None), at("http://10.0.0.2:7700", "tt"));
    }

    #[test]
    fn a_token_does_not_travel_to_another_server() {
        assert_eq!(chosen(None, Some("http://evil:1"), None), ("http://evil:1".into(), None));
        assert_eq!(chosen(Some("prod"), Some("http://evil:1"), None), ("http://evil:1".into(), None));
    }

    #[test]
    fn what_is_missing_is_told() {
        let none = choose(&Wishes::default(), &Profiles::default()).unwrap_err().to_string();
        assert!(none.contains("login --server"), "{none}");
        let wishes = Wishes { profile: Some("live".into()), ..Wishes::default() };
        let unknown = choose(&wishes, &profiles()).unwrap_err().to_string();
        assert!(unknown.contains("prod, test"), "{unknown}");
    }
}
