/* What one module's load, rejection or rollback did. The same bytes go through the host's socket. A cdef header. */
#ifndef HOTRELOAD_REPORT_H
#define HOTRELOAD_REPORT_H

#include "preflight.h"

/* Longest path that the shim takes, with its terminating zero. */
#define HR_PATH_SIZE 1024

/* The steps of DESIGN.md section 5, as indices of hr_report.us. */
#define HR_STEP_STAGE 0
#define HR_STEP_PREFLIGHT 1
#define HR_STEP_LAYOUT 2
#define HR_STEP_SAME 3
#define HR_STEP_OPEN 4
#define HR_STEP_CHECK 5
#define HR_STEP_ON_LOAD 6
#define HR_STEP_COMMIT 7
#define HR_STEP_TRIAL 8
#define HR_STEP_TOTAL 9
#define HR_STEPS 10

#define HR_CHANGE_SWAPPED 0    /* runs the module's function now */
#define HR_CHANGE_UNDECLARED 1 /* the same, and no host code had declared the slot: a typo? */
#define HR_CHANGE_KEPT 2       /* no longer listed by the module: keeps its implementation */

typedef struct hr_change {
    char symbol[HR_NAME_MAX + 1];
    uint64_t from; /* the slot's version before */
    uint64_t to;   /* and after */
    uint32_t kind; /* HR_CHANGE_* */
    uint32_t slot; /* the slot's index */
} hr_change;

#ifdef __cplusplus /* a flexible array member, which C++ compilers know as an extension */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
typedef struct hr_report {
    uint32_t size;   /* bytes of this report, changes included */
    int32_t status;  /* an hr_status; HR_OK: swapped (or prepared, or rolled back) */
    uint64_t generation; /* of the host, after */
    char module[HR_NAME_MAX + 1]; /* empty when preflight did not get as far; the fallback is "" too */
    uint64_t module_version;
    char build_id[HR_BUILD_ID_SIZE];
    char reserved[7];
    uint64_t content;
    char path[HR_PATH_SIZE];   /* the build output */
    char staged[HR_PATH_SIZE]; /* the private copy that runs, or empty */
    uint64_t us[HR_STEPS];     /* microseconds of each step */
    uint32_t warnings;         /* HR_WARN_* */
    uint32_t change_count;
    hr_failure failure;
    hr_change changes[];
} hr_report;
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
