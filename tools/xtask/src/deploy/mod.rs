//! Whether what lies in `deploy/` fits together: manifests for Kubernetes and units for systemd.
//!
//! It exists because nobody compiles a manifest: a label, port, volume or variable that is misspelt there shows on the
//! evening itself. What needs a cluster's own schema is not checked here (`kubectl apply --dry-run=server` does that).

mod manifests;
mod units;
mod yaml;

use std::path::Path;

use serde_json::Value;

use crate::Findings;

/// The roles that the binary has.
const ROLES: [&str; 6] = ["access", "lottery", "flow", "delivery", "console", "chat"];
/// Least time between SIGTERM and SIGKILL, seconds: a lottery node gives away what it owns meanwhile.
const DRAIN_S_MIN: u64 = 45;

/// What does not fit in `deploy/`.
pub fn check(root: &Path) -> Result<Findings, String> {
    let k8s = root.join("deploy/k8s");
    let mut documents = Vec::new();
    let mut kustomization = Value::Null;
    let mut files = Vec::new();
    let unreadable = |error: std::io::Error| format!("{}: {error}", k8s.display());
    for entry in std::fs::read_dir(&k8s).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") {
            continue;
        }
        let text = read(&path)?;
        let read = yaml::documents(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        match name.as_str() {
            "kustomization.yaml" => kustomization = read.into_iter().next().unwrap_or_default(),
            _ => documents.extend(read.into_iter().map(|document| (name.clone(), document))),
        }
        files.push(name);
    }
    documents.sort_by(|a, b| a.0.cmp(&b.0));
    let mut errors = manifests::errors(&documents);
    errors.extend(manifests::unlisted(&kustomization, &files));
    let unit = root.join("deploy/systemd/hongbao@.service");
    errors.extend(units::errors(&read(&unit)?).into_iter().map(|error| format!("hongbao@.service: {error}")));
    let summary = format!("{} manifests in {} files and a unit fit together", documents.len(), files.len());
    Ok(Findings { errors, warnings: Vec::new(), summary })
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_the_repository_fits_together() {
        let root = crate::root();
        let findings = super::check(&root).unwrap();
        assert_eq!(findings.errors, Vec::<String>::new());
    }
}
