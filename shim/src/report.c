/* What is told of a module: reports, their times, and the events that carry them. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

hr_report *hr_report_new(uint32_t changes, const char *path) {
    size_t size = offsetof(hr_report, changes) + (size_t)changes * sizeof(hr_change);
    hr_report *report = calloc(1, size);
    if (report == NULL) return NULL;
    report->size = (uint32_t)size;
    hr_copy_text(report->path, sizeof report->path, path);
    return report;
}

void hr_report_free(hr_report *report) { free(report); }

void hr_reports_free(hr_report **reports, uint32_t count) {
    for (uint32_t i = 0; reports && i < count; i++) free(reports[i]);
    free(reports);
}

void hr_report_manifest(hr_report *report, const hr_manifest *manifest) {
    memcpy(report->module, manifest->name, sizeof report->module);
    memcpy(report->build_id, manifest->build_id, sizeof report->build_id);
    report->module_version = manifest->version;
    report->content = manifest->content;
    report->warnings = manifest->warnings;
}

hr_report *hr_module_report(const hr_module *module) {
    hr_report *report = hr_report_new(0, module->path);
    if (report == NULL) return NULL;
    hr_report_manifest(report, module->manifest);
    report->generation = module->runtime ? hr_generation(module->runtime) : module->generation;
    return report;
}

/* Room for `extra` more changes; report.size is that of the changes there are: report_trim. */
hr_report *hr_report_grow(hr_report *report, uint32_t extra) {
    return realloc(report, offsetof(hr_report, changes) + ((size_t)report->change_count + extra) * sizeof(hr_change));
}

void hr_report_trim(hr_report *report) {
    report->size = (uint32_t)(offsetof(hr_report, changes) + report->change_count * sizeof(hr_change));
}

hr_clock hr_clock_start(void) {
    uint64_t now = hr_monotonic_ns();
    return (hr_clock){now, now};
}

void hr_clock_step(hr_clock *clock, hr_report *report, unsigned step) {
    uint64_t now = hr_monotonic_ns();
    report->us[step] += (now - clock->last + 500) / 1000;
    report->us[HR_STEP_TOTAL] += (now - clock->last + 500) / 1000;
    clock->last = now;
}

void hr_report_tell(uint32_t kind, const hr_report *report) {
    pthread_mutex_lock(&hr.lock);
    hr_blackbox_event(kind, report);
    pthread_mutex_unlock(&hr.lock);
}

void hr_report_status(hr_report *report, hr_status status) {
    report->status = status;
    report->failure.status = status == HR_SAME ? HR_OK : (int32_t)status;
}
