/* Reclamation: when has the last caller left an old table or module?
 *
 * A grace period begins in hr_reclaim_advance, after the replacement is published. It has ended when no record is
 * active with an older epoch.
 *
 * Invariants:
 *  R1  Publish, then advance the epoch (release), then membarrier, then look. A caller that the look finds inactive
 *      either stores `active` after the barrier, and then loads the new table, or left before it.
 *      Partner: hr_enter's compiler barrier. Without membarrier here, its store of active could still wait in a store
 *      buffer while the old table's pointer is in a register already.
 *  R2  An active record with the new epoch holds the new table: its acquire load of the epoch pairs with the release
 *      increment, which comes after the table's store.
 *  R3  The look never waits. Who is in the way is written into the black box; the next look may find him gone.
 *  R4  Looks happen under hr.lock, after commits and from the control thread: never on a caller's path. */
#include "internal.h"

#include <stdlib.h>

uint64_t hr_reclaim_advance(void) {
    uint64_t epoch = __atomic_add_fetch(&hr_dispatch.epoch, 1, __ATOMIC_SEQ_CST);
    if (hr.asymmetric && !hr_platform_membarrier()) {
        /* R1 is lost for threads that enter without a fence, and they cannot be told: a leak from now on, instead of a
         * table freed under a caller. */
        __atomic_store_n(&hr.asymmetric, false, __ATOMIC_RELAXED);
        __atomic_fetch_add(&hr.unprotected, 1, __ATOMIC_SEQ_CST);
    }
    return epoch;
}

static uint32_t active_of(const hr_shard *record) { return __atomic_load_n(&record->active, __ATOMIC_SEQ_CST); }

/* The oldest epoch that anybody is active with (UINT64_MAX: nobody is), and who that is. */
typedef struct hr_look {
    uint64_t oldest;
    const hr_shard *who;
} hr_look;

static void look_at(hr_look *look, const hr_shard *record) {
    /* The acquire load of active pairs with hr_leave's release, that of epoch with hr_enter's (the caller has left and
     * entered again in between): what the caller did with an older table is over. */
    if (active_of(record) == 0) return;
    uint64_t epoch = __atomic_load_n(&record->epoch, __ATOMIC_ACQUIRE);
    if (epoch < look->oldest) *look = (hr_look){epoch, record};
}

static hr_look look_around(void) {
    hr_look look = {UINT64_MAX, NULL};
    if (__atomic_load_n(&hr.unprotected, __ATOMIC_SEQ_CST) != 0) look.oldest = 0;
    uint32_t count = __atomic_load_n(&hr.box->shard_count, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < count; i++) look_at(&look, hr_blackbox_shard(i));
    for (hr_guest *guest = __atomic_load_n(&hr.guests, __ATOMIC_SEQ_CST); guest; guest = guest->next)
        look_at(&look, &guest->record);
    return look;
}

static void name_blocker(const hr_shard *record) {
    uint32_t active = record ? active_of(record) : 0;
    uint32_t thread = record ? __atomic_load_n(&record->thread, __ATOMIC_RELAXED) : 0;
    if (thread != 0 && hr.box->blocked_thread != thread) hr.box->blocked_since = hr_realtime_ns();
    hr.box->blocked_thread = thread;
    hr.box->blocked_slot = active > HR_ACTIVE_FRAME ? active - 1 : 0;
}

void hr_reclaim_table(hr_table *table) {
    table->retired_at = __atomic_load_n(&hr_dispatch.epoch, __ATOMIC_RELAXED) + 1;
    table->next = hr.retired_tables;
    hr.retired_tables = table;
    hr.retired_count++;
}

/* Newest first in the list: whoever is quiescent for one table is so for all behind it. One look serves all, and the
 * modules that wait too: while a caller stays inside, thousands may. */
uint64_t hr_reclaim_tables(void) {
    hr_look look = look_around();
    hr_table **link = &hr.retired_tables;
    while (*link && (*link)->retired_at > look.oldest) link = &(*link)->next;
    hr_table *table = *link;
    *link = NULL;
    while (table) {
        hr_table *next = table->next;
        hr_dispatch_free(table);
        hr.retired_count--;
        table = next;
    }
    name_blocker(hr.retired_tables ? look.who : NULL);
    hr.box->retired_tables = hr.retired_count;
    return look.oldest;
}
