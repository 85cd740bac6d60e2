//! A host with one slot, `counter.step`.
//!
//!     counter-host MODULE...    loads the modules one after the other, a few steps each, and ends
//!     counter-host              is served as "counter-rust" and steps until it is stopped
//!
//! COUNTER_INTERVAL_MS sets the pause between two steps when it is served (100), COUNTER_STEPS how many there are.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use hotreload::{Serving, Slot};
use shared_abi::{Counter, Step, Stepped};

/// The fallback: version 0 of its slot.
fn step(counter: &mut Counter, step: &Step, stepped: &mut Stepped) -> i32 {
    counter.value += step.amount;
    counter.steps += 1;
    *stepped = Stepped { value: counter.value, implementation: 0 };
    0
}

static STEP: Slot<Counter, Step, Stepped> = Slot::new(c"counter.step", step).described();

/// One step and its line. An implementation that fails (a panic is a status, too) leaves the host running.
fn advance(counter: &mut Counter) -> Result<(), std::io::Error> {
    let mut stepped = Stepped::default();
    let status = STEP.call(counter, &Step { amount: 1 }, &mut stepped);
    let mut out = std::io::stdout().lock();
    if status != 0 {
        return writeln!(out, "step {}: status {status}", counter.steps);
    }
    let Stepped { value, implementation } = stepped;
    writeln!(out, "step {}: value {value} (implementation {implementation})", counter.steps)
}

/// The demo: the same counter through the fallback and every module.
fn demonstrate(counter: &mut Counter, modules: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    println!("fallback");
    for _ in 0..3 {
        advance(counter)?;
    }
    for path in modules {
        // SAFETY: the modules of this example take the types of shared-abi; one that was built with others is refused.
        match unsafe { hotreload::load(path) } {
            Ok(report) => println!(
                "loaded {} v{} in {:?}; generation {}; the counter stays at {}",
                report.module, report.version, report.steps.total, report.generation, counter.value
            ),
            // A refused module changes nothing: the host goes on with what it has.
            Err(error) => println!("refused {}: {error}", path.display()),
        }
        for _ in 0..3 {
            advance(counter)?;
        }
    }
    Ok(())
}

/// For `hotreload watch ../counter-patch/target/release`.
fn be_watched(counter: &mut Counter) -> Result<(), Box<dyn Error>> {
    let pause = Duration::from_millis(setting("COUNTER_INTERVAL_MS")?.unwrap_or(100));
    let steps = setting("COUNTER_STEPS")?.unwrap_or(u64::MAX);
    // SAFETY: as above.
    unsafe { hotreload::serve("counter-rust", Serving::default())? };
    println!("counter-rust runs as process {}", std::process::id());
    while counter.steps < steps {
        advance(counter)?;
        std::thread::sleep(pause);
    }
    Ok(())
}

fn setting(name: &str) -> Result<Option<u64>, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse().map_err(|_| format!("{name} is a number, not {text:?}"))?)),
        Err(_) => Ok(None),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let modules: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut counter = Counter::default();
    STEP.declare()?;
    if modules.is_empty() {
        be_watched(&mut counter)
    } else {
        demonstrate(&mut counter, &modules)
    }
}
