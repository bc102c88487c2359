//! Tests of campaign files, of the history of plans and of the agent.

mod agent;
mod compliance;
mod errors;
mod exports;
mod plans;
mod repository;
mod schema;
mod speed;
mod succession;
mod support;
mod warnings;
