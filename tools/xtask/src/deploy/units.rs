//! The unit of a role under systemd.

use super::DRAIN_S_MIN;

/// What the unit must say, whatever else it says.
const MUST: [&str; 12] = [
    "Restart=always",
    "StateDirectory=hongbao/%i",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "UMask=0077",
];

/// What is wrong with the unit.
pub(super) fn errors(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut errors: Vec<String> =
        MUST.iter().filter(|must| !lines.contains(must)).map(|must| format!("`{must}` is missing")).collect();
    for line in &lines {
        let fine = line.is_empty() || line.starts_with(['#', '[']) || line.contains('=');
        if !fine {
            errors.push(format!("`{line}` is neither a section nor KEY=VALUE"));
        }
    }
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if !value("ExecStart").is_some_and(|command| command.contains(" run --role %i --config /")) {
        errors.push("ExecStart does not run the role that the unit is named after".to_owned());
    }
    match value("TimeoutStopSec").and_then(|seconds| seconds.parse::<u64>().ok()) {
        Some(seconds) if seconds >= DRAIN_S_MIN => {}
        _ => errors.push(format!("TimeoutStopSec is below the {DRAIN_S_MIN} s that draining may take")),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::errors;

    #[test]
    fn what_is_missing_is_named() {
        let good = include_str!("../../../../deploy/systemd/hongbao@.service");
        assert_eq!(errors(good), Vec::<String>::new());
        for (from, to, why) in [
            ("Restart=always", "Restart=no", "Restart=always"),
            ("TimeoutStopSec=90", "TimeoutStopSec=9", "draining"),
            ("--role %i", "--role access", "named after"),
            ("KillMode=mixed", "KillMode", "neither"),
        ] {
            let found = errors(&good.replace(from, to)).join(" ");
            assert!(found.contains(why), "{found} should say {why}");
        }
    }
}
