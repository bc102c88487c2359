//! The front door on real sockets, with a lottery, flow and delivery that are made for the test.

mod chat;
mod chat_ways;
mod drain;
mod elsewhere;
mod fake_chat;
mod frames;
mod guards;
mod harness;
mod http;
mod http_chat;
mod idle;
mod login;
mod moves;
mod router;
mod shared_rates;
mod tls;
mod websocket;
