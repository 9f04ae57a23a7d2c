//! The way to a setting.

use std::fmt;

/// One step from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The value of a field.
    Field(String),
    /// An item of a list, counted from 0.
    Item(usize),
}

/// The way from the root to a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// Reads a way of fields only, `network.pods`.
    pub(super) fn to(fields: &str) -> Self {
        Self(fields.split('.').map(|field| Step::Field(field.into())).collect())
    }

    /// One field further.
    pub(super) fn field(&self, name: &str) -> Self {
        self.step(Step::Field(name.into()))
    }

    /// One item further.
    pub(super) fn item(&self, index: usize) -> Self {
        self.step(Step::Item(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                // Names of labels, and of fields in them.
                Step::Field(name) if name.contains(['.', '/']) => write!(f, "[\"{name}\"]")?,
                Step::Field(name) if index == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
