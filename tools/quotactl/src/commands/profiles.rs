//! `login` and `profile`: which servers are known, and the tokens for them.
//!
//! A token is never an argument: arguments stand in the shell's history and in the list of processes.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};

use crate::api::address::Address;
use crate::api::{Api, Ask};
use crate::cli::{Login, ProfileCommand};
use crate::failure::{Failure, OK};
use crate::out;
use crate::profile::{self, Profile, Profiles, TOKEN_BYTES_MAX, check_token, choose};
use crate::text::paint::Style;
use crate::text::table::{Side, Table};
use crate::text::value::short;

use super::Context;

/// `login`.
pub async fn login(context: &Context, args: &Login) -> Result<u8, Failure> {
    let path = profile::path()?;
    let wishes = context.wishes();
    let mut profiles = profile::load(&path)?;
    let (name, server) = place(&wishes, &profiles)?;
    let address = Address::parse(&server)?;
    if !address.is_local() {
        out::tell(&format!(
            "note: {address} is another machine, and the token goes there unencrypted; outside a private network use a \
             tunnel"
        ));
    }
    let token = match &wishes.token {
        Some(token) => check_token(token)?,
        None => check_token(&from_stdin(&address)?)?,
    };
    let who = if args.unchecked {
        json!({ "profile": name, "server": address.to_string() })
    } else {
        let api = Api::new(address.clone(), Some(&token), context.patience())?;
        api.ask(&Ask::get("/v1/whoami"), None).await?.json()?
    };
    profiles.default.get_or_insert_with(|| name.clone());
    profiles.profiles.insert(name.clone(), Profile { server: address.to_string(), token: Some(token) });
    profile::save(&path, &profiles)?;
    if context.common.json {
        out::print(&who.to_string())?;
    } else {
        let known = match (who.get("name"), who.get("role")) {
            (Some(who), Some(role)) => format!(" as {} ({})", short(who), short(role)),
            _ => " (the token was not checked)".to_owned(),
        };
        out::print(&format!("profile `{name}`: {address}{known}; kept in {}", path.display()))?;
    }
    Ok(OK)
}

/// Which profile is written, and its server. One is never pointed at another server without being named.
fn place(wishes: &choose::Wishes, profiles: &Profiles) -> Result<(String, String), Failure> {
    let known = |name: &String| profiles.profiles.get(name).map(|profile| profile.server.clone());
    let needs_server =
        || Failure::Usage("name the server: `quotactl login --server http://HOST:PORT`".into());
    match (&wishes.profile, &wishes.server) {
        (Some(name), server) => {
            let server = server.clone().or_else(|| known(name)).ok_or_else(needs_server)?;
            Ok((name.clone(), server))
        }
        (None, None) => {
            let name = profiles.default.clone().ok_or_else(needs_server)?;
            let server = known(&name).ok_or_else(needs_server)?;
            Ok((name, server))
        }
        (None, Some(server)) => {
            let wanted = Address::parse(server)?;
            let same = |profile: &Profile| Address::parse(&profile.server).is_ok_and(|of| of == wanted);
            let name =
                profiles.profiles.iter().find(|(_, profile)| same(profile)).map(|(name, _)| name.clone());
            let name = name.or_else(|| profiles.profiles.is_empty().then(|| "default".to_owned()));
            let name = name.ok_or_else(|| {
                Failure::Usage(format!(
                    "{wanted} is a new server; name its profile: `quotactl login --profile NAME`"
                ))
            })?;
            Ok((name, server.clone()))
        }
    }
}

fn from_stdin(address: &Address) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::Refused(format!("reading the token: {error}"));
    if std::io::stdin().is_terminal() {
        out::prompt(&format!("token for {address} (not shown): "));
        let token = hidden();
        out::tell("");
        return token
            .map_err(failed)?
            .ok_or_else(|| Failure::Refused("no token was given; nothing was kept".into()));
    }
    let mut line = String::new();
    // A token, and blanks around it.
    std::io::stdin().lock().take(2 * TOKEN_BYTES_MAX as u64).read_line(&mut line).map_err(failed)?;
    Ok(line)
}

