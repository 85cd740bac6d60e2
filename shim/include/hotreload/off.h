/* -DHOTRELOAD_OFF: shipping builds. Every slot call is a direct call of its fallback, nothing needs linking. */
#ifndef HOTRELOAD_OFF_H
#define HOTRELOAD_OFF_H

static inline int32_t hr_call(hr_slot *slot, void *state, const void *input, void *output) {
    return slot->fallback ? slot->fallback(state, input, output) : HR_UNRESOLVED;
}
static inline hr_frame hr_frame_begin(void) {
    hr_frame frame = {0, 0, 0, 0};
    return frame;
}
static inline int32_t hr_frame_call(hr_frame *frame, hr_slot *slot, void *state, const void *input,
                                    void *output) {
    (void)frame;
    return hr_call(slot, state, input, output);
}
static inline void hr_frame_end(hr_frame *frame) { (void)frame; }
static inline void hr_safepoint(void) {}

/* The calls that a host makes at its start and end do nothing and succeed; as macros, so that no prototype changes.
 * Those with a result end in a function call: a bare constant would warn in hosts that ignore the result. */
static inline hr_status hr_off_ok(void) { return HR_OK; }
static inline int hr_off_zero(void) { return 0; }
#define hr_declare(runtime, slot) ((void)(runtime), (void)(slot), hr_off_ok())
#define hr_declare_layout(runtime, layout, failure) ((void)(runtime), (void)(layout), (void)(failure), hr_off_ok())
#define hr_guard_state(slot, size) ((void)(slot), (void)(size), hr_off_ok())
#define hr_state_register(runtime, state) ((void)(runtime), (void)(state), hr_off_ok())
#define hr_state_unregister(runtime, state) ((void)(runtime), (void)(state))
#define hr_serve(runtime, name, flags, failure)                                                                        \
    ((void)(runtime), (void)(name), (void)(flags), (void)(failure), hr_off_ok())
#define hr_stop() ((void)0)
#define hr_poll(timeout_ms) ((void)(timeout_ms), hr_off_zero())
#define hr_set_context(runtime, host_state) ((void)(runtime), (void)(host_state))
#define hr_set_options(options) ((void)(options), hr_off_ok())
#define hr_configure(slots) ((void)(slots), hr_off_ok())
#define hr_generation(runtime) ((void)(runtime), (uint64_t)hr_off_zero())

#endif
