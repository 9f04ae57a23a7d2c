//! What is wrong with a configuration, and where.

use std::fmt;

use camino::Utf8PathBuf;
use serde::Serialize;

/// Where in the text of a configuration something is; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// How many characters of the line are meant, at least one.
    pub length: usize,
    /// The whole line.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The setting, `network.pods`; empty for the whole.
    pub path: String,
    /// Where it is, if it came from a text.
    pub place: Option<Place>,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Why a configuration is refused: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ConfigError {
    /// The file that it was read from, if it was.
    pub file: Option<Utf8PathBuf>,
    /// What is wrong, in the order of the file.
    pub findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), place: None, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl ConfigError {
    /// Says which file it was.
    #[must_use]
    pub fn in_file(self, file: impl Into<Utf8PathBuf>) -> Self {
        Self { file: Some(file.into()), ..self }
    }

    /// Where a finding is: file, line and column, as editors take them, or the setting's name.
    pub fn location(&self, finding: &Finding) -> String {
        match (&self.file, &finding.place) {
            (Some(file), Some(place)) => format!("{file}:{}:{}", place.line, place.column),
            (None, Some(place)) => format!("line {}, column {}", place.line, place.column),
            (Some(file), None) => file.to_string(),
            (None, None) => finding.path.clone(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot work")?;
        for finding in &self.findings {
            write!(f, "\n{}: {}", self.location(finding), finding.message)?;
            if let Some(hint) = &finding.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}
