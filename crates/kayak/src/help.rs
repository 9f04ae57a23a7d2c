//! The help of the whole: commands in groups, which clap itself does not know.

use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::{Command, CommandFactory as _};

use crate::cli::Cli;

/// What people look for, by what they want to do.
const GROUPS: &[(&str, &[&str])] = &[
    ("Make and remove a cluster", &["config", "preflight", "up", "plan", "down"]),
    ("Let other machines join", &["token", "join"]),
    ("Stop it, and start it again", &["stop", "resume", "enable", "disable"]),
    ("See how it is", &["status", "audit", "support"]),
    ("Use it", &["kubectl", "kubeconfig", "image", "node"]),
    ("Take it apart, and learn", &["phases", "render", "start"]),
    ("The program itself", &["bundle", "completions", "man"]),
];

/// What scripts see.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; with `status` and `audit`: all is well
  1  the cluster or the machine would not; the message says what was changed
  2  the command line or a file was refused, and nothing was touched
`kubectl` and `node shell` end as what they ran.";

/// The tree of commands as it is parsed and shown.
pub fn command() -> Command {
    let command = Cli::command();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        grouped(&command)
    );
    let after = format!("{EXIT_CODES}\n\n`kayak COMMAND --help` tells more, with examples.");
    command.help_template(StyledStr::from(template)).after_help(after)
}

/// The commands below their groups' headings; what is in no group comes last.
fn grouped(command: &Command) -> String {
    let visible: Vec<_> = command.get_subcommands().filter(|it| !it.is_hide_set()).collect();
    let width = visible.iter().map(|it| it.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = |heading: &str, commands: &[&&Command]| {
        if !commands.is_empty() {
            // Writing into a text cannot fail.
            let _ = writeln!(text, "{heading}:");
        }
        for it in commands {
            let about = it.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:width$}  {about}", it.get_name());
        }
        if !commands.is_empty() {
            text.push('\n');
        }
    };
    for (heading, names) in GROUPS {
        let commands: Vec<_> =
            names.iter().filter_map(|name| visible.iter().find(|it| it.get_name() == *name)).collect();
        section(heading, &commands);
    }
    let others: Vec<_> = visible.iter().filter(|it| !is_grouped(it.get_name())).collect();
    section("More", &others);
    text
}

fn is_grouped(name: &str) -> bool {
    GROUPS.iter().any(|(_, names)| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::without_json;

    /// What prints data, hence also as JSON.
    const WITH_JSON: &[&str] = &[
        "bundle build",
        "bundle export",
        "bundle import",
        "bundle ls",
        "bundle verify",
        "config schema",
        "config validate",
        "disable",
        "down",
        "enable",
        "image load",
        "join",
        "kubeconfig",
        "node add",
        "node drain",
        "node list",
        "node reboot",
        "node remove",
        "node ps",
        "phases",
        "plan",
        "preflight",
        "render",
        "resume",
        "start",
        "status",
        "stop",
        "support",
        "token create",
        "token list",
        "token revoke",
        "up",
        "audit",
        "config diff",
        "config edit",
        "config show",
    ];

    /// Every command that people see and that does something, by its words.
    fn commands() -> Vec<(String, Command)> {
        fn walk(words: &str, command: &Command, found: &mut Vec<(String, Command)>) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let words = format!("{words} {}", sub.get_name());
                if sub.has_subcommands() {
                    walk(&words, sub, found);
                } else {
                    found.push((words.trim().to_owned(), sub.clone()));
                }
            }
        }
        let mut found = Vec::new();
        walk("", &command(), &mut found);
        found
    }

    #[test]
    fn every_command_and_option_has_a_help() {
        for (words, command) in commands() {
            assert!(command.get_about().is_some(), "{words}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{words} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn every_command_prints_json_or_says_why_not() {
        for (words, _) in commands() {
            let (with, without) = (WITH_JSON.contains(&words.as_str()), without_json(&words).is_some());
            assert!(with != without, "{words}");
        }
    }

    #[test]
    fn every_command_is_in_a_group() {
        let help = command().render_help().to_string();
        for sub in command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(is_grouped(sub.get_name()), "{} is in no group of `GROUPS`", sub.get_name());
            assert!(help.contains(&format!("\n  {} ", sub.get_name())), "{help}");
        }
        assert!(help.contains("Exit codes:") && help.contains("--output"), "{help}");
    }
}
