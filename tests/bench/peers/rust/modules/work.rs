// The work of the Rust modules and its faults: see module.c, which has the same. STEP_VERSION and STEP_FAULT are set
// when they are built.

const VERSION: i64 = env!("STEP_VERSION").as_bytes()[0] as i64 - b'0' as i64;
const FAULT: u8 = env!("STEP_FAULT").as_bytes()[0];

extern "C" {
    fn symbol_that_nobody_defines() -> i32;
}

#[inline(always)]
unsafe fn work(state: *mut State, input: *const i64, output: *mut i64) -> i32 {
    match FAULT {
        b'c' => unsafe { std::ptr::null_mut::<i32>().write_volatile(1) },
        b'h' => loop {
            std::hint::spin_loop();
        },
        b's' => unsafe { state.cast::<i64>().add(1).write(-1) },
        b'u' => unsafe { *output = i64::from(symbol_that_nobody_defines()) },
        _ => {}
    }
    unsafe { *output = *input + VERSION };
    0
}

#[inline(always)]
unsafe fn work_b(state: *mut State, input: *const i64, output: *mut i64) -> i32 {
    if FAULT == b'd' {
        std::thread::sleep(std::time::Duration::from_millis(unsafe { *input } as u64));
    }
    unsafe { work(state, input, output) }
}
