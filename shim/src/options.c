/* What is off until a host or a tool asks for it, of the whole process. */
#include "internal.h"

#define KNOWN (HR_OPTION_GUARD | HR_OPTION_SAMPLE | HR_OPTION_TRIAL | HR_OPTION_UNLOAD | HR_OPTION_BUDGET)

static void fill_in(hr_options *options) {
    if (options->probation_ms == 0) options->probation_ms = 10000;
    if (options->probation_calls == 0) options->probation_calls = 100000;
    if (options->hang_ms == 0) options->hang_ms = 2000;
    if (options->trial_ms == 0) options->trial_ms = 1000;
    if (options->sample_every == 0) options->sample_every = 256;
    if (options->budget_bytes == 0) options->budget_bytes = UINT64_C(64) << 20;
}

void hr_options_init(void) { fill_in(&hr.options); }

bool hr_option(uint32_t flag) { return __atomic_load_n(&hr.options.flags, __ATOMIC_RELAXED) & flag; }

static hr_status put(hr_options options) {
    fill_in(&options);
    uint32_t flags = options.flags;
    options.flags = hr.options.flags;
    hr.options = options;
    __atomic_store_n(&hr.options.flags, flags, __ATOMIC_RELAXED);
    hr_blackbox_begin();
    hr_blackbox_end(); /* writes the budget */
    return hr_sample_switch(flags & HR_OPTION_SAMPLE ? options.sample_every : 0);
}

static hr_status get_ready(uint32_t flags) {
    hr_status status = flags & HR_OPTION_TRIAL ? hr_trial_possible() : HR_OK;
    return status == HR_OK && (flags & HR_OPTION_GUARD) ? hr_guard_ready() : status;
}

hr_status hr_set_options(const hr_options *options) {
    if (options->flags & ~(uint32_t)KNOWN) return HR_E_USAGE;
    hr_status status = hr_ready();
    if (status != HR_OK) return status;
    status = get_ready(options->flags);
    if (status != HR_OK) return status;
    pthread_mutex_lock(&hr.lock);
    status = put(*options);
    pthread_mutex_unlock(&hr.lock);
    hr_unload_soon();
    return status;
}

void hr_get_options(hr_options *options) {
    if (hr_ready() != HR_OK) {
        *options = (hr_options){0};
        return;
    }
    pthread_mutex_lock(&hr.lock);
    *options = hr.options;
    pthread_mutex_unlock(&hr.lock);
}

/* The named options with their numbers; a number 0 asks for the default. */
static void take_over(hr_options *to, uint32_t named, const hr_options *from) {
    to->flags = (to->flags & ~named) | (from->flags & named);
    if (named & HR_OPTION_GUARD) {
        to->probation_ms = from->probation_ms;
        to->probation_calls = from->probation_calls;
        to->hang_ms = from->hang_ms;
    }
    if (named & HR_OPTION_TRIAL) to->trial_ms = from->trial_ms;
    if (named & HR_OPTION_SAMPLE) to->sample_every = from->sample_every;
    if (named & HR_OPTION_BUDGET) to->budget_bytes = from->budget_bytes;
}

hr_status hr_options_change(uint32_t named, const hr_options *options) {
    if ((named | options->flags) & ~(uint32_t)KNOWN) return HR_E_USAGE;
    hr_status status = get_ready(named & options->flags);
    if (status != HR_OK) return status;
    pthread_mutex_lock(&hr.lock);
    hr_options changed = hr.options;
    take_over(&changed, named, options);
    status = put(changed);
    pthread_mutex_unlock(&hr.lock);
    hr_unload_soon();
    return status;
}
