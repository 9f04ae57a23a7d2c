//! All that kayak prints: data on stdout, everything else on stderr; readable without colour.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice, eprintln, print, println};
use indicatif::{ProgressBar, ProgressStyle};
use kayak_bundle::BuildEvent;
use kayak_core::config::ConfigError;
use kayak_core::plan::PhaseId;
use kayak_engine::event::Event;
use owo_colors::OwoColorize as _;
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use tracing_subscriber::EnvFilter;

use crate::commands::plan::edited;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Sends log lines to stderr: warnings, or more with each `-v`; `KAYAK_LOG` overrides.
pub fn init_logging(verbose: u8) {
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))];
    // Libraries' own errors reach the user as causes of ours.
    let own = ["kayak", "kayak_agent", "kayak_bundle", "kayak_engine"].map(|name| format!("{name}={level}"));
    let filter = EnvFilter::try_from_env("KAYAK_LOG").unwrap_or_else(|_| EnvFilter::new(own.join(",")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never)
        .with_target(false)
        .init();
}

/// Prints the head line of an error.
pub fn error(message: &str) {
    eprintln!("{} {message}", "error:".red().bold());
}

/// Prints everything that is wrong with a configuration, each with the line it is in.
pub fn findings(found: &ConfigError) {
    let count = match found.findings.len() {
        1 => "the configuration cannot work".to_owned(),
        count => format!("the configuration cannot work, for {count} reasons"),
    };
    error(&count);
    for finding in &found.findings {
        eprintln!("\n{} {}", format!("{}:", found.location(finding)).bold(), finding.message);
        if let Some(place) = &finding.place {
            let number = place.line.to_string();
            let (text, margin) = (place.text.replace('\t', " "), " ".repeat(number.len()));
            eprintln!("  {} {text}", format!("{number} |").dimmed());
            let caret = " ".repeat(place.column - 1) + &"^".repeat(place.length);
            eprintln!("  {} {}", format!("{margin} |").dimmed(), caret.red().bold());
        }
        if let Some(hint) = &finding.hint {
            eprintln!("  {hint}");
        }
    }
}

/// Prints one cause of an error.
pub fn cause(message: &str) {
    eprintln!("  caused by: {}", message.replace('\n', "\n    "));
}

/// Prints what the user can do.
pub fn hint(message: &str) {
    eprintln!("\n{} {message}", "hint:".cyan().bold());
}

/// Prints a remark.
pub fn note(message: &str) {
    eprintln!("{message}");
}

/// Prints data.
pub fn data(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints lines of data.
pub fn all(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

/// Prints data for scripts.
pub fn json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Says whether something holds, if that is known, and why not.
pub fn verdict(what: &str, holds: Option<bool>, because: Option<&str>) -> String {
    let mark = match holds {
        Some(true) => "✓".green().to_string(),
        Some(false) => "✗".red().to_string(),
        None => "?".yellow().to_string(),
    };
    because.map_or_else(|| format!("{mark} {what}"), |because| format!("{mark} {what}: {because}"))
}

/// Prints rows in aligned columns.
pub fn table(rows: &[Vec<String>]) {
    all(&table_lines(rows));
}

/// Aligns rows in columns.
pub fn table_lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Prints lines that take the place of what was printed before: on a terminal the screen is theirs, elsewhere
/// only those are printed that differ.
#[derive(Default)]
pub struct Screen {
    before: Option<Shown>,
}

/// Lines, and the same without what moves all the time, by which differences are told.
struct Shown {
    lines: Vec<String>,
    settled: String,
}

impl Screen {
    /// Prints. `settled` are the same lines without what moves all the time.
    pub fn show(&mut self, lines: Vec<String>, settled: &[String]) {
        // A table is wider where only one of its rows has become so.
        let squeeze = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
        let now = Shown { lines, settled: settled.iter().map(squeeze).collect() };
        match &self.before {
            _ if std::io::stdout().is_terminal() => draw(&now.lines),
            Some(before) => all(&differences(before, &now)),
            None => all(&now.lines),
        }
        self.before = Some(now);
    }
}

fn differences(before: &Shown, now: &Shown) -> Vec<String> {
    let diff = TextDiff::from_lines(&before.settled, &now.settled);
    let line = |lines: &[String], index: Option<usize>| lines.get(index?).cloned();
    let changes = diff.iter_all_changes().filter_map(|change| match change.tag() {
        ChangeTag::Equal => None,
        ChangeTag::Delete => line(&before.lines, change.old_index()).map(|line| format!("- {line}")),
        ChangeTag::Insert => line(&now.lines, change.new_index()).map(|line| format!("+ {line}")),
    });
    changes.collect()
}

/// Draws lines from the top of the terminal, as many as fit: a line that is too long is cut off by the
/// terminal, which does not wrap meanwhile.
fn draw(lines: &[String]) {
    let rows = tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row)).max(2);
    let shown = if lines.len() < rows { lines.len() } else { rows - 2 };
    let mut drawn = lines[..shown].to_vec();
    if shown < lines.len() {
        drawn.push(format!("… and {} more lines", lines.len() - shown).dimmed().to_string());
    }
    let drawn: String = drawn.iter().map(|line| line.clone() + "\x1b[K\n").collect();
    print!("\x1b[?7l\x1b[H{drawn}\x1b[J\x1b[?7h");
    // Whoever has closed the terminal sees nothing in any case.
    let _flushed = anstream::stdout().flush();
}

