//! docs/configuration.md, made of the schema and of what is written by hand in `reference.md`.

use std::fmt::Write as _;

use super::annotated::flow;
use super::schema::{Kind, Part, schema};
use crate::component::owned::{self, Owned, VARIABLES};
use crate::component::{apiserver, controller_manager, coredns, etcd, flannel, proxy, scheduler};
use crate::host::KUBELET;

const TEMPLATE: &str = include_str!("reference.md");

/// Writes the reference of all settings.
pub fn reference() -> String {
    let schema = schema();
    let mut sections = Vec::new();
    collect("", Part::root(&schema), &mut sections);
    let settings: Vec<_> = sections.iter().map(|section| section.text(&sections)).collect();
    TEMPLATE.replace("<!-- settings -->\n", &settings.join("\n")).replace("<!-- owned -->\n", &kept())
}

/// A group of settings, which may stand in several places.
struct Section<'a> {
    /// Where it stands, the first place first.
    paths: Vec<String>,
    part: Part<'a>,
}

/// Collects every group once, outer ones first.
fn collect<'a>(path: &str, part: Part<'a>, sections: &mut Vec<Section<'a>>) {
    let known = |section: &&mut Section<'_>| section.part.type_name() == part.type_name();
    if let Some(section) = sections.iter_mut().find(known) {
        section.paths.push(path.to_owned());
        return;
    }
    sections.push(Section { paths: vec![path.to_owned()], part });
    for (name, field) in part.fields() {
        if let Some(group) = field.group() {
            let dot = if path.is_empty() { "" } else { "." };
            let items = if field.kind() == Kind::List { "[]" } else { "" };
            collect(&format!("{path}{dot}{name}{items}"), group, sections);
        }
    }
}

impl Section<'_> {
    fn title(&self) -> &str {
        let first = self.paths.first().map_or("", String::as_str);
        if first.is_empty() { "Top level" } else { first }
    }

    fn anchor(&self) -> String {
        let kept = |c: char| c.is_alphanumeric() || c == '-' || c == ' ';
        self.title().to_lowercase().chars().filter(|&c| kept(c)).collect::<String>().replace(' ', "-")
    }

    fn text(&self, all: &[Self]) -> String {
        let title =
            if self.title() == "Top level" { "Top level".into() } else { format!("`{}`", self.title()) };
        let mut text = format!("### {title}\n\n{}\n", one_line(self.part.description()));
        if let [_, others @ ..] = self.paths.as_slice()
            && !others.is_empty()
        {
            let others: Vec<_> = others.iter().map(|path| format!("`{path}`")).collect();
            let _ = writeln!(text, "\nThe same settings are in {}.", others.join(", "));
        }
        text.push_str("\n| setting | type | default | what it is |\n| --- | --- | --- | --- |\n");
        for (name, field) in self.part.fields() {
            let group =
                field.group().and_then(|group| all.iter().find(|s| s.part.type_name() == group.type_name()));
            let kind = match (group, field.kind()) {
                (Some(section), Kind::List) => format!("list of [settings](#{})", section.anchor()),
                (Some(section), _) => format!("[settings](#{})", section.anchor()),
                (None, _) => type_of(field),
            };
            let default = match field.default().filter(|default| !default.is_null()) {
                Some(_) if group.is_some() => String::new(),
                Some(default) => format!("`{}`", flow(default)),
                None if self.part.requires(name) => "must be there".into(),
                None => String::new(),
            };
            let words = field.words().into_iter().filter(|(_, means)| !means.is_empty());
            let words: Vec<_> =
                words.map(|(word, means)| format!(" `{word}`: {}", one_line(means))).collect();
            let what = format!("{}{}", one_line(field.description()), words.concat()).replace('|', "\\|");
            let _ = writeln!(text, "| `{name}` | {kind} | {default} | {what} |");
        }
        text
    }
}

fn type_of(part: Part<'_>) -> String {
    let format = match part.format() {
        Some("ip" | "ipv4" | "ipv6") => Some("address"),
        _ => None,
    };
    match part.kind() {
        Kind::Word => {
            let words: Vec<_> = part.words().iter().map(|(word, _)| format!("`{word}`")).collect();
            words.join(", ")
        }
        Kind::Switch => "`true` or `false`".into(),
        Kind::Number => "number".into(),
        Kind::List if part.is_range() => "range of addresses, or two".into(),
        Kind::List => {
            format!("list of {}", part.item().map_or("texts".into(), |item| plural(&type_of(item))))
        }
        Kind::Mapping => {
            let value = part.entry().and_then(Part::type_name);
            let value = match value {
                Some("FlagValue" | "Scalar") => "values",
                Some(_) => "settings",
                None if part.entry().is_some_and(Part::is_anything) => "fields of any kind",
                None => "texts",
            };
            format!("names and their {value}").replace("names and their fields", "fields")
        }
        Kind::Group => "settings".into(),
        Kind::Text if part.type_name() == Some("Quantity") => "[amount](#amounts)".into(),
        Kind::Text => format.unwrap_or("text").into(),
    }
}

fn plural(kind: &str) -> String {
    format!("{kind}{}", if kind.ends_with('s') { "es" } else { "s" })
}

/// Comments are broken into lines where the source is.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What may not be overridden, and why.
fn kept() -> String {
    let components = [
        apiserver::NAME,
        controller_manager::NAME,
        scheduler::NAME,
        etcd::NAME,
        proxy::NAME,
        flannel::NAME,
        coredns::NAME,
        KUBELET,
    ];
    let mut text = String::from("| of | names | why: it … |\n| --- | --- | --- |\n");
    let mut rows = |of: &str, owned: &[Owned]| {
        for owned in owned {
            let names: Vec<_> = owned.names.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "| {of} | {} | {} |", names.join(", "), owned.because);
        }
    };
    for component in components {
        rows(&format!("flags of {component}"), owned::flags(component));
        rows(&format!("`config` of {component}"), owned::fields(component));
    }
    rows("environment of all", &[VARIABLES]);
    text
}
