#!/usr/bin/env bash
# Builds the shim and the torture test with ThreadSanitizer, with AddressSanitizer and UndefinedBehaviorSanitizer, and
# plainly with -O2, and runs each with more threads than there are cores. Any report fails.
#
#     sanitize.sh [thread|address|plain]...        default: all three
#
# CC picks the compiler, PARTS what is run ("torture guard"), CHANGES, REAL and CRASHES how much is done (20000, 200 and
# 1000), THREADS how many threads call (4, or twice the cores where that is more).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cc=${CC:-cc}
changes=${CHANGES:-20000}
real=${REAL:-200}
crashes=${CRASHES:-1000}
cores=$(nproc)
threads=${THREADS:-$((cores * 2 > 4 ? cores * 2 : 4))}
work=$(mktemp -d "${TMPDIR:-/tmp}/hr-sanitize.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022 # a module that others may write to is refused

warnings=(-std=c11 -Wall -Wextra -Wpedantic -Werror)
# ThreadSanitizer does not know what fences do; the shim has none where it matters then (HR_FENCED), but gcc warns.
if "$cc" --version | grep -q clang; then tsan_quiet=(); else tsan_quiet=(-Wno-tsan); fi

flags_of() {
    case $1 in
    thread) echo "-O1 -g -fno-omit-frame-pointer -fsanitize=thread ${tsan_quiet[*]-}" ;;
    address) echo "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" ;;
    plain) echo "-O2 -g" ;;
    *) echo "sanitize.sh: no way to sanitize is called '$1'" >&2 && return 2 ;;
    esac
}

# Sanitizers need address space laid out as they expect; some kernels randomise more than they bear.
run() {
    if command -v setarch >/dev/null && setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi
}

torture() {
    local kind=$1 directory=$work/$1
    local flags
    flags=$(flags_of "$kind")
    mkdir -p "$directory/modules" "$directory/run" "$directory/state"
    chmod 700 "$directory/run" "$directory/state"
    # The module carries no instrumentation: it is what a user's build makes.
    "$cc" -shared -fPIC -O2 -fvisibility=hidden -Wl,-Bsymbolic -Wl,--build-id=none -I "$root/shim/include" \
        -o "$directory/pair.so" "$here/hosts/pair.c"
    # shellcheck disable=SC2086 # the flags are words
    "$cc" "${warnings[@]}" $flags -I "$root/shim/include" -o "$directory/torture" "$here/torture.c" \
        "$root"/shim/src/*.c -lpthread -ldl
    echo "== $kind: $changes changes, $real real loads, $threads threads"
    # MALLOC_PERTURB_: without a sanitizer, a table that is used after it was freed shall not look as it did.
    MALLOC_PERTURB_=165 XDG_RUNTIME_DIR=$directory/run XDG_STATE_HOME=$directory/state \
        TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 ${TSAN_OPTIONS-}" \
        ASAN_OPTIONS="detect_leaks=1 detect_stack_use_after_return=1 ${ASAN_OPTIONS-}" \
        UBSAN_OPTIONS="print_stacktrace=1 ${UBSAN_OPTIONS-}" \
        run "$directory/torture" "$directory/pair.so" "$directory/modules" "$changes" "$real" "$threads"
}

# The guard: crashing patches in a row beside eight threads at full rate, also with each of them scanned for and unmapped
# meanwhile. ThreadSanitizer delivers signals to a busy thread only when that calls the system, so no hang is ended under
# it. AddressSanitizer alone: this host crashes on purpose, which UBSan would not let it do.
guard() {
    local kind=$1 directory=$work/guard-$1 patches=$crashes
    local flags scenario
    local scenarios=(kinds shared_state nested back_on_probation unloaded handlers forked
        torture torture_hangs torture_unloads)
    flags=$(flags_of "$kind")
    flags=${flags/,undefined -fno-sanitize-recover=all/}
    if [ "$kind" = thread ]; then scenarios=(shared_state nested back_on_probation torture torture_unloads); fi
    mkdir -p "$directory/modules"
    for scenario in crasher guard_outer good; do
        "$cc" -shared -fPIC -O1 -fvisibility=hidden -Wl,-Bsymbolic -Wl,--build-id=none -I "$root/shim/include" \
            -o "$directory/modules/${scenario#guard_}.so" "$here/hosts/$scenario.c"
    done
    # shellcheck disable=SC2086 # the flags are words
    "$cc" "${warnings[@]}" $flags -I "$root/shim/include" -I "$here/hosts" -o "$directory/guard" "$here/guard_host.c" \
        "$root"/shim/src/*.c -lpthread -ldl
    for scenario in "${scenarios[@]}"; do
        echo "== guard, $kind: $scenario"
        XDG_RUNTIME_DIR=$directory XDG_STATE_HOME=$directory TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS-}" \
            run "$directory/guard" "$scenario" "$directory/modules" "$patches"
    done
}

if [ $# -eq 0 ]; then set -- plain address thread; fi
for kind in "$@"; do
    for part in ${PARTS:-torture guard}; do "$part" "$kind"; done
done
