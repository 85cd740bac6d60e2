//! hot-lib-reloader 0.8.2 with its smallest debounce: 0 ms would make its watching thread spin.

#[hot_lib_reloader::hot_module(dylib = "peermodule", lib_dir = std::env::var("HOT_LIB_DIR").expect("HOT_LIB_DIR"),
    file_watch_debounce = 1)]
mod hot {
    pub use harness::State;

    #[hot_functions]
    extern "Rust" {
        pub fn a(state: &mut State, input: &i64, output: &mut i64) -> i32;
        pub fn b(state: &mut State, input: &i64, output: &mut i64) -> i32;
    }
}

include!("peer.rs");
