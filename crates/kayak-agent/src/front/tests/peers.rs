//! A front before instances of other nodes.

use super::*;

#[tokio::test]
async fn a_nodes_own_address_hands_out_its_instances_only() {
    let world = World::new(17101).await;
    let (own, other) = (world.start("own", 200).await, world.start("other", 200).await);
    world.running(&[&own]);
    world.others(&[other.address]);
    world.ready(&["own", &other.address.to_string()]).await;
    let status = world.status(&other.address.to_string());
    assert_eq!(status.node, Some(format!("node-{}", other.address)));
    let (name, _first) = connect(world.address).await;
    assert_eq!(name, "own", "among equals this node's");
    let (name, _second) = connect(world.address).await;
    assert_eq!(name, "other", "the one with fewer connections");
    for _ in 0..20 {
        assert_eq!(connect(world.own).await.0, "own");
    }
}

#[tokio::test]
async fn with_another_node_ready_clients_are_served_whatever_happens_here() {
    let world = World::new(17102).await;
    let (own, other) = (world.start("own", SILENT).await, world.start("other", 200).await);
    world.running(&[]);
    world.others(&[other.address]);
    listens(world.own, false).await;
    assert_eq!(world.connect().await.0, "other");
    world.running(&[&own]);
    listens(world.own, true).await;
    assert_eq!(world.connect().await.0, "other");
}

/// The kubelet asks for its Node before it starts etcd, without which no API server gets ready anywhere.
#[tokio::test]
async fn nobody_listens_at_a_cold_start_of_all_nodes() {
    let world = World::new(17103).await;
    let silent = world.start("silent", SILENT).await;
    let refuses = SocketAddr::from(([127, 0, 0, 1], 9));
    world.running(&[]);
    world.others(&[silent.address, refuses]);
    world.listens(false).await;
    silent.answers(200);
    listens(world.address, true).await;
    assert_eq!(world.connect().await.0, "silent");
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_within_two_seconds_with_its_connections() {
    let world = World::new(17104).await;
    let (dies, lives) = (world.start("dies", 200).await, world.start("lives", 200).await);
    world.running(&[]);
    world.others(&[dies.address]);
    world.ready(&[&dies.address.to_string()]).await;
    let (_, mut established) = world.connect().await;
    assert!(echoes(&mut established).await);
    world.others(&[dies.address, lives.address]);
    let mut changes = world.pool.subscribe();
    let both_ready =
        |known: &pool::Known| known.seen().unwrap().iter().filter(|i| i.status().ready).count() == 2;
    drop(timeout(Duration::from_secs(5), changes.wait_for(both_ready)).await.unwrap().unwrap());

    dies.answers(SILENT);
    let begin = Instant::now();
    let left = async {
        world.ready(&[&lives.address.to_string()]).await;
        begin.elapsed()
    };
    let (left, ended) = tokio::join!(left, ends(&mut established));
    // A little more than what is promised, as the machine does other things too.
    let promised = Duration::from_millis(2200);
    assert!(left < promised && ended < promised, "left after {left:?}, closed after {ended:?}");
    assert_eq!(world.connect().await.0, "lives");
    dies.answers(200);
    drop(timeout(Duration::from_secs(5), changes.wait_for(both_ready)).await.unwrap().unwrap());
}

#[tokio::test]
async fn other_nodes_come_and_go_without_a_gap() {
    let world = World::new(17105).await;
    let (own, other) = (world.start("own", 200).await, world.start("other", 200).await);
    world.running(&[&own]);
    world.ready(&["own"]).await;
    let (_, mut established) = world.connect().await;
    for round in 0..50 {
        world.others(if round % 2 == 0 { &[] } else { std::slice::from_ref(&other.address) });
        tokio::task::yield_now().await;
        let (name, _) = world.connect().await;
        assert!(["own", "other"].contains(&name.as_str()), "round {round}: {name}");
        assert!(echoes(&mut established).await, "round {round}");
    }
    let both = ["own", &other.address.to_string()];
    world.ready(&both).await;
    let (name, mut elsewhere) = world.connect().await;
    assert_eq!(name, "other");
    world.others(&[]);
    ends(&mut elsewhere).await;
    assert!(echoes(&mut established).await);
}

/// The front of another node, seen through this one's.
async fn two_nodes(port: u16) -> (World, World) {
    let here = World::new(port).await;
    let there = World::with(Arc::clone(&here.authority), [127, 0, 0, 2], port).await;
    here.running(&[]);
    here.others(&[there.own]);
    (here, there)
}

#[tokio::test]
async fn another_nodes_rollout_is_not_noticed() {
    let (here, there) = two_nodes(17106).await;
    let (old, new) = (there.start("old", 200).await, there.start("new", 500).await);
    there.running(&[&old, &new]);
    let peer = there.own.to_string();
    here.ready(&[&peer]).await;
    let (_, mut stream) = here.connect().await;
    new.answers(200);
    there.ready(&["old", "new"]).await;
    old.answers(LEAVING);
    // For a while the probes' connection leads to the one that leaves.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert!(["old", "new"].contains(&here.connect().await.0.as_str()));
        assert!(asked.elapsed() < Duration::from_millis(1500), "held for {:?}", asked.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(here.status(&peer).ready);
    assert_eq!(here.connect().await.0, "new");
    assert!(echoes(&mut stream).await, "what the old one has begun it finishes");
    there.running(&[&new]);
    ends(&mut stream).await;
    assert!(here.status(&peer).ready);
}

#[tokio::test]
async fn an_instance_elsewhere_that_leaves_without_another_keeps_its_connections() {
    let (here, there) = two_nodes(17107).await;
    let old = there.start("old", 200).await;
    there.running(&[&old]);
    let peer = there.own.to_string();
    here.ready(&[&peer]).await;
    let (_, mut stream) = here.connect().await;
    old.answers(LEAVING);
    let begin = Instant::now();
    here.ready(&[]).await;
    assert!(begin.elapsed() < Duration::from_secs(2));
    sleep(Duration::from_secs(3)).await;
    let because = here.status(&peer).because.unwrap();
    assert!(because.contains("503"), "{because}");
    assert!(echoes(&mut stream).await);
}

/// The other front holds the probe as it holds any client.
#[tokio::test]
async fn an_instance_elsewhere_is_given_connections_as_soon_as_it_is_ready() {
    let (here, there) = two_nodes(17108).await;
    let late = there.start("late", 500).await;
    there.running(&[&late]);
    sleep(Duration::from_secs(4)).await;
    late.answers(200);
    let begin = Instant::now();
    here.ready(&[&there.own.to_string()]).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// Streams through other nodes' agents last for as long as their own API server lets them.
#[tokio::test]
async fn one_that_leaves_without_another_where_other_nodes_serve_keeps_its_connections() {
    let (here, there) = two_nodes(17109).await;
    let (old, elsewhere) = (there.start("old", 200).await, here.start("elsewhere", 200).await);
    there.running(&[&old]);
    there.others(&[elsewhere.address]);
    let peer = there.own.to_string();
    here.ready(&[&peer]).await;
    let (_, mut stream) = here.connect().await;
    there.ready(&["old", &elsewhere.address.to_string()]).await;
    old.answers(LEAVING);
    sleep(Duration::from_secs(1)).await;
    // Nobody is accepted any more, and whoever asked on a kept connection has lost it.
    old.finishes();
    sleep(Duration::from_secs(4)).await;
    assert!(!here.status(&peer).ready);
    assert!(echoes(&mut stream).await, "what it has begun it finishes");
    listens(there.own, false).await;
}
