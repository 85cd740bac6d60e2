//! The patch to play with: change STEP, save, `cargo build --release`.

use shared_abi::{Counter, Step, Stepped};

const STEP: i64 = 100;

fn step(counter: &mut Counter, step: &Step, stepped: &mut Stepped) -> i32 {
    counter.value += STEP * step.amount;
    counter.steps += 1;
    *stepped = Stepped { value: counter.value, implementation: 3 };
    0
}

hotreload::patch_module!("counter", 3, [described("counter.step", step)]);
