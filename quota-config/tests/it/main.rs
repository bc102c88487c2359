//! Tests of campaign files, of the history of plans and of the agent.

mod agent;
mod desk;
mod desk_laws;
mod errors;
mod plans;
mod platform;
mod repository;
mod succession;
mod support;
mod trail;
