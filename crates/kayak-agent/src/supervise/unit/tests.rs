use std::path::Path;
use std::time::Duration;

use kayak_core::node::Status;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use super::super::process::GRACE;
use super::*;

/// A shell script that runs as a unit, with a directory for its traces.
struct Run {
    root: tempfile::TempDir,
    board: Board,
    wish: watch::Sender<Option<Unit>>,
    task: JoinHandle<()>,
}

fn unit(root: &Path, script: &str) -> Unit {
    Unit {
        name: "unit".into(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: [("ROOT".to_owned(), root.display().to_string())].into(),
        health: None,
        files: vec![root.join("config").display().to_string()],
    }
}

impl Run {
    fn start(script: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::start_in(root, script)
    }

    fn start_in(root: tempfile::TempDir, script: &str) -> Self {
        let board = Board::new();
        let (wish, wished) = watch::channel(Some(unit(root.path(), script)));
        let places = Places { logs: root.path().into(), runs: root.path().into() };
        let task = tokio::spawn(Keeper::new("unit".into(), wished, board.clone(), places).keep());
        Self { root, board, wish, task }
    }

    async fn until(&self, wished: impl Fn(&UnitStatus) -> bool) -> UnitStatus {
        let status = self.board.wait(|status: &Status| status.units.get("unit").is_some_and(&wished));
        timeout(Duration::from_secs(10), status).await.unwrap().units["unit"].clone()
    }

    /// Waits until the script has written a line to this file, and returns it.
    async fn line(&self, file: &str) -> String {
        let path = self.root.path().join(file);
        let written = async {
            loop {
                match fs::read_to_string(&path) {
                    Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        timeout(Duration::from_secs(10), written).await.unwrap()
    }

    /// Replaces the unit's configuration, as kayak does it.
    fn configure(&self, content: &str) {
        fs::write(self.root.path().join("new"), content).unwrap();
        fs::rename(self.root.path().join("new"), self.root.path().join("config")).unwrap();
    }

    async fn stop(self) -> tempfile::TempDir {
        self.wish.send_replace(None);
        timeout(2 * GRACE, self.task).await.unwrap().unwrap();
        self.root
    }
}

#[tokio::test]
async fn a_unit_that_ends_is_started_again_and_its_last_words_are_kept() {
    // It ends at its first start only.
    let run = Run::start("test -e $ROOT/again && exec sleep 1000; touch $ROOT/again; echo alas >&2; exit 3");
    let status = run.until(|unit| unit.restarts == 1 && unit.ready).await;
    assert_eq!(status.last_end.unwrap(), "it ended with exit status: 3; its last lines:\nalas");
    run.stop().await;
}

#[tokio::test]
async fn a_unit_that_does_not_stop_is_killed_but_what_it_started_lives_on() {
    let run = Run::start("trap '' TERM; sleep 30 & echo $! > $ROOT/child; while :; do wait; done");
    let child = run.line("child").await.parse().unwrap();
    run.stop().await;
    let child = Process::open(child).unwrap().expect("the child still runs");
    child.end().await.unwrap();
}

#[tokio::test]
async fn a_unit_that_cannot_be_started_says_why() {
    let run = Run::start("");
    run.wish.send_modify(|unit| unit.as_mut().unwrap().command = vec!["/nonexistent/program".into()]);
    let status = run.until(|unit| unit.last_end.as_ref().is_some_and(|end| end.contains("program"))).await;
    let end = status.last_end.unwrap();
    assert!(end.starts_with("failed to start `/nonexistent/program`: "), "{end}");
    run.stop().await;
}

#[tokio::test]
async fn a_unit_is_started_again_once_when_its_file_holds_something_else() {
    let run = Run::start("cat $ROOT/config >> $ROOT/read; exec sleep 1000");
    run.configure("one\n");
    assert_eq!(run.line("read").await, "one");
    fs::remove_file(run.root.path().join("read")).unwrap();
    // The same in another file is no change, and two changes at once are one.
    for content in ["one\n", "two\n", "three\n"] {
        run.configure(content);
    }
    let told = run.until(|unit| !unit.ready).await;
    let config = run.root.path().join("config").display().to_string();
    assert_eq!(told.because.unwrap(), format!("it is to be started with what is in `{config}` now"));
    let status = run.until(|unit| unit.ready).await;
    assert_eq!(status.restarts, 1);
    assert_eq!(run.line("read").await, "three");
    run.stop().await;
}

#[tokio::test]
async fn the_next_agent_goes_on_with_a_unit_and_reads_what_it_writes() {
    let script = "echo $$ > $ROOT/pid; read line < $ROOT/tell; echo $line; exec sleep 1000";
    let root = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("tell"), rustix::fs::Mode::RWXU).unwrap();
    let mut run = Run::start_in(root, script);
    let pid = run.line("pid").await;
    run.until(|unit| unit.ready).await;
    // An agent that is killed says nothing to anybody.
    run.task.abort();
    assert!((&mut run.task).await.unwrap_err().is_cancelled());
    // The unit writes meanwhile, and is not killed for it.
    fs::write(run.root.path().join("tell"), "while nobody read\n").unwrap();

    let mut run = Run::start_in(run.root, script);
    run.until(|unit| unit.ready).await;
    assert_eq!(run.line("pid").await, pid);
    assert_eq!(run.line("unit.log").await, "while nobody read");
    run.task.abort();
    assert!((&mut run.task).await.unwrap_err().is_cancelled());

    // What changed while no agent was there is noticed by the next one.
    run.configure("changed");
    fs::remove_file(run.root.path().join("pid")).unwrap();
    let run = Run::start_in(run.root, script);
    run.until(|unit| unit.ready).await;
    assert_ne!(run.line("pid").await, pid);
    run.stop().await;
}

#[tokio::test]
async fn a_unit_that_falls_silent_is_not_ready() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let run = Run::start("exec sleep 1000");
    run.wish.send_modify(|unit| {
        let path = "/healthz".to_owned();
        unit.as_mut().unwrap().health = Some(kayak_core::node::Health::Http { address, path });
    });
    // Nobody answers yet.
    run.until(|unit| unit.because.as_ref().is_some_and(|b| b.starts_with("it is starting: "))).await;
    let answering = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            // Closed with something unread, it would take its answer back.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
        }
    });
    run.until(|unit| unit.ready).await;
    answering.abort();
    let silent = run.until(|unit| !unit.ready).await;
    assert!(silent.because.unwrap().starts_with("it is not well: "));
    run.stop().await;
}
