//! The choice and the hope, in a time that the tests make pass.

use std::collections::VecDeque;

use tokio::time::{advance, timeout};

use super::*;

impl Pool {
    fn may_become_ready(&self, among: Among) -> bool {
        self.hope(among) > Instant::now()
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// A second less than an instance is waited for.
const ALMOST: Duration = COMES_BACK.saturating_sub(SECOND);

fn address() -> SocketAddr {
    "127.64.0.1:1".parse().unwrap()
}

/// A pool that has looked, with these instances of this node.
fn pool(uids: &[&str]) -> Pool {
    let pool = Pool::new();
    assert!(pool.looked());
    for uid in uids {
        pool.add(Instance::here(uid, uid, address(), Duration::ZERO));
    }
    pool
}

/// The front of another node, and what it is known as.
const PEER: &str = "192.0.2.1:6443";

fn add_peer(pool: &Pool) {
    pool.add(Instance::of_peer("other", PEER.parse().unwrap()));
}

fn picked(pool: &Pool, among: Among) -> Option<String> {
    pool.pick(among).map(|picked| picked.uid.clone())
}

#[tokio::test(start_paused = true)]
async fn the_ready_one_with_the_fewest_connections_is_chosen() {
    let pool = pool(&["a", "b"]);
    assert_eq!(picked(&pool, Among::All), None);
    pool.set_ready("a", None);
    pool.set_ready("b", None);
    let first = pool.pick(Among::All).unwrap();
    assert_eq!(first.uid, "a");
    assert_eq!(picked(&pool, Among::All).as_deref(), Some("b"));
    drop(first);
    assert_eq!(picked(&pool, Among::All).as_deref(), Some("a"), "a dropped connection counts no more");
    pool.set_ready("a", Some("it left"));
    assert_eq!(picked(&pool, Among::All).as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn others_nodes_instances_are_for_this_nodes_clients_and_come_after_its_own() {
    let pool = pool(&[]);
    add_peer(&pool);
    pool.set_ready(PEER, None);
    assert_eq!(picked(&pool, Among::Own), None);
    assert_eq!(picked(&pool, Among::All).as_deref(), Some(PEER));
    // Found later, and first all the same.
    pool.add(Instance::here("own", "own", address(), Duration::ZERO));
    pool.set_ready("own", None);
    let mut kept = VecDeque::new();
    for expected in ["own", PEER, "own", PEER] {
        kept.push_back(pool.pick(Among::All).unwrap());
        assert_eq!(kept[kept.len() - 1].uid, expected);
    }
    assert_eq!(picked(&pool, Among::Own).as_deref(), Some("own"), "whatever it has already");
}

#[tokio::test(start_paused = true)]
async fn clients_wait_only_where_an_instance_may_become_ready() {
    let pool = Pool::new();
    assert!(pool.may_become_ready(Among::Own), "nobody looked yet");
    assert!(pool.looked() && !pool.looked());
    assert!(!pool.may_become_ready(Among::Own), "none runs");
    pool.add(Instance::here("a", "a", address(), Duration::ZERO));
    assert!(pool.may_become_ready(Among::Own), "one has just started");
    pool.remove("a");
    assert!(!pool.may_become_ready(Among::Own), "it was never ready");
    pool.add(Instance::here("b", "b", address(), Duration::ZERO));
    pool.set_ready("b", None);
    advance(100 * SECOND).await;
    assert!(pool.may_become_ready(Among::Own), "it is ready");
    pool.remove("b");
    assert!(pool.may_become_ready(Among::Own), "it was ready a moment ago");
    advance(COMES_BACK).await;
    assert!(!pool.may_become_ready(Among::Own), "it does not come back");
}

/// The API server runs and waits for etcd, etcd waits for the kubelet, and the kubelet for the front.
#[tokio::test(start_paused = true)]
async fn one_that_runs_and_is_not_ready_is_not_waited_for_for_ever() {
    let pool = pool(&["waiting"]);
    let begin = Instant::now();
    timeout(COMES_BACK + SECOND, pool.until(Among::Own, false)).await.unwrap();
    // Tokio's clock ticks in milliseconds.
    assert!(begin.elapsed() < COMES_BACK + Duration::from_millis(10));
    pool.set_ready("waiting", Some("another reason"));
    assert!(!pool.may_become_ready(Among::Own), "still not");
    pool.restarted("waiting");
    assert!(pool.may_become_ready(Among::Own), "its container has just started");
    advance(COMES_BACK).await;
    pool.set_ready("waiting", None);
    assert!(pool.may_become_ready(Among::Own));
    advance(100 * SECOND).await;
    pool.set_ready("waiting", Some("it is silent"));
    timeout(ALMOST, pool.until(Among::Own, false)).await.unwrap_err();
    timeout(2 * SECOND, pool.until(Among::Own, false)).await.unwrap();
}

/// What an agent that starts anew finds may have run for long.
#[tokio::test(start_paused = true)]
async fn the_age_of_a_container_counts() {
    let pool = pool(&[]);
    pool.add(Instance::here("old", "old", address(), COMES_BACK));
    assert!(!pool.may_become_ready(Among::Own));
    pool.add(Instance::here("young", "young", address(), ALMOST));
    assert!(pool.may_become_ready(Among::Own));
    advance(SECOND).await;
    assert!(!pool.may_become_ready(Among::Own));
}

#[tokio::test(start_paused = true)]
async fn another_node_is_waited_for_until_it_was_asked_and_after_it_was_ready() {
    let pool = pool(&[]);
    add_peer(&pool);
    assert!(!pool.may_become_ready(Among::Own), "it is no business of others");
    assert!(pool.may_become_ready(Among::All), "it was not asked yet");
    pool.set_ready(PEER, Some("it does not answer"));
    advance(FIRST_ANSWER).await;
    assert!(!pool.may_become_ready(Among::All), "this node's etcd may be what it waits for");
    pool.set_ready(PEER, None);
    advance(100 * SECOND).await;
    assert!(pool.may_become_ready(Among::All));
    pool.set_ready(PEER, Some("it does not answer"));
    advance(ALMOST).await;
    assert!(pool.may_become_ready(Among::All), "it may come back");
    advance(SECOND).await;
    assert!(!pool.may_become_ready(Among::All));
    pool.set_ready(PEER, None);
    pool.remove(PEER);
    assert!(!pool.may_become_ready(Among::All), "it is no controller any more");
}

#[tokio::test(start_paused = true)]
async fn with_another_node_ready_what_happens_here_does_not_matter() {
    let pool = pool(&["dead"]);
    add_peer(&pool);
    pool.set_ready(PEER, None);
    advance(100 * SECOND).await;
    assert!(!pool.may_become_ready(Among::Own));
    assert_eq!(picked(&pool, Among::All).as_deref(), Some(PEER));
    pool.remove("dead");
    assert_eq!(picked(&pool, Among::All).as_deref(), Some(PEER));
}

#[tokio::test(start_paused = true)]
async fn clients_from_elsewhere_are_soon_refused_where_another_node_can_serve_them() {
    let pool = pool(&["own"]);
    add_peer(&pool);
    pool.set_ready("own", None);
    pool.set_ready(PEER, None);
    advance(100 * SECOND).await;
    assert!(pool.may_become_ready(Among::Own));
    pool.set_ready("own", Some("it does not answer"));
    assert!(pool.may_become_ready(Among::Own), "a successor may be about to be ready");
    timeout(ELSEWHERE + Duration::from_millis(10), pool.until(Among::Own, false)).await.unwrap();
    assert!(pool.may_become_ready(Among::All));
    pool.set_ready(PEER, Some("it does not answer either"));
    assert!(pool.may_become_ready(Among::Own), "nobody can serve them, so they wait");
    pool.set_ready(PEER, None);
    assert!(!pool.may_become_ready(Among::Own));
    pool.set_ready("own", None);
    assert!(pool.may_become_ready(Among::Own), "it is back");
}

#[tokio::test(start_paused = true)]
async fn until_a_checkpoint_runs_nobody_is_waited_for_who_is_not_ready() {
    let pool = pool(&["crashes", "leaves"]);
    pool.set_ready("leaves", None);
    pool.set_checkpoint(true);
    assert!(pool.may_become_ready(Among::Own), "one is ready");
    pool.set_ready("leaves", Some("it left"));
    assert!(!pool.may_become_ready(Among::All), "the kubelet must not be held, which is to start it");
    pool.remove("crashes");
    pool.add(Instance::here("crashes", "crashes", address(), Duration::ZERO));
    assert!(!pool.may_become_ready(Among::All));
    pool.add(Instance::here("copy", "checkpoint-kube-apiserver-cp-1", address(), Duration::ZERO));
    assert!(pool.may_become_ready(Among::All));
    pool.set_checkpoint(false);
    assert!(pool.may_become_ready(Among::All));
}
