# The libraries that mgr is made of, as targets. All come from Debian 12 packages; newer versions are
# taken where CMake finds them.

find_package(PkgConfig REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(Threads REQUIRED)

# fmt and spdlog, both header-only: the worker extension may depend on no shared library of theirs. What
# is built with sanitizers is never installed, and takes Debian's fmt: a quarter less to compile.
add_library(mgr_fmt INTERFACE)
target_link_libraries(mgr_fmt INTERFACE $<IF:$<BOOL:${MGR_SANITIZE}>,fmt::fmt,fmt::fmt-header-only>)
find_path(SPDLOG_INCLUDE_DIR spdlog/spdlog.h REQUIRED)
add_library(mgr_spdlog INTERFACE)
target_include_directories(mgr_spdlog SYSTEM INTERFACE ${SPDLOG_INCLUDE_DIR})
target_compile_definitions(mgr_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(mgr_spdlog INTERFACE mgr_fmt)

# libuv, linked statically everywhere, so that the worker extension never meets another copy.
# Debian's archive is not built for shared objects: it reaches three data symbols of the C library by
# PC-relative references. These are renamed to hidden copies of ours (common/loop/libuv_data.c);
# everything else in it is fit for a shared object already.
pkg_check_modules(LIBUV REQUIRED libuv>=1.44)
find_library(LIBUV_ARCHIVE NAMES libuv_a.a libuv.a HINTS ${LIBUV_LIBRARY_DIRS} REQUIRED)
set(uv_archive ${CMAKE_BINARY_DIR}/libuv_hidden.a)
add_custom_command(
  OUTPUT ${uv_archive}
  COMMAND ${CMAKE_OBJCOPY} --redefine-sym environ=mgr_uv_environ
          --redefine-sym in6addr_any=mgr_uv_in6addr_any --redefine-sym stderr=mgr_uv_stderr
          ${LIBUV_ARCHIVE} ${uv_archive}
  DEPENDS ${LIBUV_ARCHIVE}
  VERBATIM)
add_custom_target(mgr_uv_archive DEPENDS ${uv_archive})
add_library(mgr_uv STATIC ${CMAKE_SOURCE_DIR}/common/loop/libuv_data.c)
add_dependencies(mgr_uv mgr_uv_archive)
target_include_directories(mgr_uv SYSTEM PUBLIC ${LIBUV_INCLUDE_DIRS})
target_link_libraries(mgr_uv PUBLIC ${uv_archive} Threads::Threads dl rt)
# The linker meets libmgr_uv.a before anything refers to these copies.
target_link_options(mgr_uv INTERFACE LINKER:--undefined=mgr_uv_environ)

# llhttp: the archive of the package that Debian has since 13, else the C sources that Debian 12's
# node-llhttp installs.
find_library(LLHTTP_ARCHIVE libllhttp.a)
if(LLHTTP_ARCHIVE)
  find_path(LLHTTP_INCLUDE_DIR llhttp.h REQUIRED)
  add_library(mgr_llhttp INTERFACE)
  target_include_directories(mgr_llhttp SYSTEM INTERFACE ${LLHTTP_INCLUDE_DIR})
  target_link_libraries(mgr_llhttp INTERFACE ${LLHTTP_ARCHIVE})
else()
  find_path(LLHTTP_SOURCE_DIR llhttp.c PATHS /usr/share/llhttp REQUIRED NO_DEFAULT_PATH)
  find_path(LLHTTP_INCLUDE_DIR llhttp.h PATHS /usr/share/include/llhttp REQUIRED NO_DEFAULT_PATH)
  add_library(mgr_llhttp STATIC ${LLHTTP_SOURCE_DIR}/api.c ${LLHTTP_SOURCE_DIR}/http.c
                                ${LLHTTP_SOURCE_DIR}/llhttp.c)
  target_include_directories(mgr_llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE_DIR})
  target_compile_options(mgr_llhttp PRIVATE -w)
endif()
