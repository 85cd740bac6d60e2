/* The context that core_host.c and core_patch.c share. All fields are atomic. */
#ifndef CORE_SHARED_H
#define CORE_SHARED_H

#include <stdint.h>

#define CORE_VERSIONS 8

typedef struct core_context {
    int32_t loads[CORE_VERSIONS];   /* by module version: how often on_load ran */
    int32_t unloads[CORE_VERSIONS]; /* and on_unload */
    int32_t hold_load;              /* on_load of this version does not return while it is set; 0: none */
    int32_t hold_unload;
    int32_t holding;      /* hooks that are held now */
    int32_t fork_in_load; /* on_load forks, and returns in both processes */
    int32_t child;        /* its pid */
} core_context;

#endif
