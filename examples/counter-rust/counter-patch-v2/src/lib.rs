//! The second patch: down instead of up.

use shared_abi::{Counter, Step, Stepped};

fn step(counter: &mut Counter, step: &Step, stepped: &mut Stepped) -> i32 {
    counter.value -= step.amount;
    counter.steps += 1;
    *stepped = Stepped { value: counter.value, implementation: 2 };
    0
}

hotreload::patch_module!("counter", 2, [described("counter.step", step)]);
