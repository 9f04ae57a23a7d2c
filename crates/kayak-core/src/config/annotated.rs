//! A `cluster.yaml` with every setting, its comment and its default, made of the schema.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{Kind, Part, schema};

const HEAD: &str = "# The configuration of a kayak cluster: every setting with its default.
# A line that begins with `#` and no space is a setting without a default, shown with an example.
";

/// Writes the default configuration. It reads as an empty file does.
pub fn annotated() -> String {
    let schema = schema();
    let mut writer = Writer::default();
    writer.group(Part::root(&schema));
    format!("{HEAD}{}", writer.text)
}

#[derive(Default)]
struct Writer {
    text: String,
    /// How far inside groups.
    indent: usize,
    /// Where the mark stands that takes lines out, if they are.
    out: Option<usize>,
    /// Types that were written once.
    seen: BTreeSet<String>,
}

impl Writer {
    fn group(&mut self, part: Part<'_>) {
        for (name, setting) in part.fields() {
            if self.indent == 0 {
                self.text.push('\n');
            }
            for line in setting.description().lines() {
                self.line(&format!("# {line}"));
            }
            self.setting(name, setting);
        }
    }

    fn setting(&mut self, name: &str, setting: Part<'_>) {
        let item = setting.item().filter(|item| item.kind() == Kind::Group);
        if setting.kind() == Kind::Group {
            // What a type holds is told once; but an optional group is not there by default, and one with
            // nothing in it may not be.
            let new = self.seen.insert(setting.type_name().unwrap_or_default().to_owned());
            let new = new || setting.is_optional();
            self.without_default(setting.is_optional(), |writer| {
                writer.line(&if new { format!("{name}:") } else { format!("{name}: {{}}") });
                if new {
                    writer.inside(|writer| writer.group(setting));
                }
            });
        } else if let Some(item) = item {
            self.without_default(true, |writer| {
                writer.line(&format!("{name}:"));
                writer.inside(|writer| {
                    writer.line("-");
                    writer.inside(|writer| writer.group(item));
                });
            });
        } else if let Some(default) = setting.default().filter(|default| !default.is_null()) {
            self.line(&format!("{name}: {}", flow(default)));
        } else {
            let example = setting.example().map(|example| format!(" {}", flow(example))).unwrap_or_default();
            self.without_default(true, |writer| writer.line(&format!("{name}:{example}")));
        }
    }

    fn without_default(&mut self, out: bool, write: impl FnOnce(&mut Self)) {
        let before = self.out;
        if out && before.is_none() {
            self.out = Some(self.indent);
        }
        write(self);
        self.out = before;
    }

    fn inside(&mut self, write: impl FnOnce(&mut Self)) {
        self.indent += 2;
        write(self);
        self.indent -= 2;
    }

    fn line(&mut self, text: &str) {
        let outer = self.out.unwrap_or(self.indent);
        let mark = if self.out.is_some() { "#" } else { "" };
        let inner = self.indent - outer;
        // Writing into a text cannot fail.
        let _ = writeln!(self.text, "{:outer$}{mark}{:inner$}{text}", "", "");
    }
}

/// Writes a value on one line of YAML.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) if fields.is_empty() => "{}".into(),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}: {}", flow(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Whether YAML takes a text for itself without quotes.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_');
    let is_word =
        !matches!(text, "" | "-" | "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    // Addresses, ranges and amounts begin with a digit and are no numbers.
    let is_number = text.parse::<f64>().is_ok();
    text.chars().all(plain) && is_word && !is_number
}
