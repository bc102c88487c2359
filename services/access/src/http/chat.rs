//! Chat over HTTP: what needs no long connection.
//!
//! The body of a request is the message that the path stands for, the answer is the message that belongs to it. The
//! device is named in the header `Hongbao-Device`, a gateway's user by `?user=`; a message to be sent has both in it.

use std::time::Duration;

use http::{HeaderMap, Request as HttpRequest, Response, StatusCode};
use hyper::body::Incoming;
use protocol::calls::{ConnectionAt, SendCall, SendReply};
use protocol::error::Code;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{self, SendOutcome};

use super::body::{Body, Form, read_all};
use super::routes;
use super::service::{Answered, HttpService};
use crate::counters::Count;
use crate::requests::{NO_CHAT, Request, user_of};
use crate::session::check_send;

/// What all of its paths begin with.
pub(super) const PREFIX: &str = "/v1/chat/";

/// Names the device.
const DEVICE: &str = "hongbao-device";

impl HttpService {
    pub(super) async fn chat(self, request: HttpRequest<Incoming>, wanted: Form) -> Answered {
        if request.uri().path() == routes::SEND {
            return self.send(request, wanted).await;
        }
        let Some(route) = routes::of(request.uri().path()) else {
            return self.elsewhere(request, wanted).await;
        };
        let sender = self.sender(&request)?;
        self.pass(&sender)?;
        let named = named_user(request.uri().query().unwrap_or_default())?;
        let user = user_of(sender.own, named)?;
        let device = device(request.headers())?;
        let form = Form::sent(request.headers())?;
        let bytes = read_all(request.into_body()).await?;
        let mut ask = (route.read)(form, &bytes)?;
        if let Ask::Presence(presence) = &mut ask {
            // There is no connection that it could be told on.
            presence.watch = false;
        }
        self.worker.count(Count::Asks, 1);
        let ask = Box::new(v1::ChatRequest { user, device, ask: Some(ask) });
        let from = self.nowhere();
        self.serve(Request::Chat { from, ask, named: 0 }, wanted).await
    }

    async fn send(self, request: HttpRequest<Incoming>, wanted: Form) -> Answered {
        let sender = self.sender(&request)?;
        self.pass(&sender)?;
        let named_device = device(request.headers())?;
        let form = Form::sent(request.headers())?;
        let bytes = read_all(request.into_body()).await?;
        let mut send: v1::Send = form.read(&bytes)?;
        send.user = user_of(sender.own, send.user)?;
        if send.device == 0 {
            send.device = named_device;
        }
        if send.device == 0 {
            let text = "device is missing: name the device that sends, 1 or above, in the message or in Hongbao-Device";
            return Err(Code::Invalid.message(text));
        }
        check_send(&send)?;
        let named = if sender.own.is_none() { send.user } else { 0 };
        let mut answer = self.store(send).await?;
        answer.user = named;
        Ok(wanted.response(StatusCode::OK, &answer))
    }

    /// Has a message stored, or says 'pending' when that takes too long.
    async fn store(&self, send: v1::Send) -> Result<v1::SendAnswer, v1::Error> {
        let shared = &self.worker.shared;
        let Some(chat) = &shared.desks.chat else { return Err(Code::Refused.message(NO_CHAT)) };
        self.worker.count(Count::Sends, 1);
        let (conversation, counter) = (send.conversation, send.counter);
        // A late reply to an older request, for which nobody waits any more, is told apart by its tag.
        let tag = self.worker.state.lock().desk.chat.next_tag();
        let mut calls = vec![SendCall { tag, send, from: self.nowhere() }];
        let mut replies = Vec::new();
        chat.send(&mut calls, &self.sends, &mut replies);
        let ours = |reply: &SendReply| reply.tag == tag;
        if let Some(reply) = replies.drain(..).find(ours) {
            return Ok(reply.answer);
        }
        let wait = async {
            loop {
                self.sends.hear(&mut replies).await;
                if let Some(reply) = replies.drain(..).find(ours) {
                    return reply.answer;
                }
            }
        };
        let within = Duration::from_millis(shared.limits.late_ms.into());
        let pending = v1::SendAnswer {
            outcome: SendOutcome::Pending.into(),
            conversation,
            counter,
            retry_after_ms: 1_000,
            ..v1::SendAnswer::default()
        };
        Ok(tokio::time::timeout(within, wait).await.unwrap_or(pending))
    }

    /// What stands for a connection where there is none that could be pushed to.
    fn nowhere(&self) -> ConnectionAt {
        ConnectionAt { access: self.worker.shared.node, connection: 0 }
    }
}

/// The message within the answer.
pub(super) fn response(answer: v1::ChatAnswer, wanted: Form) -> Response<Body> {
    let ok = StatusCode::OK;
    match answer.answer {
        Some(Answer::Sync(message)) => wanted.response(ok, &message),
        Some(Answer::Range(message)) => wanted.response(ok, &message),
        Some(Answer::Conversations(message)) => wanted.response(ok, &message),
        Some(Answer::ReadAt(message)) => wanted.response(ok, &message),
        Some(Answer::Done(message)) => wanted.response(ok, &message),
        Some(Answer::Members(message)) => wanted.response(ok, &message),
        Some(Answer::Friends(message)) => wanted.response(ok, &message),
        Some(Answer::Presence(message)) => wanted.response(ok, &message),
        Some(Answer::Profiles(message)) => wanted.response(ok, &message),
        Some(Answer::Devices(message)) => wanted.response(ok, &message),
        None => wanted.error(&Code::Unavailable.message("chat gave no answer; ask the same again")),
    }
}

/// The device that a request names; 0: none.
fn device(headers: &HeaderMap) -> Result<u64, v1::Error> {
    let Some(value) = headers.get(DEVICE) else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Code::Invalid.message("the header Hongbao-Device must be the device's number"))
}

/// The user that a gateway names; 0: none.
fn named_user(query: &str) -> Result<u64, v1::Error> {
    let mut user = 0;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let number = pair.strip_prefix("user=").and_then(|value| value.parse().ok());
        let shown: String = pair.chars().take(40).collect();
        user = number.ok_or_else(|| {
            Code::Invalid.message(format!("query {shown:?} is unknown; there is, for gateways, user=ID"))
        })?;
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::{device, named_user};
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn who_asks_is_named_and_mistakes_too() {
        assert_eq!((named_user("user=7"), named_user("")), (Ok(7), Ok(0)));
        assert!(named_user("device=7").unwrap_err().message.contains("user=ID"));
        let mut headers = HeaderMap::new();
        assert_eq!(device(&headers), Ok(0));
        headers.insert(super::DEVICE, HeaderValue::from_static("12"));
        assert_eq!(device(&headers), Ok(12));
        headers.insert(super::DEVICE, HeaderValue::from_static("phone"));
        assert!(device(&headers).unwrap_err().message.contains("Hongbao-Device"));
    }
}
