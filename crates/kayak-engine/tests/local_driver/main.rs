//! The local driver on this machine, with the real bundle: containers, a bridge and rules are made
//! and must be gone afterwards.
//!
//! Needs root and a built bundle (`kayak bundle build`); run with `--ignored`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod machine;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use kayak_bundle::Bundle;
use kayak_engine::driver::{Driver as _, ExecIo, FileContent, NodeFile, NodeState};
use kayak_engine::store::{self, Cloned};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::machine::{Machine, Outside};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn a_node_lives_and_leaves_nothing() {
    let machine = Machine::new("t-drv-life", 77).await;
    let one = machine.id("one");
    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    assert_eq!(machine.driver.state(&one).await.unwrap(), NodeState::Absent);
    machine.driver.create(&machine.node("one", 11)).await.unwrap();
    assert_eq!(machine.driver.state(&one).await.unwrap(), NodeState::Stopped);

    let key = Utf8Path::new("/etc/kubernetes/pki/key");
    let file =
        NodeFile { path: key.into(), content: FileContent::Regular { bytes: b"secret".into(), mode: 0o600 } };
    machine.driver.put(&one, &[file]).await.unwrap();

    machine.driver.start(&one).await.unwrap();
    let pid = machine.pid("one").await;
    machine.driver.start(&one).await.unwrap();
    assert_eq!(machine.pid("one").await, pid);

    assert_eq!(
        machine.sh("one", "cat /etc/kubernetes/pki/key; stat -c ' %a' /etc/kubernetes/pki/key; exit 7").await,
        (7, "secret 600".into())
    );
    assert_eq!(
        machine.sh("one", "cat /proc/sys/kernel/hostname; test -x /usr/bin/kayak && echo has kayak").await.1,
        "one\nhas kayak"
    );
    assert_eq!(machine.sh("one", "cat /proc/1/comm").await.1, "bash");
    let (_, mounts) = machine.sh("one", "cat /proc/1/mountinfo").await;
    for point in ["/", "/var", "/etc/kubernetes", "/run", "/tmp"] {
        let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(point));
        assert!(line.is_some_and(|line| line.contains(" shared:")), "{point} in\n{mounts}");
    }

    machine.sh("one", "echo gone > /etc/file; echo gone > /run/file; echo kept > /var/file; mkdir /sys/fs/cgroup/*/inner").await;
    machine.driver.stop(&one).await.unwrap();
    assert_eq!(machine.driver.state(&one).await.unwrap(), NodeState::Stopped);
    machine.driver.start(&one).await.unwrap();
    assert_eq!(machine.sh("one", "cat /etc/file /run/file 2>/dev/null; cat /var/file").await.1, "kept");
    assert_eq!(machine.driver.get(&one, "/var/file".into()).await.unwrap().unwrap(), b"kept\n");
    assert_eq!(machine.driver.get(&one, "/var/absent".into()).await.unwrap(), None);
    assert!(machine.driver.get(&one, "/etc/passwd".into()).await.is_err());
    assert_eq!(machine.driver.console(&one).await.unwrap(), "up\nup");

    machine.driver.remove(&one).await.unwrap();
    assert_eq!(machine.driver.state(&one).await.unwrap(), NodeState::Absent);
    machine.driver.remove(&one).await.unwrap();
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn programs_are_fed_and_may_stop_reading() {
    let machine = Machine::new("t-drv-exec", 78).await;
    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    machine.up("one", 11).await;
    let input = vec![b'x'; 8 << 20];
    for (script, said, codes) in [
        ("wc -c", "8388608\n", [0, 0]),
        // runc passes the signal of the closed pipe on to the program, if that is still there.
        ("head -c 3", "xxx", [0, 141]),
    ] {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let io = ExecIo::Streams { stdin: &mut input.as_slice(), stdout: &mut stdout, stderr: &mut stderr };
        let command = ["bash", "-c", script].map(str::to_owned);
        let code = machine.driver.exec(&machine.id("one"), &command, io).await.unwrap();
        assert!(codes.contains(&code), "{code}");
        assert_eq!(String::from_utf8(stdout).unwrap(), said);
    }
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn nodes_reach_each_other_and_nothing_else() {
    let machine = Machine::new("t-drv-net", 79).await;
    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    machine.up("one", 11).await;
    machine.up("two", 12).await;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();

    let connect = |to: &str, port: u16| format!("timeout 5 bash -c '</dev/tcp/{to}/{port}' 2>&1");
    // Nothing listens there: whoever is refused was heard.
    let (_, said) = machine.sh("one", &connect("10.253.79.12", 4)).await;
    assert!(said.contains("Connection refused"), "{said}");
    let from_host = TcpStream::connect_timeout(&"10.253.79.11:4".parse().unwrap(), Duration::from_secs(5));
    assert_eq!(from_host.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    // The machine itself, by its address on the bridge and by any other; the test networks of
    // RFC 5737; a pod and a service that do not exist. All are told at once.
    for to in ["10.253.79.1", "192.0.2.2", "198.51.100.1", "10.254.79.130"] {
        let begin = Instant::now();
        let (code, said) = machine.sh("one", &connect(to, port)).await;
        assert!(code != 0 && code != 124 && !said.contains("Connection refused"), "{to}: {code} {said}");
        assert!(begin.elapsed() < Duration::from_secs(4));
    }
    // Nor does the machine send anything for pods and services elsewhere.
    for to in ["10.254.79.5:80", "10.254.79.130:80"] {
        let sent = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(5));
        assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::HostUnreachable);
    }
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn what_a_killed_run_left_is_found_and_removed() {
    let machine = Machine::new("t-drv-cut", 80).await;
    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    machine.up("killed", 11).await;
    machine.up("lost", 12).await;
    machine.up("stuck", 13).await;
    // The first process dies behind runc's back.
    let process = Pid::from_raw(machine.pid("killed").await.cast_signed()).unwrap();
    let end = pidfd_open(process, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&end, Signal::KILL).unwrap();
    poll(&mut [PollFd::new(&end, PollFlags::IN)], None).unwrap();
    // runc has forgotten a container that runs, and its files are gone.
    std::fs::remove_dir_all(machine.paths.run.join("t-drv-cut/runc/lost")).unwrap();
    std::fs::remove_dir_all(machine.paths.state.join("t-drv-cut/nodes/lost")).unwrap();
    // A container without its specification, and one whose state is half written.
    std::fs::remove_file(machine.paths.state.join("t-drv-cut/nodes/stuck/local.json")).unwrap();
    std::fs::write(machine.paths.run.join("t-drv-cut/runc/stuck/state.json"), "{").unwrap();

    assert_eq!(machine.driver.nodes("t-drv-cut").await.unwrap(), ["killed", "lost", "stuck"]);
    assert_eq!(machine.driver.state(&machine.id("killed")).await.unwrap(), NodeState::Stopped);
    assert_eq!(machine.driver.state(&machine.id("lost")).await.unwrap(), NodeState::Stopped);
    machine.driver.start(&machine.id("killed")).await.unwrap();
    machine.pid("killed").await;

    // Nothing but control groups and the bridge tell of the cluster.
    std::fs::remove_dir_all(&machine.paths.state).unwrap();
    std::fs::remove_dir_all(&machine.paths.run).unwrap();
    assert!(machine.driver.clusters().unwrap().contains(&"t-drv-cut".to_owned()));
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn a_store_is_prepared_once_and_linked() {
    let machine = Machine::new("t-drv-store", 81).await;
    let bundle = Bundle::open(&machine.paths.cache.join("bundle")).unwrap();
    let store = store::prepare(&bundle, &machine.paths.cache).await.unwrap();
    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    machine.driver.create(&machine.node("one", 11)).await.unwrap();
    let var = machine.driver.directory(&machine.id("one"), "/var".into()).unwrap();
    assert_eq!(store::clone_into(&store, &var).await.unwrap(), Cloned::Made);
    assert_eq!(store::clone_into(&store, &var).await.unwrap(), Cloned::Same);
    machine.driver.start(&machine.id("one")).await.unwrap();
    let (code, said) = machine
        .sh(
            "one",
            "exec 3< <(exec containerd 2>&1); while read -r line <&3; do [[ $line == *booted* ]] && break; done
             ctr -n k8s.io images check && ctr -n k8s.io leases ls && kill $!",
        )
        .await;
    assert_eq!(code, 0);
    for image in bundle.images().iter().filter(|image| !image.reference().contains("/node:")) {
        let line = said.lines().find(|line| line.starts_with(image.reference()));
        assert!(line.is_some_and(|line| line.contains("complete") && line.ends_with("true")), "{said}");
    }
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn a_start_that_was_cut_off_anywhere_is_finished_by_the_next() {
    let machine = Machine::new("t-drv-part", 82).await;
    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    machine.driver.create(&machine.node("one", 11)).await.unwrap();
    let one = machine.id("one");
    let mut cut = 0;
    for patience in (0..150).step_by(5) {
        let start = machine.driver.start(&one);
        if tokio::time::timeout(Duration::from_millis(patience), start).await.is_err() {
            cut += 1;
            // Every other time the next act is to remove it.
            if cut % 2 == 0 {
                machine.driver.remove(&one).await.unwrap();
                assert_eq!(machine.driver.state(&one).await.unwrap(), NodeState::Absent);
                machine.driver.create(&machine.node("one", 11)).await.unwrap();
            }
        }
        machine.driver.start(&one).await.unwrap();
        assert_eq!(machine.sh("one", "echo here").await.1, "here");
        machine.driver.stop(&one).await.unwrap();
    }
    assert!(cut > 5);
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a built bundle"]
async fn with_egress_nodes_reach_out_by_the_machines_address() {
    let forwards = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let before = forwards();
    let machine = Machine::new("t-drv-out", 83).await;
    machine.driver.prepare(&machine.cluster(true)).await.unwrap();
    machine.up("one", 11).await;
    let outside = Outside::new(&machine.root());
    let probe = |to: &str| format!("timeout 3 bash -c '</dev/tcp/{to}/4' 2>&1");

    // It has no way back to the node, only to the machine.
    let (_, said) = machine.sh("one", &probe("10.253.84.2")).await;
    assert!(said.contains("Connection refused"), "{said}");
    outside.run("ip", &["route", "add", "10.253.83.0/24", "via", "10.253.84.1"]);
    assert_eq!(outside.run("bash", &["-c", &probe("10.253.83.11")]), 124);
    let (code, _) = machine.sh("one", &probe("10.254.83.130")).await;
    assert_eq!(code, 1, "a service that does not exist is refused at once");

    machine.driver.prepare(&machine.cluster(false)).await.unwrap();
    let (_, said) = machine.sh("one", &probe("10.253.84.2")).await;
    assert!(!said.contains("Connection refused"), "{said}");
    machine.driver.prepare(&machine.cluster(true)).await.unwrap();
    drop(outside);
    machine.end().await;
    assert_eq!(forwards(), before);
}
