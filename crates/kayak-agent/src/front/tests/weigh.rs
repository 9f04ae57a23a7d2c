//! What connections through a front cost.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;

use super::*;

/// In a process of its own, as memory is a process's and other tests use some meanwhile.
#[test]
fn a_thousand_idle_connections_are_cheap() {
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "front::tests::weigh::weigh_a_thousand_idle_connections", "--ignored"])
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
}

#[tokio::test]
#[ignore = "run by the test above, alone"]
async fn weigh_a_thousand_idle_connections() {
    let world = World::new(17009).await;
    let instance = world.start("idle", 200).await;
    world.running(&[&instance]);
    world.ready(&["idle"]).await;
    // Our side is bare sockets; what the instance spends on its side is weighed too.
    let before = resident();
    let address = world.address;
    let connect = move || {
        let mut client = StdStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client
    };
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(tokio::task::spawn_blocking(connect).await.unwrap());
    }
    let grown = (resident() - before) / 1024;
    assert!(grown < 8, "1,000 connections take {grown} MiB");
}

/// Returns the memory this process uses, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
