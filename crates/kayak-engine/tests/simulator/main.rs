//! kayak's own code against a simulated machine: cut off anywhere and run again, it ends where an
//! undisturbed run does. Time is simulated too, so that waiting costs nothing.
//!
//! The simulated node knows nothing of kayak but files and objects; it refuses what a real one refuses,
//! and writes down when the API goes away although nobody stopped the node.

#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod converged;
mod cut_anywhere;
mod driver;
mod life;
mod machine;
mod objects;
mod seeds;
mod sim;
mod world;
