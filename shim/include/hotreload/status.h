/* Every outcome of the shim, each with a stable code (DESIGN.md section 5). A cdef header: see abi.h. */
#ifndef HOTRELOAD_STATUS_H
#define HOTRELOAD_STATUS_H

#include "abi.h"

typedef enum hr_status {
    HR_OK = 0,
    HR_SAME = 1, /* this content is live already; nothing was swapped */

    HR_E_IO = 10,
    HR_E_DENIED = 11,
    HR_E_NOT_ELF = 12,
    HR_E_ARCH = 13,
    HR_E_TRUNCATED = 14,
    HR_E_NO_MANIFEST = 15,
    HR_E_ABI = 16,
    HR_E_MANIFEST = 17,
    HR_E_LAYOUT = 18,
    HR_E_SYMBOLS = 19,
    HR_E_STATIC_TLS = 20,
    HR_E_ON_LOAD = 21,
    HR_E_QUARANTINED = 22,
    HR_E_CRASH = 23,
    HR_E_HANG = 24,
    HR_E_NO_HOST = 25,
    HR_E_HOST_GONE = 26,
    HR_E_PROTOCOL = 27,
    HR_E_MIGRATE = 28,
    HR_E_TRIAL = 29, /* the trial run ended otherwise than the running version's call */

    /* Not about a module: the caller asked for what cannot be. */
    HR_E_DUPLICATE = 40,   /* the slot has a fallback already, or the host is served already */
    HR_E_NO_SLOT = 41,     /* no slot of that symbol */
    HR_E_NO_PREVIOUS = 42, /* nothing to roll back */
    HR_E_LIMIT = 43,       /* slots, modules or hosts are used up */
    HR_E_MEMORY = 44,
    HR_E_SAFE_POINT = 45, /* the host did not reach a safe point in time */
    HR_E_USAGE = 46,      /* an argument is invalid */
    HR_E_ABORTED = 47     /* another module or host of the same transaction was refused */
} hr_status;

/* Bytes of the texts of a failure, with their terminating zero. */
#define HR_TEXT_SIZE 512

/* Why something was refused. Every text ends in a zero and is valid UTF-8. */
typedef struct hr_failure {
    int32_t status;              /* an hr_status; HR_OK when nothing failed */
    uint32_t reserved;
    char reason[HR_TEXT_SIZE];   /* one sentence */
    char found[HR_TEXT_SIZE];    /* what was found, or empty */
    char expected[HR_TEXT_SIZE]; /* what was expected, or empty */
    char fix[HR_TEXT_SIZE];      /* what to do about it */
} hr_failure;

#ifdef __cplusplus
extern "C" {
#endif

/* The stable code ("E-ABI", "ok", "same"); "E-UNKNOWN" for a number that is no hr_status. Never null, static. */
const char *hr_status_code(int32_t status);
/* One line that says what the code means. Never null, static. */
const char *hr_status_text(int32_t status);
/* The general cure, for where no more exact one is known. Never null, static. */
const char *hr_status_fix(int32_t status);

#ifdef __cplusplus
}
#endif

#endif
