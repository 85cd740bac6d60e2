//! The host: it owns the state and runs for as long as it likes. What happens in a tick is a slot.

use std::time::Duration;

use @IDENT@_shared::{State, Tick};
use hotreload::{serve, Serving, Slot};

/// The fallback: what the slot does until a module brings something better.
fn tick(state: &mut State, (): &(), done: &mut Tick) -> i32 {
    done.step = 1;
    state.count += done.step;
    0
}

static TICK: Slot<State, (), Tick> = Slot::new(c"@NAME@.tick", tick).described();

fn main() -> Result<(), hotreload::Error> {
    TICK.declare()?;
    // SAFETY: host and modules take the types of one crate, @NAME@-shared.
    unsafe { serve("@NAME@", Serving::default())? };
    let mut state = State::default();
    loop {
        let mut done = Tick::default();
        let status = TICK.call(&mut state, &(), &mut done);
        println!("count={} step={:+} status={status}", state.count, done.step);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_counts_by_one() {
        let (mut state, mut done) = (State { count: 5 }, Tick::default());
        assert_eq!(tick(&mut state, &(), &mut done), 0);
        assert_eq!((state.count, done.step), (6, 1));
    }
}
