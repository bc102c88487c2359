//! Who uses whom, held against the table.

use std::collections::BTreeSet;

use crate::Findings;
use crate::metadata::{DependencyKind, Package, Workspace};
use crate::rules::{CLOSED, Rule, TESTKIT, WITH_TESTKIT, WITHOUT_TOKIO, rule_of};

/// Every arrow of the workspace that the table forbids.
pub fn check(workspace: &Workspace) -> Findings {
    let mut errors = BTreeSet::new();
    let mut arrows = 0;
    for (id, package) in workspace.ours() {
        let folder = package.folder.as_deref().unwrap_or_default();
        let Some(rule) = rule_of(&package.name, folder) else {
            errors.insert(format!("{} ({folder}) has no row in the table; give it one", package.name));
            continue;
        };
        for (to, kind) in &package.uses {
            let Some(used) = workspace.packages.get(to).filter(|used| used.folder.is_some()) else {
                continue;
            };
            arrows += 1;
            errors.extend(forbidden(package, rule, used, *kind));
        }
        errors.extend(forbidden_inside(workspace, id, package, rule));
    }
    let summary = format!("{} crates, {arrows} arrows, all allowed", workspace.ours().count());
    Findings { errors: errors.into_iter().collect(), warnings: Vec::new(), summary }
}

/// One arrow between two of our crates.
fn forbidden(from: &Package, rule: Rule, to: &Package, kind: DependencyKind) -> Option<String> {
    if to.name == TESTKIT {
        let allowed = kind == DependencyKind::Dev || WITH_TESTKIT.contains(&from.name.as_str());
        return (!allowed).then(|| {
            format!("{} -> {TESTKIT}: the test kit is only ever a dev-dependency (sim apart)", from.name)
        });
    }
    if allows(rule, to) {
        return None;
    }
    let to_service = to.folder.as_deref().is_some_and(|folder| folder.starts_with("services/"));
    let is_service = from.folder.as_deref().is_some_and(|folder| folder.starts_with("services/"));
    let why = if is_service && to_service {
        "a service never uses another service".to_owned()
    } else {
        format!("{} may use {}", from.name, described(rule))
    };
    let tests = if kind == DependencyKind::Dev { " (in tests)" } else { "" };
    Some(format!("{} -> {}{tests}: {why}", from.name, to.name))
}

fn allows(rule: Rule, to: &Package) -> bool {
    match rule {
        Rule::Everything => true,
        Rule::These(names) => names.contains(&to.name.as_str()),
        Rule::Library(names) => {
            names.contains(&to.name.as_str())
                || to.folder.as_deref().is_some_and(|folder| folder.starts_with("crates/"))
        }
    }
}

fn described(rule: Rule) -> String {
    match rule {
        Rule::These([]) => "outside crates only".to_owned(),
        Rule::These(names) => format!("only {}", names.join(", ")),
        Rule::Library([]) => "only crates/*".to_owned(),
        Rule::Library(names) => format!("only crates/* and {}", names.join(", ")),
        Rule::Everything => "everything".to_owned(),
    }
}

