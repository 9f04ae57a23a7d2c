//! A front before instances of its own node.

use super::*;

#[tokio::test]
async fn a_connection_is_held_until_an_instance_is_ready() {
    let world = World::new(17001).await;
    let instance = world.start("late", 500).await;
    world.running(&[&instance]);
    let connect = world.connect();
    tokio::pin!(connect);
    assert!(timeout(Duration::from_millis(500), &mut connect).await.is_err());
    let status = world.status("late");
    let because = "it answers 500 Internal Server Error to `/readyz`: etcd";
    assert_eq!(status.because.as_deref(), Some(because));
    instance.answers(200);
    let asked = Instant::now();
    assert_eq!(connect.await.0, "late");
    assert!(asked.elapsed() < Duration::from_millis(300));
}

#[tokio::test]
async fn nobody_listens_where_no_instance_may_come() {
    let world = World::new(17020).await;
    world.running(&[]);
    world.listens(false).await;
    let instance = world.start("first", 200).await;
    world.running(&[&instance]);
    world.listens(true).await;
    assert_eq!(world.connect().await.0, "first");
}

#[tokio::test]
async fn a_connection_is_not_held_for_ever() {
    let world = World::new(17002).await;
    let started = Instant::now();
    assert_eq!(world.connect().await.0, "");
    let held = started.elapsed().as_secs_f32();
    assert!((7.5..9.0).contains(&held), "held for {held} s");
}

#[tokio::test]
async fn a_new_instance_is_ready_only_by_its_own_answer() {
    let world = World::new(17003).await;
    let old = world.start("old", 200).await;
    let new = world.start("new", 500).await;
    world.running(&[&old, &new]);
    world.ready(&["old"]).await;
    for _ in 0..20 {
        assert_eq!(world.connect().await.0, "old");
    }
    new.answers(200);
    world.ready(&["old", "new"]).await;
    let (_first, held) = world.connect().await;
    assert_eq!(world.connect().await.0, "new", "the one with fewer connections");
    drop(held);
}

#[tokio::test]
async fn an_instance_with_a_certificate_of_others_is_never_ready() {
    let world = World::new(17004).await;
    let stranger = Process::start("stranger", world.port, &authority(), 200).await;
    world.running(&[&stranger]);
    sleep(Duration::from_millis(500)).await;
    let status = world.status("stranger");
    assert!(!status.ready);
    assert!(status.because.unwrap().contains("invalid peer certificate"));
}

#[tokio::test]
async fn whom_to_trust_may_be_written_later_and_anew() {
    let world = World::new(17010).await;
    std::fs::remove_file(&world.ca).unwrap();
    let instance = world.start("one", 200).await;
    world.running(&[&instance]);
    sleep(Duration::from_millis(300)).await;
    let status = world.status("one");
    assert!(status.because.unwrap().contains("failed to read `"));
    std::fs::write(&world.ca, authority().pem()).unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(world.pool.pick(Among::All).is_none());
    std::fs::write(&world.ca, world.authority.pem()).unwrap();
    world.ready(&["one"]).await;
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_next_instance() {
    let world = World::new(17005).await;
    let (one, two) = (world.start("one", 200).await, world.start("two", 200).await);
    world.running(&[&one, &two]);
    world.ready(&["one", "two"]).await;
    drop(one); // between two probes
    tokio::task::yield_now().await;
    for _ in 0..20 {
        assert_eq!(world.connect().await.0, "two");
    }
}

#[tokio::test]
async fn one_that_leaves_keeps_its_connections_and_gets_no_new_ones() {
    let world = World::new(17006).await;
    let (old, new) = (world.start("old", 200).await, world.start("new", 500).await);
    world.running(&[&old, &new]);
    world.ready(&["old"]).await;
    let (name, mut established) = world.connect().await;
    assert_eq!(name, "old");
    new.answers(200);
    old.answers(LEAVING);
    world.ready(&["new"]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.connect().await.0, "new");
    assert!(echoes(&mut established).await);
    // An API server does so as soon as it has said for a while that it leaves.
    old.finishes();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.connect().await.0, "new");
    assert!(echoes(&mut established).await);
    world.running(&[&new]);
    drop(old);
    ends(&mut established).await;
}

#[tokio::test]
async fn one_that_fails_loses_its_connections_where_there_is_another() {
    let world = World::new(17021).await;
    let (old, new) = (world.start("old", 200).await, world.start("new", 503).await);
    world.running(&[&old, &new]);
    world.ready(&["old"]).await;
    let (_, mut established) = world.connect().await;
    old.answers(500);
    world.ready(&[]).await;
    sleep(Duration::from_secs(2)).await;
    assert!(echoes(&mut established).await, "nobody else has anything better to offer");
    new.answers(200);
    assert!(ends(&mut established).await < Duration::from_secs(1));
    assert_eq!(world.connect().await.0, "new");
}

#[tokio::test]
async fn one_that_falls_silent_loses_its_connections_within_three_seconds() {
    let world = World::new(17007).await;
    let hung = world.start("hung", 200).await;
    world.running(&[&hung]);
    world.ready(&["hung"]).await;
    let (_, mut established) = world.connect().await;
    assert!(echoes(&mut established).await);
    hung.answers(SILENT);
    let since = ends(&mut established).await;
    assert!(since < Duration::from_secs(3), "{since:?}");
    hung.answers(200);
    world.ready(&["hung"]).await;
    assert_eq!(world.connect().await.0, "hung");
}

#[tokio::test]
async fn both_directions_end_by_themselves_and_large_transfers_arrive_whole() {
    let world = World::new(17008).await;
    let instance = world.start("echo", 200).await;
    world.running(&[&instance]);
    world.ready(&["echo"]).await;
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let write = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    sleep(Duration::from_millis(200)).await; // the way back is full by now
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    write.await.unwrap();
    let start = "echo\n".len();
    assert!(received[start..] == expected[..], "{} bytes came", received.len());
}