/// Asks on the terminal; without one the answer is no.
pub fn confirm(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprintln!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Waits for the return key; without a terminal goes on at once.
fn wait_for_key() {
    if std::io::stdin().is_terminal() {
        eprintln!("{}", "press return to go on".dimmed());
        let mut line = String::new();
        // A closed terminal ends the waiting just as a key does.
        let _ = std::io::stdin().read_line(&mut line);
    }
}

/// Shows what happens: a line for what is done, and on a terminal a moving one for what is under way.
pub struct Progress {
    output: Output,
    bar: ProgressBar,
    current: Mutex<String>,
}

impl Progress {
    /// Starts showing.
    pub fn new(output: Output) -> Self {
        let bar = if std::io::stderr().is_terminal() && output == Output::Text {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { output, bar, current: Mutex::new(String::new()) }
    }

    /// Takes the moving line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Shows a line of its own, `done` in so many seconds.
    pub fn done(&self, what: &str, seconds: f64) {
        if self.output == Output::Text {
            self.line(&format!("{} {what} {}", "✓".green(), format!("{seconds:.1} s").dimmed()));
        }
    }

    /// Shows an event of the engine.
    pub fn event(&self, event: &Event) {
        if self.output == Output::Json {
            // Events are plain data: they always serialise.
            if let Ok(text) = serde_json::to_string(event) {
                println!("{text}");
            }
            return;
        }
        match event {
            Event::PhaseStarted { phase } => self.now(phase.title()),
            Event::StepStarted { step } => self.now(step),
            Event::StepDone { step, seconds } => tracing::info!("{step}: {seconds:.2} s"),
            Event::Holds { check, seconds } => tracing::info!("{check}: {seconds:.2} s"),
            Event::Waiting { check, because } => self.waiting(&check.to_string(), because),
            Event::LeftAlone { object, edits } => {
                for edit in edits {
                    self.line(&format!("  left alone: {}", edited(object, edit)));
                }
            }
            Event::Evicts { node, pod, loses: None } => tracing::info!("evicts {pod} from `{node}`"),
            Event::Evicts { node, pod, loses: Some(lost) } => {
                self.line(&format!("  evicts {pod} from `{node}`; lost: {lost}"));
            }
            Event::Draining { node, because } => self.waiting(&format!("node `{node}` is empty"), because),
            Event::PhaseDone { phase, seconds } => self.done(phase.title(), *seconds),
        }
    }

    fn now(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Where nothing moves, a reason is a line, once.
    fn waiting(&self, check: &str, because: &str) {
        let text = format!("waiting until {check}: {because}");
        if !self.bar.is_hidden() {
            self.now(&text);
        } else if let Ok(mut current) = self.current.lock()
            && *current != text
        {
            tracing::info!("{text}");
            *current = text;
        }
    }

    /// Shows an event of a bundle's build.
    pub fn build_event(&self, event: &BuildEvent<'_>) {
        if self.output == Output::Json {
            return;
        }
        match event {
            BuildEvent::Waiting => self.line("another kayak builds the bundle; waiting for it"),
            BuildEvent::Started { what } => {
                self.now(&format!("building {what}"));
                if self.bar.is_hidden() {
                    self.line(&format!("  building {what}"));
                }
            }
            BuildEvent::Cached { what } => tracing::info!("{what} is up to date"),
            BuildEvent::Finished { what, took } => self.done(&format!("built {what}"), took.as_secs_f64()),
            BuildEvent::Failed { what, took } => {
                self.line(&format!("{} {what} failed after {:.1} s", "✗".red(), took.as_secs_f64()));
            }
        }
    }

    /// Waits for the return key, the moving line taken away meanwhile.
    pub fn wait_for_key(&self) {
        self.bar.suspend(wait_for_key);
    }

    /// Tells, before a phase, what it is for and how it is done by hand.
    pub fn explain(&self, phase: PhaseId) {
        self.line(&format!("\n{} {}", phase.name().bold(), phase.title().dimmed()));
        self.line(&format!("  {}", phase.why()));
        self.line("  by hand:");
        for command in phase.by_hand() {
            self.line(&format!("    {command}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_beyond_what_moves_is_a_difference() {
        let shown = |lines: [&str; 2], settled: [&str; 2]| Shown {
            lines: lines.map(str::to_owned).into(),
            settled: settled.map(|line| format!("{line}\n")).concat(),
        };
        let before = shown(["a yes 1", "b  yes 1"], ["a yes ?", "b yes ?"]);
        assert!(differences(&before, &shown(["a yes 2", "b yes 2"], ["a yes ?", "b yes ?"])).is_empty());
        let now = shown(["a yes 3", "b no  3"], ["a yes ?", "b no ?"]);
        assert_eq!(differences(&before, &now), ["- b  yes 1", "+ b no  3"]);
    }
}
