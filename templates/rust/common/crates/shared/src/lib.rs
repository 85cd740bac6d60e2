//! What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
//! again, with the newest modules.
//!
//! `#[repr(C)]`, because host and modules are built apart: without it the compiler may order the fields anew each time.

/// Owned by the host; survives every swap.
#[repr(C)]
#[derive(Debug, Default)]
pub struct State {
    pub count: i64,
}

/// The output of the slot `@NAME@.tick`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Tick {
    /// What the count grew by.
    pub step: i64,
}
