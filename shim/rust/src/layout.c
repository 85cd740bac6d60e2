/* Proves at compile time that ffi.rs mirrors the headers: both assert the same numbers. Nothing of it is linked. */
#include <stddef.h>

#include <hotreload/hotreload.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type ": change ffi.rs too")
#define OFFSET(type, field, bytes)                                                                                     \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field ": change ffi.rs too")

SIZE(hr_patch_entry_v1, 24);
SIZE(hr_patch_module_v1, 56);
SIZE(hr_status, 4);
SIZE(hr_slot, 24);
OFFSET(hr_slot, index, 16);
OFFSET(hr_slot, born, 20);
SIZE(hr_entry, 16);
OFFSET(hr_table, generation, 0);
OFFSET(hr_table, count, 8);
OFFSET(hr_table, entries, 32);
OFFSET(hr_shard, active, 8);
OFFSET(hr_shard, calls, 64);
SIZE(hr_dispatch_state, 64);
OFFSET(hr_dispatch_state, epoch, 8);
OFFSET(hr_dispatch_state, safe_point_wanted, 16);
SIZE(hr_frame, 24);
OFFSET(hr_frame, shard, 8);
SIZE(hr_options, 112);
OFFSET(hr_options, budget_bytes, 32);
SIZE(hr_failure, 2056);
OFFSET(hr_failure, fix, 1544);
SIZE(hr_layout_field_v1, 48);
SIZE(hr_layout_type_v1, 40);
SIZE(hr_layout_entry_v1, 32);
SIZE(hr_layout_v1, 32);
SIZE(hr_migration_v1, 32);
SIZE(hr_migrate_v1, 24);
SIZE(hr_state, 48);
OFFSET(hr_state, owner, 32);
SIZE(hr_manifest_entry, 144);
SIZE(hr_manifest, 288);
OFFSET(hr_manifest, entry_count, 284);
SIZE(hr_change, 152);
OFFSET(hr_change, kind, 144);
SIZE(hr_report, 4424);
OFFSET(hr_report, content, 224);
OFFSET(hr_report, path, 232);
OFFSET(hr_report, us, 2280);
OFFSET(hr_report, failure, 2368);

extern int hr_rust_layout_is_checked; /* ISO C forbids an empty translation unit */
