/* What a library for another version of the boundary looks like from outside. */
#include <mgr/abi.h>

__attribute__((visibility("default"))) const mgr_application_table mgr_application = {
    .magic = MGR_ABI_MAGIC, .abi = MGR_ABI_VERSION + 1, .size = 4096};
__attribute__((visibility("default"))) const mgr_application_table not_one = {.magic = 7};
