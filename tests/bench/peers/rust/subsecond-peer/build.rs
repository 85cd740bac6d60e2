//! subsecond finds the running program by its symbol `main`.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=main");
}
