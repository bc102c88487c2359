//! Tests of campaign files, of the history of plans and of the agent.

mod agent;
mod errors;
mod plans;
mod repository;
mod succession;
mod support;
