//! The front door on real sockets, with a lottery, flow and delivery that are made for the test.

mod chat;
mod drain;
mod fake_chat;
mod frames;
mod guards;
mod harness;
mod http;
mod login;
mod router;
mod shared_rates;
