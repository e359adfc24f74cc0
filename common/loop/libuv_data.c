#include <netinet/in.h>
#include <stdio.h>

/* Hidden copies of the three data symbols of the C library that libuv's archive refers to: see
 * common/dependencies.cmake. libuv reads environ only in uv_spawn and uv_os_environ, and stderr
 * only in uv_print_*_handles; mgr calls none of them. */
__attribute__((visibility("hidden"))) char** mgr_uv_environ;
__attribute__((visibility("hidden"))) FILE* mgr_uv_stderr;
__attribute__((visibility("hidden"))) const struct in6_addr mgr_uv_in6addr_any = IN6ADDR_ANY_INIT;
