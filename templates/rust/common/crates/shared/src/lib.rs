//! What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
//! again, with the newest modules.
//!
//! `layout!` makes the structs `#[repr(C)]` and describes them: a module that was built with others is refused.

hotreload::layout! {
    /// Owned by the host; survives every swap.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct State {
        pub count: i64,
    }

    /// The output of the slot `@NAME@.tick`.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Tick {
        /// What the count grew by.
        pub step: i64,
    }
}
