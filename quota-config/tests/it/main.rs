//! Tests of campaign files, of the history of plans and of the agent.

mod agent;
mod compliance;
mod desk;
mod desk_finish;
mod desk_laws;
mod errors;
mod exports;
mod plans;
mod platform;
mod regions;
mod repository;
mod schema;
mod speed;
mod succession;
mod support;
mod trail;
mod warnings;
