//! Single values as the schema sees them. A pattern looks at text only and a bound at numbers only, so that one
//! schema says both what `9000` and what `"9000"` must be.

use crate::bounds::{NAME_CHARS_MAX, SPEED_MAX, UNITS_MAX};
use schemars::{Schema, SchemaGenerator, json_schema};

const DIGITS: &str = "^[0-9]+$";
const DURATION: &str = "^([0-9]+(d|h|m|s|ms))+$";

fn whole(min: u64, max: u64) -> Schema {
    json_schema!({"type": ["integer", "string"], "pattern": DIGITS, "minimum": min, "maximum": max})
}

pub(super) fn id(_: &mut SchemaGenerator) -> Schema {
    whole(1, u64::from(u32::MAX))
}

pub(super) fn weight(_: &mut SchemaGenerator) -> Schema {
    whole(0, u64::from(u32::MAX))
}

pub(super) fn districts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["integer", "string"],
        "pattern": "^ *[0-9]+( *- *[0-9]+)? *$",
        "minimum": 1,
        "maximum": u32::MAX,
        "examples": [110_101, "310000-319999"]
    })
}

pub(super) fn units(_: &mut SchemaGenerator) -> Schema {
    whole(1, UNITS_MAX)
}

pub(super) fn speed(_: &mut SchemaGenerator) -> Schema {
    whole(1, SPEED_MAX)
}

pub(super) fn wins(_: &mut SchemaGenerator) -> Schema {
    whole(1, u64::from(u16::MAX))
}

pub(super) fn shakes(_: &mut SchemaGenerator) -> Schema {
    whole(1, 100)
}

pub(super) fn groups(_: &mut SchemaGenerator) -> Schema {
    whole(1, 10_000)
}

/// `2026` is a good name, and YAML takes it for a number.
pub(super) fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "number", "boolean"],
        "minLength": 1,
        "maxLength": NAME_CHARS_MAX,
        "pattern": "\\S"
    })
}

pub(super) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "number", "boolean"]})
}

pub(super) fn yuan(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["number", "string"], "pattern": "^[0-9]+(\\.[0-9]{1,2})?$", "minimum": 0.01})
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": DURATION})
}

pub(super) fn participation(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string", "const": "whole_round"},
        {"type": "string", "pattern": DURATION}
    ]})
}

pub(super) fn percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9]+ *%$"})
}

pub(super) fn share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,7})? *%$"})
}

pub(super) fn zone(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "examples": ["Asia/Shanghai"]})
}

const LOCAL: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}(:.+)?$";

pub(super) fn start(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string", "const": "now"},
        {"type": "string", "pattern": LOCAL}
    ]})
}

pub(super) fn moment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string", "pattern": "^\\+([0-9]+(d|h|m|s|ms))+$"},
        {"type": "string", "pattern": LOCAL}
    ]})
}

pub(super) fn date(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"})
}

pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}(:[0-9]{2})?$"})
}

pub(super) fn point_at(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string", "const": "end"},
        {"type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,7})? *%$"},
        {"type": "string", "pattern": DURATION}
    ]})
}
