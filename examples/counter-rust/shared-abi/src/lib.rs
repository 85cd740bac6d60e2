//! What host and patch modules share: the types of the slot `counter.step`.
//!
//! `#[repr(C)]`, because host and modules are built apart: without it the compiler may order the fields anew each time.

/// Lives in the host, through every reload.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Counter {
    pub value: i64,
    /// Steps so far, whoever implemented them.
    pub steps: u64,
}

/// The input of a step.
#[repr(C)]
#[derive(Debug)]
pub struct Step {
    pub amount: i64,
}

/// The output of a step.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Stepped {
    pub value: i64,
    /// The number of the implementation that ran: 0 is the host's own.
    pub implementation: u32,
}
