//! What the host and its patch modules share. Change it only together with the host: `hotreload dev` then starts that
//! again, with the newest modules.

/// Owned by the host; survives every swap. `extern`, because host and modules are built apart.
pub const State = extern struct {
    count: i64 = 0,
};

/// The output of the slot @NAME@.tick.
pub const Tick = extern struct {
    /// What the count grew by.
    step: i64 = 0,
};
