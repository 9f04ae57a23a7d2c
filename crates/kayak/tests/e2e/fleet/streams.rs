//! What lasts longer than a request: a watch, and the output of a program.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::writer;
use crate::client::{Answer, Client};
use crate::cluster::{Cluster, Running, eventually};
use crate::space::Network;

/// The object that ends the watch.
const LAST: &str = "the-last";
/// How long nothing may come: the writer is not that slow.
const SILENCE: Duration = Duration::from_secs(20);

/// A watch on a namespace's ConfigMaps, which goes on where it was cut off.
pub struct Events(JoinHandle<Told>);

/// What a watch was told.
#[derive(Default)]
pub struct Told {
    /// Names of objects that were added.
    pub names: BTreeSet<String>,
    /// Why each watch ended.
    pub begun: Vec<String>,
    /// How often it had to list, since its version was no longer known.
    pub lists: usize,
}

impl Events {
    /// Begins to watch by an address of a network.
    pub fn start(network: Network, address: &str, client: &Client, namespace: &str) -> Self {
        let (client, address) = (client.clone(), address.to_owned());
        let path = format!("GET /api/v1/namespaces/{namespace}/configmaps");
        Self(std::thread::spawn(move || {
            network.enter();
            let mut told = Told::default();
            follow(&client, &address, &path, &mut told);
            told
        }))
    }

    /// Writes a last object, and returns what was told until then.
    pub fn stop(self, client: &Client, address: &str, namespace: &str) -> Told {
        writer::create(client, address, namespace, LAST, SILENCE).unwrap();
        self.0.join().unwrap()
    }
}

/// Lists, watches from there, watches on where it was cut off, and lists again when that is too long ago.
fn follow(client: &Client, address: &str, path: &str, told: &mut Told) {
    while !told.names.contains(LAST) {
        let list = client.send(address, path, "", SILENCE).and_then(Answer::body).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        told.lists += 1;
        told.names.extend(list["items"].as_array().unwrap().iter().map(name));
        let mut version = version(&list);
        let mut known = true;
        while known && !told.names.contains(LAST) {
            let from = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}");
            let mut answer = client.send(address, &from, "", SILENCE).unwrap();
            assert!([200, 410].contains(&answer.status), "{}", answer.status);
            let ended =
                if answer.status == 410 { "410".to_owned() } else { watch(&mut answer, &mut version, told) };
            assert!(!ended.contains("os error 11"), "nothing came: {ended}");
            known = !ended.contains("410");
            told.begun.push(ended);
        }
    }
}

/// Takes events until the last one, or the watch's end: says why it ended.
fn watch(answer: &mut Answer, since: &mut String, told: &mut Told) -> String {
    loop {
        let line = match answer.line() {
            Ok(Some(line)) => line,
            Ok(None) => return "it ended".into(),
            Err(why) => return why,
        };
        let event: Value = serde_json::from_str(&line).unwrap();
        let object = &event["object"];
        match event["type"].as_str().unwrap() {
            "ERROR" => return object.to_string(),
            "ADDED" => drop(told.names.insert(name(object))),
            _ => {}
        }
        *since = version(object);
        if told.names.contains(LAST) {
            return "it was told all".into();
        }
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().into()
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().into()
}

/// A program that prints numbers, one a line.
pub struct Numbers {
    program: Running,
    last: Arc<Mutex<u32>>,
    thread: JoinHandle<Instant>,
}

impl Numbers {
    /// Starts it.
    pub fn of(mut command: Command) -> Self {
        let mut program = Running(command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        let last = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&last);
        let thread = std::thread::spawn(move || {
            for line in lines {
                let number: u32 = line.unwrap().trim().parse().unwrap();
                let mut last = seen.lock().unwrap();
                assert_eq!(number, *last + 1, "no line is missing");
                *last = number;
            }
            Instant::now()
        });
        Self { program, last, thread }
    }

    /// The last one so far.
    pub fn last(&self) -> u32 {
        *self.last.lock().unwrap()
    }

    /// Waits until it is heard again, unless it has ended: then this says when.
    pub fn still(self, what: &str) -> Option<Instant> {
        let before = self.last();
        let ended = eventually(what, || {
            if self.thread.is_finished() {
                return Ok(true);
            }
            if self.last() > before { Ok(false) } else { Err(format!("silent after {before}")) }
        });
        drop(self.program);
        let at = self.thread.join().unwrap();
        ended.then_some(at)
    }
}

/// What such a program is.
pub const COUNT: &str = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.2; done";

/// `kubectl` with these arguments, as a command.
pub fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Command {
    cluster.command(&[&["kubectl"], arguments].concat())
}
