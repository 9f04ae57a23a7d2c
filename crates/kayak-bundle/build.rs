//! Makes cargo compile the crate again when a file of `components/` changed: `include_dir!` alone
//! does not tell it which files it read.

fn main() {
    println!("cargo::rerun-if-changed=../../components");
}
