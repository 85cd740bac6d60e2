//! The patch module. Edit STEP and save: the running host counts by it from its next tick on.

use @IDENT@_shared::{State, Tick};

const STEP: i64 = 10;

/// A panic in it becomes a status; the host goes on.
fn tick(state: &mut State, (): &(), done: &mut Tick) -> i32 {
    done.step = STEP;
    state.count += done.step;
    0
}

// The number is yours to choose; hotreload counts the versions of each slot by itself.
hotreload::patch_module!("@NAME@", 1, [described("@NAME@.tick", tick)]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_grows_by_the_step() {
        let (mut state, mut done) = (State { count: 5 }, Tick::default());
        assert_eq!(tick(&mut state, &(), &mut done), 0);
        assert_eq!((state.count, done.step), (5 + STEP, STEP));
    }
}
