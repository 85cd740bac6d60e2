//! What host and patch modules share: the types of the slot `counter.step`.
//!
//! `layout!` makes them `#[repr(C)]`, because host and modules are built apart: without it the compiler may order the
//! fields anew each time. And it describes them: a module that was built with others is refused, field by field.

hotreload::layout! {
    /// Lives in the host, through every reload.
    #[derive(Debug, Default)]
    pub struct Counter {
        pub value: i64,
        /// Steps so far, whoever implemented them.
        pub steps: u64,
    }

    /// The input of a step.
    #[derive(Debug)]
    pub struct Step {
        pub amount: i64,
    }

    /// The output of a step.
    #[derive(Debug, Default)]
    pub struct Stepped {
        pub value: i64,
        /// The number of the implementation that ran: 0 is the host's own.
        pub implementation: u32,
    }
}
