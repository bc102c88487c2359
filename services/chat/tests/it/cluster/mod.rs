//! The ports of a cluster: each with its suite, which every adapter passes, and sequences that compare adapters.

mod books;
mod books_walk;
mod cut;
mod make;
mod owned;
mod owned_walk;
mod owners;
mod owners_walk;
