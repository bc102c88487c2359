//! Reading a campaign file: YAML text to a tree with places, tree to checked values.

mod plain;
pub(crate) mod reader;
pub(crate) mod spec;
pub(crate) mod spec_prize;
pub(crate) mod spec_region;
pub(crate) mod spec_round;
pub(crate) mod value;
pub(crate) mod yaml;
