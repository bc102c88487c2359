//! The admin API over real HTTP on the loopback, on the memory repository and on SQL.

mod changes;
mod document;
mod exports;
mod fuzz;
mod looks;
mod once;
mod refusals;
mod rehearsals;
mod serve_for_fuzzing;
mod support;
