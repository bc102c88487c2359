//! What cargo knows about crates and their dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// How a crate depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependencyKind {
    /// The program contains it.
    Normal,
    /// The build script does.
    Build,
    /// Only its tests do.
    Dev,
}

/// One crate, ours or not.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    /// Folder relative to the workspace, for our own crates.
    pub folder: Option<String>,
    /// Ids of the crates that it uses, after feature resolution.
    pub uses: BTreeSet<(String, DependencyKind)>,
}

/// All crates by id.
#[derive(Debug)]
pub struct Workspace {
    pub packages: BTreeMap<String, Package>,
}

impl Workspace {
    /// Our own crates.
    pub fn ours(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.packages.iter().filter(|(_, package)| package.folder.is_some())
    }

    /// Everything that ends up in `id`'s program, with a path that leads there; itself excluded, tests too.
    pub fn closure(&self, id: &str) -> BTreeMap<&str, Vec<&str>> {
        let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut open = vec![(id, Vec::new())];
        while let Some((from, path)) = open.pop() {
            let Some(package) = self.packages.get(from) else { continue };
            for (to, kind) in &package.uses {
                if *kind == DependencyKind::Dev || to == id || paths.contains_key(to.as_str()) {
                    continue;
                }
                let mut path = path.clone();
                path.push(to.as_str());
                paths.insert(to, path.clone());
                open.push((to, path));
            }
        }
        paths
    }
}

/// Asks cargo about the workspace in `root`.
pub fn load(root: &Path) -> Result<Workspace, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata can't be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let json = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    parse(&json)
}

/// Reads the output of `cargo metadata --format-version 1`.
pub fn parse(json: &Value) -> Result<Workspace, String> {
    let root = text(json, "workspace_root")?;
    let members: BTreeSet<&str> = list(json, "workspace_members")?.iter().filter_map(Value::as_str).collect();
    let mut packages = BTreeMap::new();
    for package in list(json, "packages")? {
        let id = text(package, "id")?;
        let manifest = text(package, "manifest_path")?;
        let folder = members.contains(id).then(|| {
            let folder = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
            folder.strip_suffix("/Cargo.toml").unwrap_or(folder).to_owned()
        });
        let name = text(package, "name")?.to_owned();
        packages.insert(id.to_owned(), Package { name, folder, uses: BTreeSet::new() });
    }
    let resolve = json.get("resolve").ok_or("cargo metadata has no resolve section")?;
    for node in list(resolve, "nodes")? {
        let Some(package) = packages.get_mut(text(node, "id")?) else { continue };
        for dependency in list(node, "deps")? {
            let id = text(dependency, "pkg")?;
            for kind in list(dependency, "dep_kinds")? {
                let kind = match kind.get("kind").and_then(Value::as_str) {
                    Some("dev") => DependencyKind::Dev,
                    Some("build") => DependencyKind::Build,
                    _ => DependencyKind::Normal,
                };
                package.uses.insert((id.to_owned(), kind));
            }
        }
    }
    Ok(Workspace { packages })
}

fn text<'a>(json: &'a Value, key: &str) -> Result<&'a str, String> {
    json.get(key).and_then(Value::as_str).ok_or_else(|| format!("cargo metadata has no text {key:?}"))
}

fn list<'a>(json: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    json.get(key).and_then(Value::as_array).ok_or_else(|| format!("cargo metadata has no list {key:?}"))
}
