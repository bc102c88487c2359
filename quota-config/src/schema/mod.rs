//! The JSON Schema of campaign files, so that editors complete and check them while they are written.
//!
//! The parser is written by hand, because only so it can name line, column and cure; the types here mirror what
//! it reads, and tests hold the two together key by key. The schema says what a value looks like; whether sums
//! fit and rounds follow one another only the compiler knows. It is strict in shape and lax in spelling: like the
//! parser it takes a number with quotes or without.

mod mirror;
mod scalars;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;

/// Where the schema is published, relative to the campaign files of the repository.
pub const SCHEMA_FILE: &str = "campaign.schema.json";

/// The JSON Schema (draft 2020-12) of campaign files, indented, with a newline at its end.
pub fn campaign_schema() -> String {
    // A key that may be left out has no value that stands for that; the help says what holds then.
    let no_defaults = RecursiveTransform(|schema: &mut Schema| {
        schema.remove("default");
    });
    let settings = SchemaSettings::draft2020_12().with_transform(no_defaults);
    let schema = settings.into_generator().into_root_schema_for::<mirror::Campaign>();
    let mut text = serde_json::to_string_pretty(schema.as_value())
        .unwrap_or_else(|_| unreachable!("a tree of JSON values is always written"));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::{SCHEMA_FILE, campaign_schema};

    /// After a change: `UPDATE_SCHEMA=1 cargo test -p quota-config schema`.
    #[test]
    fn the_schema_that_is_checked_in_is_what_the_types_make() {
        let path = testkit::package().join(SCHEMA_FILE);
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, campaign_schema()).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == campaign_schema(),
            "quota-config/{SCHEMA_FILE} is old: run UPDATE_SCHEMA=1 cargo test -p quota-config schema"
        );
    }
}
