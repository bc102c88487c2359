//! What a token says, once its signature holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ISSUED_AHEAD_MAX_S, TokenError, read_json, shortened};

/// What a gateway may do on each of its connections. A bound of 0 or an absent one means the platform's own; a
/// token can only lower it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GatewayGrant {
    /// Its name, 1 to 64 characters: what it is counted and logged under.
    pub name: String,
    /// Submits a second on one connection.
    #[serde(default)]
    pub submits_per_second: u32,
    /// Requests that may be unanswered on one connection.
    #[serde(default)]
    pub outstanding_max: u32,
    /// Connections at the same time, on one access node.
    #[serde(default)]
    pub connections_max: u32,
}

/// Who speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Speaker {
    /// A player.
    User(u64),
    /// A gateway that carries many players and names one in each request.
    Gateway(Arc<GatewayGrant>),
}

/// A proved token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Who speaks.
    pub speaker: Speaker,
    /// First second (UTC) at which the token is no longer good.
    pub expires_s: u64,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: u64,
    iat: u64,
    aud: Option<String>,
    gw: Option<String>,
    #[serde(default)]
    submits_per_second: u32,
    #[serde(default)]
    outstanding_max: u32,
    #[serde(default)]
    connections_max: u32,
}

pub(super) fn read(bytes: &[u8], now_s: u64, audience: Option<&str>) -> Result<Verified, TokenError> {
    let claims: Claims = read_json("claims", bytes)?;
    if now_s >= claims.exp {
        return Err(TokenError::Expired { exp: claims.exp, now: now_s });
    }
    if claims.iat > now_s + ISSUED_AHEAD_MAX_S {
        return Err(TokenError::NotYet { iat: claims.iat, now: now_s });
    }
    if let Some(named) = &claims.aud
        && audience != Some(named)
    {
        return Err(TokenError::Audience(shortened(named)));
    }
    let expires_s = claims.exp;
    Ok(Verified { speaker: speaker(claims)?, expires_s })
}

fn speaker(claims: Claims) -> Result<Speaker, TokenError> {
    let wrong = |what: &str| Err(TokenError::Claims(what.to_owned()));
    match (claims.sub, claims.gw) {
        (Some(_), Some(_)) => wrong("a token has sub (a user) or gw (a gateway), not both"),
        (None, None) => {
            wrong("a token needs sub (a user id as decimal digits in a string) or gw (a gateway's name)")
        }
        (Some(sub), None) => match user_id(&sub) {
            Some(user) => Ok(Speaker::User(user)),
            None => wrong(
                "sub must be a user id: decimal digits without leading zeros, 1 to 18446744073709551615",
            ),
        },
        (None, Some(name)) if name.is_empty() || name.len() > 64 => {
            wrong("gw, the gateway's name, has 1 to 64 characters")
        }
        (None, Some(name)) => Ok(Speaker::Gateway(Arc::new(GatewayGrant {
            name,
            submits_per_second: claims.submits_per_second,
            outstanding_max: claims.outstanding_max,
            connections_max: claims.connections_max,
        }))),
    }
}

/// One spelling for each user: a sign or a leading zero would be a second one.
fn user_id(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

pub(super) fn user(user: u64, issued_s: u64, expires_s: u64, audience: Option<&str>) -> Value {
    let mut claims = json!({ "sub": user.to_string(), "iat": issued_s, "exp": expires_s });
    name_audience(&mut claims, audience);
    claims
}

pub(super) fn gateway(grant: &GatewayGrant, issued_s: u64, expires_s: u64, audience: Option<&str>) -> Value {
    let mut claims = json!({ "gw": grant.name, "iat": issued_s, "exp": expires_s });
    let bounds = [
        ("submits_per_second", grant.submits_per_second),
        ("outstanding_max", grant.outstanding_max),
        ("connections_max", grant.connections_max),
    ];
    for (name, bound) in bounds.into_iter().filter(|(_, bound)| *bound > 0) {
        claims[name] = bound.into();
    }
    name_audience(&mut claims, audience);
    claims
}

fn name_audience(claims: &mut Value, audience: Option<&str>) {
    if let Some(audience) = audience {
        claims["aud"] = audience.into();
    }
}
