//! Named profiles: which server, and the token for it, in one file that nobody else can read.
//!
//! The file is `hongbao/quotactl.toml` under `$XDG_CONFIG_HOME`, or under `~/.config`. It is written whole, beside
//! itself, and renamed, so that a crash leaves the old or the new one. One that others can read is not used: the
//! tokens in it may be known already.

pub mod choose;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest token.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// All profiles.
#[derive(Serialize, Deserialize, Default, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// The one that is used where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// By name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// One server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its address.
    pub server: String,
    /// The token for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Where the file is.
///
/// # Errors
/// When the environment names no home.
pub fn path() -> Result<PathBuf, Failure> {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = dir("XDG_CONFIG_HOME").or_else(|| dir("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("hongbao").join("quotactl.toml")).ok_or_else(|| {
        Failure::Usage(
            "neither XDG_CONFIG_HOME nor HOME names a folder; set one, for the profiles' file".into(),
        )
    })
}

/// Reads all profiles; none if there is no file.
///
/// # Errors
/// When others can read the file, or it is not as it should be.
pub fn load(path: &Path) -> Result<Profiles, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(format!(
            "others can read or write it (mode {mode:04o}), and it holds tokens; `chmod 600` it, and have the tokens \
             replaced if others may have read them"
        )));
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("{} bytes; it has at most {FILE_BYTES_MAX}", meta.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| {
        // The message alone: the lines around a mistake may hold a token.
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        wrong(format!(
            "line {line}: {}; correct it, or delete it and `quotactl login` again",
            error.message()
        ))
    })
}

/// Writes all profiles, readable for nobody else.
///
/// # Errors
/// When they can't be written; the old file is then as it was.
pub fn save(path: &Path, profiles: &Profiles) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Refused(format!("writing {}: {error}", path.display()));
    let dir = path.parent().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let text = toml::to_string(profiles)
        .map_err(|error| Failure::Refused(format!("writing {}: {error}", path.display())))?;
    // Made with mode 0600, whatever the umask.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Checks a profile's name.
///
/// # Errors
/// What a name may be.
pub fn check_name(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err("a profile's name has 1 to 64 letters, digits, `-`, `_` or `.`".into());
    }
    Ok(name.to_owned())
}

/// Checks a token: what an HTTP header can carry, without blanks around it.
///
/// # Errors
/// What is wrong with it. The token itself is not told.
pub fn check_token(text: &str) -> Result<String, Failure> {
    let token = text.trim();
    let why = if token.is_empty() {
        "it is empty"
    } else if token.len() > TOKEN_BYTES_MAX {
        "it is longer than any token"
    } else if !token.bytes().all(|b| b.is_ascii_graphic()) {
        "it has blanks or letters that no token has"
    } else {
        return Ok(token.to_owned());
    };
    Err(Failure::Usage(format!("the token is wrong: {why}; copy it again, alone")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Profiles {
        let profile = Profile { server: "http://a:1".into(), token: Some("t0ken".into()) };
        Profiles { default: Some("p".into()), profiles: BTreeMap::from([("p".into(), profile)]) }
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hongbao/quotactl.toml");
        assert_eq!(load(&path).unwrap(), Profiles::default());
        save(&path, &one()).unwrap();
        save(&path, &one()).unwrap();
        assert_eq!(load(&path).unwrap(), one());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quotactl.toml");
        save(&path, &one()).unwrap();
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err();
            assert_eq!(error.code(), crate::failure::USAGE);
            assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
        }
    }

    #[test]
    fn a_mistake_is_told_by_line_and_without_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quotactl.toml");
        save(&path, &one()).unwrap();
        std::fs::write(&path, "[profiles.p]\nserver = \"x\"\ntoken = 5ecret\n").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("line 3") && !error.contains("5ecret"), "{error}");
    }

    #[test]
    fn tokens_and_names_are_checked() {
        assert_eq!(check_token(" abc.DEF\n").unwrap(), "abc.DEF");
        for wrong in ["", " \n", "a b", "红", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            let error = check_token(wrong).unwrap_err().to_string();
            assert!(wrong.trim().is_empty() || !error.contains(wrong), "{error}");
        }
        assert!(check_name("prod-1").is_ok() && check_name("").is_err() && check_name("a/b").is_err());
    }
}
