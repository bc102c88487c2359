//! The routes of the front door.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_VERSION};
use http::{Method, Request as HttpRequest, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use protocol::calls::{Inbox, SendReply, SubmitReply};
use protocol::error::Code;
use protocol::v1::{self, Outcome};

use super::body::{ANSWER_BYTES, Body, Form, allow, read_all, text};
use super::{chat, fast, openapi, routes};
use crate::counters::Count;
use crate::desk::{Entered, tag_id};
use crate::gates::{Limited, Pass};
use crate::gateways;
use crate::requests::{Answer, Request, user_of};
use crate::token::{GatewayGrant, Speaker};
use crate::websocket::handshake::{self, Refused};
use crate::wire;
use crate::worker::Worker;

/// One connection's requests, one after the other.
#[derive(Clone)]
pub(super) struct HttpService {
    pub(super) worker: Arc<Worker>,
    inbox: Arc<Inbox>,
    /// Late answers to messages for chat.
    pub(super) sends: Arc<Inbox<SendReply>>,
    peer: IpAddr,
    place: u32,
    /// Set when the connection becomes a WebSocket.
    upgraded: Arc<AtomicBool>,
}

/// Who sent a request.
pub(super) struct Sender {
    /// The user of the token; `None` for a gateway.
    pub own: Option<u64>,
    gateway: Option<Arc<GatewayGrant>>,
}

pub(super) type Answered = Result<Response<Body>, v1::Error>;

impl Service<HttpRequest<Incoming>> for HttpService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: HttpRequest<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl HttpService {
    pub fn new(worker: Arc<Worker>, peer: IpAddr, place: u32, upgraded: Arc<AtomicBool>) -> Self {
        Self { worker, inbox: Arc::default(), sends: Arc::default(), peer, place, upgraded }
    }

    async fn answer(self, request: HttpRequest<Incoming>) -> Response<Body> {
        self.worker.count(Count::HttpRequests, 1);
        let sent = Form::sent(request.headers()).unwrap_or(Form::Json);
        let wanted = Form::wanted(request.headers(), sent);
        match self.route(request, wanted).await {
            Ok(response) => response,
            Err(error) => wanted.error(&error),
        }
    }

    async fn route(self, request: HttpRequest<Incoming>, wanted: Form) -> Answered {
        self.begin().await?;
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::POST, "/v1/submit") => self.submit(request, wanted).await,
            (&Method::POST, "/v1/claim") => {
                self.slow(request, wanted, |own, message| Request::claim(own, &message)).await
            }
            (&Method::POST, "/v1/account") => self.slow(request, wanted, Request::account).await,
            (&Method::GET, "/v1/prizes") => self.prizes(&request, wanted).await,
            (&Method::GET, "/v1/campaigns") => self.campaigns(&request, wanted),
            (&Method::GET, "/healthz") => Ok(self.health()),
            (&Method::GET, "/metrics") => {
                let metrics = crate::status::render(&self.worker.shared);
                Ok(text(StatusCode::OK, metrics, "text/plain; version=0.0.4"))
            }
            (&Method::GET, handshake::PATH) => Ok(self.upgrade(&request, wanted)),
            (&Method::GET, "/v1/scheduler") => self.scheduler(&request),
            (&Method::GET, "/v1/openapi.json") => Ok(openapi::response()),
            (&Method::POST, path) if path.starts_with(chat::PREFIX) => self.chat(request, wanted).await,
            _ => self.elsewhere(request, wanted).await,
        }
    }

    /// Answers a request for a WebSocket. What is said here is all that HTTP says on this connection.
    fn upgrade(&self, request: &HttpRequest<Incoming>, wanted: Form) -> Response<Body> {
        let origins = &self.worker.shared.origins;
        match handshake::accept(request.version(), request.headers(), origins) {
            Ok(headers) if !self.worker.is_leaving() => {
                self.upgraded.store(true, Ordering::Relaxed);
                let mut response = text(StatusCode::SWITCHING_PROTOCOLS, String::new(), "text/plain");
                *response.headers_mut() = headers.into_iter().collect();
                response
            }
            Ok(_) => wanted.error(&wait("this node shuts down; connect again", Code::Unavailable, 1_000)),
            Err(Refused::Bad(error)) => wanted.error(&error),
            Err(Refused::Version(error)) => {
                let mut response = wanted.error(&error);
                *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
                let version = HeaderValue::from_static(handshake::VERSION);
                response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
                response
            }
        }
    }

    /// The connection is alive, and its address within its rate.
    async fn begin(&self) -> Result<(), v1::Error> {
        let shared = &self.worker.shared;
        {
            let mut state = self.worker.state.lock();
            state.desk.begin();
            let deadline_ms = state.desk.mono_ms + u64::from(shared.limits.silence_ms);
            state.slots.heard(self.place, deadline_ms);
        }
        if shared.is_exempt(self.peer) {
            return Ok(());
        }
        let word = match shared.rates.pass(Limited::Http, self.peer) {
            Pass::Yes => return Ok(()),
            Pass::Wait(wait_ms) => Err(wait_ms),
            Pass::Ask(word) => word.await,
        };
        word.map_err(|wait_ms| {
            self.worker.count(Count::AddressRate, 1);
            wait("too many requests from this address", Code::RateLimited, wait_ms)
        })
    }

    async fn submit(self, request: HttpRequest<Incoming>, wanted: Form) -> Answered {
        let sender = self.sender(&request)?;
        let form = Form::sent(request.headers())?;
        let bytes = read_all(request.into_body()).await?;
        let message: v1::Submit = match form {
            Form::Json => match fast::read_submit(&bytes) {
                Some(message) => message,
                None => form.read(&bytes)?,
            },
            Form::Protobuf => match wire::read_submit(&bytes) {
                Ok(message) => message,
                Err(_) => form.read(&bytes)?,
            },
        };
        let user = user_of(sender.own, message.user)?;
        self.pass(&sender)?;
        let reply = match self.decide(user, &message)? {
            Some(reply) => reply,
            None => self.late(user, &message).await,
        };
        let named = if sender.own.is_none() { user } else { 0 };
        let mut body = Vec::with_capacity(ANSWER_BYTES);
        if wanted == Form::Json && fast::write_answer(&reply, named, &mut body) {
            return Ok(wanted.response_of(StatusCode::OK, body));
        }
        Ok(wanted.response(StatusCode::OK, &wire::answer(reply, named)))
    }

    /// A gateway's rate over HTTP; users are limited by their addresses.
    pub(super) fn pass(&self, sender: &Sender) -> Result<(), v1::Error> {
        sender.gateway.as_ref().map_or(Ok(()), |grant| self.pass_gateway(grant))
    }

    fn pass_gateway(&self, grant: &GatewayGrant) -> Result<(), v1::Error> {
        let shared = &self.worker.shared;
        let rate = gateways::bounds(grant, &shared.limits).submits_per_second;
        shared.gateways.pass_http(&grant.name, rate, shared.mono_ms()).map_err(|wait_ms| {
            self.worker.count(Count::OverRate, 1);
            wait("more requests a second than this gateway may send", Code::RateLimited, wait_ms)
        })
    }

    /// What can be said at once.
    fn decide(&self, user: u64, message: &v1::Submit) -> Result<Option<SubmitReply>, v1::Error> {
        let mut state = self.worker.state.lock();
        // A body that came in pieces may have taken time.
        state.desk.begin();
        match state.desk.enter(mark_of(message), user, message) {
            Entered::Queued => {}
            Entered::Answered(reply) => return Ok(Some(reply)),
            Entered::Refused(error) => return Err(error),
        }
        let mut said = None;
        state.desk.decide(&self.inbox, |_, reply| said = Some(reply));
        Ok(said)
    }

    /// Waits for the reply that comes later; told 'pending' when that takes too long, and asked again the client gets
    /// what came of it.
    async fn late(&self, user: u64, message: &v1::Submit) -> SubmitReply {
        let within = Duration::from_millis(self.worker.shared.limits.late_ms.into());
        let mut replies = Vec::new();
        let wait = async {
            loop {
                self.inbox.hear(&mut replies).await;
                // An older request's reply may have been left behind by a client that did not wait.
                let ours = |reply: &SubmitReply| {
                    tag_id(reply.tag) == mark_of(message)
                        && reply.user == user
                        && reply.counter == message.counter
                };
                let found = replies.drain(..).find(ours);
                if let Some(reply) = found {
                    return reply;
                }
            }
        };
        match tokio::time::timeout(within, wait).await {
            Ok(mut reply) => {
                self.worker.state.lock().desk.late(&mut reply);
                reply
            }
            Err(_) => SubmitReply {
                tag: 0,
                user,
                counter: message.counter,
                next_counter: message.counter,
                outcome: Outcome::Pending,
                next_submit_ms: 1_000,
                until_ms: 0,
                award: None,
            },
        }
    }

    async fn slow<M>(
        self,
        request: HttpRequest<Incoming>,
        wanted: Form,
        make: impl FnOnce(Option<u64>, M) -> Result<Request, v1::Error> + Send,
    ) -> Answered
    where
        M: prost::Message + Default + serde::de::DeserializeOwned + Send,
    {
        let sender = self.sender(&request)?;
        let form = Form::sent(request.headers())?;
        let bytes = read_all(request.into_body()).await?;
        let request = make(sender.own, form.read(&bytes)?)?;
        self.serve(request, wanted).await
    }

    async fn prizes(self, request: &HttpRequest<Incoming>, wanted: Form) -> Answered {
        let sender = self.sender(request)?;
        let message = prizes_query(request.uri().query().unwrap_or_default())?;
        self.serve(Request::prizes(sender.own, &message)?, wanted).await
    }

    pub(super) async fn serve(&self, request: Request, wanted: Form) -> Answered {
        let shared = &self.worker.shared;
        let answer = request.serve(shared.desks.clone(), shared.limits.call_ms).await?;
        Ok(match answer {
            // Only frame connections log in.
            Answer::Admitted(_) => wanted.error(&Code::Invalid.message("a login is no HTTP request")),
            Answer::Prizes(answer) => wanted.response(StatusCode::OK, &answer),
            Answer::Claim(answer) => wanted.response(StatusCode::OK, &answer),
            Answer::Account(answer) => wanted.response(StatusCode::OK, &answer),
            Answer::Chat(answer) => chat::response(*answer, wanted),
        })
    }

    fn campaigns(&self, request: &HttpRequest<Incoming>, wanted: Form) -> Answered {
        let sender = self.sender(request)?;
        let state = self.worker.state.lock();
        let desk = &state.desk;
        let campaigns = desk.campaigns.views(sender.own.unwrap_or(0), desk.now_ms);
        let answer = v1::CampaignsAnswer { campaigns, server_time_ms: desk.now_ms };
        Ok(wanted.response(StatusCode::OK, &answer))
    }

    fn health(&self) -> Response<Body> {
        if self.worker.is_leaving() {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned(), "text/plain")
        } else {
            text(StatusCode::OK, "ok\n".to_owned(), "text/plain")
        }
    }

    pub(super) async fn elsewhere(self, request: HttpRequest<Incoming>, wanted: Form) -> Answered {
        let path = request.uri().path();
        if let Some(extra) = &self.worker.shared.extra
            && extra.wants(request.method(), path)
        {
            return Ok(extra.handle(request, self.peer).await);
        }
        let methods = routes::methods(path);
        let shown: String = path.chars().take(80).collect();
        let Some(methods) = methods else {
            let text = format!("there is no {} {shown}; there are {}", request.method(), routes::ALL);
            return Err(Code::NoRoute.message(text));
        };
        let text = format!("{shown} takes {methods}, not {}", request.method());
        let mut response = wanted.error(&Code::NoRoute.message(text));
        allow(&mut response, methods);
        Ok(response)
    }

    pub(super) fn sender(&self, request: &HttpRequest<Incoming>) -> Result<Sender, v1::Error> {
        let missing = || {
            Code::Unauthenticated
                .message("send the header 'Authorization: Bearer TOKEN' with a user's or gateway's token")
        };
        let header = request.headers().get(AUTHORIZATION).ok_or_else(missing)?;
        let text = header.to_str().map_err(|_| missing())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(missing());
        }
        let verified = self.worker.state.lock().desk.verify(token.trim()).map_err(|error| {
            self.worker.count(Count::LoginsBad, 1);
            error.code().message(error.to_string())
        })?;
        Ok(match verified.speaker {
            Speaker::User(user) => Sender { own: Some(user), gateway: None },
            Speaker::Gateway(grant) => Sender { own: None, gateway: Some(grant) },
        })
    }
}