/// What a crate contains by way of others.
fn forbidden_inside(workspace: &Workspace, id: &str, package: &Package, rule: Rule) -> Vec<String> {
    let mut errors = Vec::new();
    let without_tokio = WITHOUT_TOKIO.contains(&package.name.as_str());
    let closed = CLOSED.contains(&package.name.as_str());
    if !without_tokio && !closed {
        return errors;
    }
    for (inside, path) in workspace.closure(id) {
        let Some(used) = workspace.packages.get(inside) else { continue };
        let way = || {
            let names = path.iter().filter_map(|id| workspace.packages.get(*id));
            let names: Vec<&str> =
                std::iter::once(package.name.as_str()).chain(names.map(|used| used.name.as_str())).collect();
            names.join(" -> ")
        };
        if without_tokio && used.name == "tokio" {
            errors.push(format!("{}: {} has to do without tokio", way(), package.name));
        }
        if closed && path.len() > 1 && used.folder.is_some() && !allows(rule, used) {
            errors.push(format!(
                "{}: {} may contain {}, also by way of others",
                way(),
                package.name,
                described(rule)
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::metadata;

    /// `(folder, name, [(used, kind)])`; without a folder it is not ours.
    type Crate<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    /// The errors for metadata as cargo prints it, of these crates.
    fn found(crates: &[Crate<'_>]) -> Vec<String> {
        let id = |name: &str| format!("path+file:///w#{name}@0.1.0");
        let packages: Vec<Value> = crates
            .iter()
            .map(|(folder, name, _)| {
                json!({"id": id(name), "name": name, "manifest_path": format!("/w/{folder}/Cargo.toml")})
            })
            .collect();
        let nodes: Vec<Value> = crates
            .iter()
            .map(|(_, name, uses)| {
                let deps: Vec<Value> = uses
                    .iter()
                    .map(|(used, kind)| {
                        let kind = if *kind == "normal" { Value::Null } else { json!(kind) };
                        json!({"name": used, "pkg": id(used), "dep_kinds": [{"kind": kind, "target": null}]})
                    })
                    .collect();
                json!({"id": id(name), "deps": deps})
            })
            .collect();
        let members: Vec<String> =
            crates.iter().filter(|(folder, ..)| !folder.is_empty()).map(|(_, name, _)| id(name)).collect();
        let json = json!({
            "packages": packages, "workspace_members": members, "workspace_root": "/w",
            "resolve": {"nodes": nodes},
        });
        check(&metadata::parse(&json).unwrap()).errors
    }

    #[test]
    fn allowed_arrows_pass() {
        let errors = found(&[
            ("crates/campaign", "campaign", &[("serde", "normal"), ("testkit", "dev"), ("tokio", "dev")]),
            ("crates/runtime", "runtime", &[("tokio", "normal")]),
            ("crates/flowlog", "flowlog", &[("runtime", "normal")]),
            ("crates/testkit", "testkit", &[("flowlog", "normal")]),
            ("services/flow", "flow", &[("flowlog", "normal"), ("testkit", "dev")]),
            ("services/hongbao", "hongbao", &[("flow", "normal"), ("sim", "normal")]),
            ("tools/sim", "sim", &[("flow", "normal"), ("testkit", "normal")]),
            ("", "serde", &[]),
            ("", "tokio", &[]),
        ]);
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn an_arrow_outside_the_row_is_printed_with_the_rule() {
        let errors = found(&[
            ("crates/campaign", "campaign", &[]),
            ("crates/records", "records", &[("campaign", "normal"), ("runtime", "normal")]),
            ("crates/runtime", "runtime", &[("campaign", "build")]),
            ("tools/vendor-sim", "vendor-sim", &[("campaign", "dev")]),
            ("tools/xtask", "xtask", &[("runtime", "normal")]),
        ]);
        assert_eq!(
            errors,
            [
                "records -> runtime: records may use only campaign",
                "runtime -> campaign: runtime may use outside crates only",
                "vendor-sim -> campaign (in tests): vendor-sim may use outside crates only",
                "xtask -> runtime: xtask may use outside crates only",
            ]
        );
    }

    #[test]
    fn services_do_not_use_each_other_nor_tools() {
        let errors = found(&[
            (
                "services/access",
                "access",
                &[("lottery", "normal"), ("sim", "dev"), ("quota-config", "normal")],
            ),
            ("services/lottery", "lottery", &[("access", "dev")]),
            ("tools/sim", "sim", &[]),
            ("quota-config", "quota-config", &[]),
        ]);
        assert_eq!(
            errors,
            [
                "access -> lottery: a service never uses another service",
                "access -> sim (in tests): access may use only crates/* and quota-config",
                "lottery -> access (in tests): a service never uses another service",
            ]
        );
    }

    #[test]
    fn the_test_kit_stays_in_tests() {
        let errors = found(&[
            ("crates/queue", "queue", &[("testkit", "normal"), ("testkit", "dev")]),
            ("services/hongbao", "hongbao", &[("testkit", "normal")]),
            ("crates/testkit", "testkit", &[]),
        ]);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with("hongbao -> testkit") && errors[1].starts_with("queue -> testkit"));
    }

    #[test]
    fn tokio_is_found_behind_others() {
        let errors = found(&[
            ("crates/hashring", "hashring", &[("a", "normal")]),
            ("", "a", &[("b", "normal"), ("c", "dev")]),
            ("", "b", &[("tokio", "build")]),
            ("", "c", &[]),
            ("", "tokio", &[]),
        ]);
        assert_eq!(errors, ["hashring -> a -> b -> tokio: hashring has to do without tokio"]);
    }

    #[test]
    fn reconcile_is_checked_to_the_bottom() {
        let errors = found(&[
            ("reconcile", "reconcile", &[("quota-config", "normal")]),
            ("quota-config", "quota-config", &[("storage", "normal")]),
            ("crates/storage", "storage", &[("runtime", "normal"), ("records", "normal")]),
            ("crates/runtime", "runtime", &[]),
            ("crates/records", "records", &[]),
        ]);
        assert_eq!(
            errors,
            [
                "reconcile -> quota-config -> storage -> records: reconcile may contain only campaign, quota-config, \
                 storage, runtime, also by way of others",
                "storage -> records: storage may use only runtime",
            ]
        );
    }

    #[test]
    fn a_crate_without_a_row_is_told_to_get_one() {
        let errors = found(&[("crates/utils", "utils", &[])]);
        assert_eq!(errors, ["utils (crates/utils) has no row in the table; give it one"]);
    }
}
