//! The beginning of a connection: Hello, then Login.

use std::net::IpAddr;

use prost::Message;
use protocol::PROTOCOL_VERSION;
use protocol::error::Code;
use protocol::frame::{FRAME_MAX, Frame, FrameKind, put_message};
use protocol::v1;

use super::active::{Gate, rate};
use super::{Cut, Phase, Served, Session, invalid, unreadable};
use crate::counters::Count;
use crate::desk::{Desk, LoggedIn};
use crate::gates::{Limited, Pass};
use crate::gateways;
use crate::limits::{CLIENT_FRAME_MIN, REQUEST_FRAME_MAX};
use crate::requests::too_many_logins;
use crate::token::Speaker;

impl Session {
    pub(super) fn hello(&mut self, desk: &mut Desk, frame: &Frame<'_>) -> Served {
        let hello = v1::Hello::decode(frame.body).map_err(|error| unreadable("Hello", &error))?;
        if hello.protocol_version != PROTOCOL_VERSION {
            let theirs = hello.protocol_version;
            return Err(invalid(&format!(
                "protocol version {theirs} is not spoken here; {PROTOCOL_VERSION} is"
            )));
        }
        let named = hello.frame_max as usize;
        if named != 0 && named < CLIENT_FRAME_MIN {
            return Err(invalid(&format!(
                "frame_max is {named}; answers need at least {CLIENT_FRAME_MIN}, or 0 for {FRAME_MAX}"
            )));
        }
        self.frame_max = if named == 0 { FRAME_MAX } else { named.min(FRAME_MAX) } as u32;
        let welcome = v1::Welcome {
            protocol_version: PROTOCOL_VERSION,
            frame_max: REQUEST_FRAME_MAX as u32,
            server_time_ms: desk.now_ms,
            heartbeat_ms: desk.shared.limits.heartbeat_ms,
        };
        put_message(&mut desk.out, FrameKind::Welcome, frame.id, &welcome);
        self.phase = Phase::Login;
        Ok(())
    }

    pub(super) fn login(&mut self, desk: &mut Desk, peer: IpAddr, frame: &Frame<'_>) -> Served {
        let login = v1::Login::decode(frame.body).map_err(|error| unreadable("Login", &error))?;
        if desk.shared.is_exempt(peer) {
            return self.admit(desk, frame.id, &login);
        }
        match desk.shared.rates.pass(Limited::Login, peer) {
            Pass::Yes => self.admit(desk, frame.id, &login),
            Pass::Wait(wait_ms) => {
                desk.counters().add(Count::AddressRate, 1);
                Err((too_many_logins(wait_ms), Cut(Count::Closed)))
            }
            Pass::Ask(word) => {
                desk.admission = Some((frame.id, Box::new(login), word));
                self.phase = Phase::Asking;
                Ok(())
            }
        }
    }

    /// A login within its address's rate.
    pub(super) fn admit(&mut self, desk: &mut Desk, id: u32, login: &v1::Login) -> Served {
        let refuse = |desk: &Desk, code: Code, text: String| {
            desk.counters().add(Count::LoginsBad, 1);
            Err((code.message(text), Cut(Count::Closed)))
        };
        let (token, gateway) = match (login.user_token.is_empty(), login.gateway_token.is_empty()) {
            (false, true) => (&login.user_token, false),
            (true, false) => (&login.gateway_token, true),
            _ => return Err(invalid("Login needs exactly one of user_token and gateway_token")),
        };
        let verified = match desk.verify(token) {
            Ok(verified) => verified,
            Err(error) => return refuse(desk, error.code(), error.to_string()),
        };
        let limits = &desk.shared.limits;
        let outstanding_max = match (&verified.speaker, gateway) {
            (Speaker::User(user), false) => {
                self.user = *user;
                limits.user_outstanding_max
            }
            (Speaker::Gateway(grant), true) => {
                let bounds = gateways::bounds(grant, limits);
                let Some(seat) = desk.shared.gateways.seat(&grant.name, bounds.connections_max) else {
                    let text = format!(
                        "gateway {} has {} connections here, as many as it may",
                        grant.name, bounds.connections_max
                    );
                    return refuse(desk, Code::Busy, text);
                };
                let (rate, outstanding_max) = (bounds.submits_per_second, bounds.outstanding_max);
                self.gate = Some(Box::new(Gate { _seat: seat, rate, outstanding_max }));
                outstanding_max
            }
            (Speaker::User(_), true) => {
                return refuse(
                    desk,
                    Code::Unauthenticated,
                    "gateway_token holds a user's token; use user_token".into(),
                );
            }
            (Speaker::Gateway(_), false) => {
                return refuse(
                    desk,
                    Code::Unauthenticated,
                    "user_token holds a gateway's credential; use gateway_token".into(),
                );
            }
        };
        self.phase = Phase::Open;
        let chats = self.begin_chat(desk, login.device);
        desk.logged_in = Some(LoggedIn { chats, expires_s: verified.expires_s });
        desk.counters().add(Count::Logins, 1);
        let mut done = v1::LoginDone {
            user: self.user,
            campaigns: desk.campaigns.views(self.user, desk.now_ms),
            submits_per_second: rate(self.gate.as_deref(), desk),
            outstanding_max,
            chat: chats.is_some(),
            chat_retry_after_ms: match &desk.shared.desks.chat {
                Some(served) if chats.is_some() => served.out_of_reach_ms(self.user),
                _ => 0,
            },
        };
        if done.encoded_len() > self.body_max() {
            // The client asks for them when it can take a larger frame.
            done.campaigns.clear();
        }
        put_message(&mut desk.out, FrameKind::LoginDone, id, &done);
        Ok(())
    }
}