/// What a late reply is recognised by, besides user and counter.
fn mark_of(message: &v1::Submit) -> u32 {
    message.campaign.rotate_left(16) ^ message.round
}

pub(super) fn wait(text: &str, code: Code, wait_ms: u32) -> v1::Error {
    let mut error = code.message(text);
    error.retry_after_ms = wait_ms;
    error
}

fn prizes_query(query: &str) -> Result<v1::PrizesRequest, v1::Error> {
    let mut message = v1::PrizesRequest::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let shown: String = value.chars().take(40).collect();
        let number = |must| Code::Invalid.message(format!("{name} is {shown:?}; it must be {must}"));
        match name {
            "after" => message.after = value.to_owned(),
            "limit" => message.limit = value.parse().map_err(|_| number("a number from 1 to 200"))?,
            "user" => message.user = value.parse().map_err(|_| number("a user id"))?,
            _ => {
                let name: String = name.chars().take(40).collect();
                let text = format!(
                    "query parameter {name:?} is unknown; there are after, limit and, for gateways, user"
                );
                return Err(Code::Invalid.message(text));
            }
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::prizes_query;

    #[test]
    fn queries_are_read_and_mistakes_named() {
        let message = prizes_query("after=ABC&limit=7&user=9").unwrap();
        assert_eq!((message.after.as_str(), message.limit, message.user), ("ABC", 7, 9));
        assert!(prizes_query("").is_ok());
        assert!(prizes_query("limit=x").unwrap_err().message.contains("1 to 200"));
        assert!(prizes_query("size=1").unwrap_err().message.contains("after, limit"));
    }
}