/// A line that is typed or pasted without being shown; `None`: the person gave up.
fn hidden() -> std::io::Result<Option<String>> {
    let _raw = Raw::enter()?;
    let mut token = String::new();
    loop {
        let Event::Key(key) = crossterm::event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Ok(Some(token)),
            KeyCode::Esc => return Ok(None),
            KeyCode::Char('c' | 'd') if control => return Ok(None),
            KeyCode::Char('u') if control => token.clear(),
            KeyCode::Backspace => {
                token.pop();
            }
            KeyCode::Char(letter) if !control && token.len() <= TOKEN_BYTES_MAX => token.push(letter),
            _ => {}
        }
    }
}

/// The terminal without echo, until dropped.
struct Raw;

impl Raw {
    fn enter() -> std::io::Result<Raw> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that is gone.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// `profile`.
pub fn run(context: &Context, command: &ProfileCommand) -> Result<u8, Failure> {
    let path = profile::path()?;
    if let ProfileCommand::Path = command {
        out::print(&path.display().to_string())?;
        return Ok(OK);
    }
    let mut profiles = profile::load(&path)?;
    match command {
        ProfileCommand::Use { name } => {
            if !profiles.profiles.contains_key(name) {
                return Err(choose::unknown(name, &profiles));
            }
            profiles.default = Some(name.clone());
            profile::save(&path, &profiles)?;
        }
        ProfileCommand::Remove { name } => {
            if profiles.profiles.remove(name).is_none() {
                return Err(choose::unknown(name, &profiles));
            }
            profiles.default = profiles.default.filter(|default| default != name);
            profile::save(&path, &profiles)?;
        }
        ProfileCommand::List | ProfileCommand::Path => {}
    }
    list(context, &profiles)?;
    Ok(OK)
}

fn list(context: &Context, profiles: &Profiles) -> Result<(), Failure> {
    let is_default = |name: &String| profiles.default.as_ref() == Some(name);
    if context.common.json {
        let items: Vec<Value> = profiles
            .profiles
            .iter()
            .map(|(name, profile)| {
                json!({
                    "name": name, "server": profile.server, "has_token": profile.token.is_some(),
                    "default": is_default(name),
                })
            })
            .collect();
        return out::print(&json!({ "items": items }).to_string());
    }
    if profiles.profiles.is_empty() {
        return out::print("there are no profiles; `quotactl login --server http://HOST:PORT` makes one");
    }
    let mut table = Table::new(&[
        ("", Side::Left),
        ("PROFILE", Side::Left),
        ("SERVER", Side::Left),
        ("TOKEN", Side::Left),
    ]);
    for (name, profile) in &profiles.profiles {
        let mark = if is_default(name) { "*" } else { "" };
        let token = if profile.token.is_some() { "kept" } else { "none" };
        let style = if is_default(name) { Style::Bold } else { Style::Plain };
        table.row(vec![
            (mark.to_owned(), style),
            (name.clone(), style),
            (profile.server.clone(), Style::Plain),
            (token.to_owned(), Style::Plain),
        ]);
    }
    out::print(&table.lines(context.paint).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_profile_is_never_pointed_elsewhere_unnamed() {
        let known = Profiles {
            default: Some("prod".into()),
            profiles: BTreeMap::from([("prod".into(), Profile { server: "http://a:1".into(), token: None })]),
        };
        let at = |profile: Option<&str>, server: Option<&str>, profiles: &Profiles| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            place(&choose::Wishes { profile: own(profile), server: own(server), token: None }, profiles).ok()
        };
        let is = |name: &str, server: &str| Some((name.to_owned(), server.to_owned()));
        assert_eq!(at(None, None, &known), is("prod", "http://a:1"));
        assert_eq!(at(None, Some("a:1"), &known), is("prod", "a:1"));
        assert_eq!(at(None, Some("b:1"), &known), None);
        assert_eq!(at(Some("test"), Some("b:1"), &known), is("test", "b:1"));
        assert_eq!(at(None, Some("b:1"), &Profiles::default()), is("default", "b:1"));
        assert_eq!(at(None, None, &Profiles::default()), None);
    }
}
