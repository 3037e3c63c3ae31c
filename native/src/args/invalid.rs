//! The error of arguments that no node can work with.

use std::fmt;

/// An argument that is not valid, although it has the right form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// The option to change, without its dashes, if there is only one.
    pub(crate) option: Option<String>,
    /// What is wrong with it, or with the arguments together.
    pub(crate) reason: String,
}

impl Invalid {
    /// Returns the error of `option`, whose reason follows its name.
    pub(crate) fn new(option: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            option: Some(option.into()),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.option {
            Some(option) => write!(f, "--{option} {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Invalid {}
