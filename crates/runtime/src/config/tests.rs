use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

const DEFAULT: &str = "\
# Where things are.
data_dir = \"data\"

[access]
# Address to listen on.
listen = \"127.0.0.1:7000\"
rate_per_s = 100
tls = false

[access.limits]
factor = 1.5

[vendors]
";

#[derive(Debug, PartialEq, Deserialize)]
struct Config {
    data_dir: String,
    access: Access,
    vendors: BTreeMap<u32, Vendor>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Access {
    listen: std::net::SocketAddr,
    rate_per_s: u32,
    tls: bool,
    limits: Limits,
    note: Option<String>,
    roles: Option<Vec<Role>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Limits {
    factor: f64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Vendor {
    url: String,
    pace: Pace,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pace {
    Unbounded,
    PerSecond(u32),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Access,
    Lottery,
}

fn layers() -> Layers {
    Layers::new("default.toml", DEFAULT).unwrap()
}

fn env(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned()), ("PATH".to_owned(), "/bin".to_owned())]
}

fn message(layers: Layers) -> String {
    layers.build::<Config>().unwrap_err().to_string()
}

#[test]
fn later_layers_win_key_by_key() {
    let config: Config = layers()
        .text("my.toml", "[access]\nrate_per_s = 200\ntls = true\n[vendors.7]\nurl = 'http://x'\npace = {per_second = 5}\n")
        .unwrap()
        .env("HONGBAO", env("HONGBAO__ACCESS__RATE_PER_S", "300"))
        .unwrap()
        .set("access.limits.factor=2")
        .unwrap()
        .set("access.roles=[\"access\", \"lottery\"]")
        .unwrap()
        .set("access.note=007")
        .unwrap()
        .set("vendors.8={url='http://y', pace='unbounded'}")
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(config.data_dir, "data");
    assert_eq!(config.access.rate_per_s, 300);
    assert!(config.access.tls);
    assert_eq!(config.access.limits.factor, 2.0);
    assert_eq!(config.access.roles, Some(vec![Role::Access, Role::Lottery]));
    // Text stays text where a string is wanted.
    assert_eq!(config.access.note.as_deref(), Some("007"));
    assert_eq!(config.vendors[&7].pace, Pace::PerSecond(5));
    assert_eq!(config.vendors[&8].pace, Pace::Unbounded);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    let error = message(layers().text("my.toml", "[access]\n\n  rate_pers = 5\n").unwrap());
    assert_eq!(error, "my.toml:3:3: access.rate_pers: unknown key; did you mean rate_per_s?");
    let error = message(layers().text("my.toml", "[acess]\ntls = true").unwrap());
    assert_eq!(error, "my.toml:1:2: acess: unknown key; did you mean access?");
    let error = message(layers().text("my.toml", "qqqqqqqqqqqq = 1").unwrap());
    assert_eq!(error, "my.toml:1:1: qqqqqqqqqqqq: unknown key; known here are data_dir, access, vendors");
}

#[test]
fn environment_and_command_line_are_named_as_sources() {
    let error = message(layers().env("HONGBAO", env("HONGBAO__ACCESS__LISTN", "x")).unwrap());
    assert_eq!(
        error,
        "environment variable HONGBAO__ACCESS__LISTN: access.listn: unknown key; did you mean listen?"
    );
    let error = message(layers().set("access.rate_per_s=many").unwrap());
    assert!(error.starts_with("--set access.rate_per_s=many: access.rate_per_s: "), "{error}");
    assert!(error.contains("u32"), "{error}");
    assert!(layers().set("access").unwrap_err().to_string().contains("no '='"));
    assert!(layers().set("access..tls=true").unwrap_err().to_string().contains("names no key"));
    assert!(layers().env("HONGBAO", env("HONGBAO__", "1")).unwrap_err().to_string().contains("names no key"));
}

#[test]
fn a_wrong_type_is_named_with_line_and_column() {
    let error = message(layers().text("my.toml", "[access]\ntls = \"yes\"\n").unwrap());
    assert_eq!(error, "my.toml:2:7: access.tls: invalid type: string \"yes\", expected a boolean");
    let error = message(layers().text("my.toml", "[access]\nrate_per_s = -1").unwrap());
    assert_eq!(error, "my.toml:2:14: access.rate_per_s: invalid value: integer `-1`, expected u32");
    let error = message(layers().text("my.toml", "access.listen = 'here'").unwrap());
    assert_eq!(error, "my.toml:1:17: access.listen: invalid socket address syntax");
    let error = message(layers().text("my.toml", "[access]\nroles = [\n  'access',\n  'bank' ]").unwrap());
    assert_eq!(error, "my.toml:4:3: access.roles.1: \"bank\" is not one of access, lottery");
}

#[test]
fn keys_of_maps_are_checked_too() {
    let error = message(layers().text("my.toml", "[vendors.seven]\nurl = 'x'\npace = 'unbounded'").unwrap());
    assert!(error.starts_with("my.toml:1:10: vendors.seven: "), "{error}");
    let error = message(layers().text("my.toml", "[vendors.7]\nurl = 'x'").unwrap());
    assert_eq!(error, "my.toml:1:10: vendors.7: key pace is missing");
}

#[test]
fn text_that_is_not_toml_is_placed() {
    let error = Layers::new("my.toml", "a = 1\nb = = 2\n").unwrap_err().to_string();
    assert!(error.starts_with("my.toml:2:"), "{error}");
    let error = layers().file(Path::new("no/such/file.toml")).unwrap_err().to_string();
    assert!(error.starts_with("no/such/file.toml: can't be read"), "{error}");
}

#[test]
fn own_checks_can_point_at_the_value() {
    let layers = layers().text("my.toml", "[access]\nrate_per_s = 0\n").unwrap();
    let error = layers.wrong("access.rate_per_s", "must be at least 1").to_string();
    assert_eq!(error, "my.toml:2:14: access.rate_per_s: must be at least 1");
}

#[derive(Debug, PartialEq, Deserialize)]
struct Shared {
    desk: OneTable<Place, Pens>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Place {
    floor: u32,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pens {
    red: u32,
    blue: u32,
}

#[test]
fn two_types_share_a_table_and_every_mistake_has_its_place() {
    let shared = |set: &str| {
        let layers = Layers::new("desk.toml", "[desk]\nblue = 2\nfloor = 1\n").unwrap();
        layers.set(set).unwrap().build::<Shared>()
    };
    let desk = OneTable(Place { floor: 3 }, Pens { red: 0, blue: 2 });
    assert_eq!(shared("desk.floor=3").unwrap(), Shared { desk });
    let wrong = |set: &str| shared(set).unwrap_err().to_string();
    assert_eq!(
        wrong("desk.red=two"),
        "--set desk.red=two: desk.red: invalid type: string \"two\", expected u32"
    );
    assert_eq!(wrong("desk.flor=2"), "--set desk.flor=2: desk.flor: unknown key; did you mean floor?");
    let missing = Layers::new("desk.toml", "[desk]\nblue = true\n").unwrap().build::<Shared>();
    assert_eq!(missing.unwrap_err().to_string(), "desk.toml:1:2: desk: key floor is missing");
    let second = Layers::new("desk.toml", "[desk]\nfloor = 1\nblue = true\n").unwrap().build::<Shared>();
    let place = "desk.toml:3:8: desk.blue: invalid type: boolean `true`, expected u32";
    assert_eq!(second.unwrap_err().to_string(), place);
}
