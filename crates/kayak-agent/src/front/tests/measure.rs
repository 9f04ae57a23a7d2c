//! What a front costs, beside a direct connection; the numbers are in docs/balancer.md.
//!
//! ```text
//! cargo test --release -p kayak-agent --lib front::tests::measure -- --ignored --nocapture
//! ```

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::mpsc;

use super::*;

const PORT: u16 = 17200;
const CONNECTIONS: usize = 3000;
const ROUND_TRIPS: usize = 30_000;
const MEBIBYTES: u64 = 2048;
/// Each is measured as often, in turn: the machine does other things too.
const ROUNDS: usize = 5;

#[test]
#[ignore = "it measures, and tells nothing about right and wrong"]
#[expect(clippy::print_stdout, reason = "its only purpose")]
fn measure_the_front() {
    let authority = Arc::new(authority());
    let (instance, front) = (serve_alone(&authority), front_alone(authority));
    let mut measured = [(); 2].map(|()| [(); 3].map(|()| Vec::new()));
    for _ in 0..ROUNDS {
        for (address, results) in [instance, front].iter().zip(&mut measured) {
            let figures = [connect_and_ask(*address), round_trip(*address), rate(*address)];
            figures.into_iter().zip(results).for_each(|(figure, results)| results.push(figure));
        }
    }
    let [direct, through] = measured.map(|results| results.map(median));
    let names = ["new connection and one answer, µs", "round trip on a connection, µs", "one stream, MiB/s"];
    for ((name, direct), through) in names.iter().zip(direct).zip(through) {
        println!("{name}: {direct:.0} direct, {through:.0} through the front");
    }
}

/// The instance, on a thread of its own as it is a process of its own otherwise.
fn serve_alone(authority: &Arc<Authority>) -> SocketAddr {
    let authority = Arc::clone(authority);
    on_a_thread(move |tell| async move {
        let process = Process::start("measured", PORT, &authority, 200).await;
        tell.send(process.address).unwrap();
        std::future::pending::<()>().await;
    })
}

fn front_alone(authority: Arc<Authority>) -> SocketAddr {
    on_a_thread(move |tell| async move {
        let world = World::with(authority, [127, 0, 0, 1], PORT).await;
        let found = Found { uid: "measured".into(), pod: "pod".into(), created_at: i64::MAX };
        world.found.send_replace([(COMPONENT.to_owned(), vec![found])].into());
        world.ready(&["measured"]).await;
        tell.send(world.address).unwrap();
        std::future::pending::<()>().await;
    })
}

/// Runs something for ever in an event loop like the agent's, and returns what it tells.
fn on_a_thread<F: Future<Output = ()>>(
    run: impl FnOnce(mpsc::Sender<SocketAddr>) -> F + Send + 'static,
) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(tell));
    });
    told.recv().unwrap()
}

/// Microseconds from nothing to the first answer.
fn connect_and_ask(address: SocketAddr) -> f64 {
    median((0..CONNECTIONS).map(|_| {
        let begin = std::time::Instant::now();
        drop(talk_to(address, b'x'));
        micros(begin)
    }))
}

/// Microseconds from a small question to its answer.
fn round_trip(address: SocketAddr) -> f64 {
    let mut stream = talk_to(address, b'x');
    median((0..ROUND_TRIPS).map(|_| {
        let begin = std::time::Instant::now();
        stream.write_all(&[7; 100]).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        micros(begin)
    }))
}

/// MiB a second that one connection brings.
fn rate(address: SocketAddr) -> f64 {
    let mut stream = talk_to(address, FLOOD);
    let begin = std::time::Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut left = MEBIBYTES << 20;
    while left > 0 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        left = left.saturating_sub(u64::try_from(count).unwrap());
    }
    f64::from(u32::try_from(MEBIBYTES).unwrap()) / begin.elapsed().as_secs_f64()
}

/// Opens a connection to the measured instance and takes in its greeting.
fn talk_to(address: SocketAddr, first: u8) -> StdStream {
    let mut stream = StdStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[first]).unwrap();
    stream.read_exact(&mut [0; "measured\n".len()]).unwrap();
    stream
}

fn micros(begin: std::time::Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
