//! The first patch: ten times the amount.

use shared_abi::{Counter, Step, Stepped};

fn step(counter: &mut Counter, step: &Step, stepped: &mut Stepped) -> i32 {
    counter.value += 10 * step.amount;
    counter.steps += 1;
    *stepped = Stepped { value: counter.value, implementation: 1 };
    0
}

hotreload::patch_module!("counter", 1, [described("counter.step", step)]);
