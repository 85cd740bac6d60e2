/* The state that bench_debug_info.py's host and modules share. With -DDESCRIBED both describe it, and the shim compares;
 * without, it is debug info that tells of it. */
#include <hotreload/describe.h>

#define LATENCY_FIELDS(F) F(latency_state, count, int64_t) F(latency_state, level, double)
HR_STRUCT(latency_state, LATENCY_FIELDS)
HR_LAYOUT(latency_state, LATENCY_FIELDS)
#define LATENCY_TAKES HR_TAKES("latency.value", latency_state, hr_unchecked, hr_unchecked)
