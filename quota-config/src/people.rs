//! Who may do what.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a person may do; each role may do what those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Changes, and asks for what needs a second person.
    Operator,
    /// Is the second person.
    Approver,
    /// Whatever there is.
    Admin,
}

impl Role {
    /// All of them, from the least on.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin];

    /// Word for files, tables and tokens.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no role.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a role; write viewer, operator, approver or admin")]
pub struct NoRole(pub String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Role, NoRole> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| NoRole(text.to_string()))
    }
}

/// Who does something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct By {
    /// The person's name: what tells two people apart.
    pub name: String,
    /// As what he acts.
    pub role: Role,
}

impl By {
    /// A person in a role.
    pub fn new(name: impl Into<String>, role: Role) -> By {
        By { name: name.into(), role }
    }
}
