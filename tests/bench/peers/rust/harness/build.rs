//! Compiles the harness, which the C peers use too.

fn main() {
    println!("cargo:rerun-if-changed=../../harness.c");
    println!("cargo:rerun-if-changed=../../harness.h");
    cc::Build::new().file("../../harness.c").std("c11").opt_level(2).compile("harness");
}
