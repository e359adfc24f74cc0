#include "manager/supervisor/core_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fakes/temporary_directory.h"

namespace mgr::manager {
namespace {

class CoreFile : public testing::Test {
 protected:
  void pattern(const std::string& text, const std::string& uses_pid = "0") {
    root_.write("proc/sys/kernel/core_pattern", text + "\n");
    root_.write("proc/sys/kernel/core_uses_pid", uses_pid + "\n");
  }
  // Relative to the process's directory.
  std::string went(pid_t pid) const {
    const std::string base = root_.path() + "/app/";
    const std::string path = where_core_went(pid, root_.path() + "/app", root_.path());
    return path.starts_with(base) ? path.substr(base.size()) : path;
  }

  fakes::TemporaryDirectory root_;
};

TEST_F(CoreFile, of_a_plain_pattern_is_in_the_processs_directory) {
  pattern("core");
  EXPECT_EQ(went(7), "") << "nothing is there";
  root_.write("app/core", "x");
  EXPECT_EQ(went(7), "core");
}

TEST_F(CoreFile, has_the_pid_where_the_kernel_adds_it) {
  pattern("core", "1");
  root_.write("app/core", "x");
  root_.write("app/core.8", "x");
  EXPECT_EQ(went(7), "");
  EXPECT_EQ(went(8), "core.8");
  pattern("dump-%p", "1");
  root_.write("app/dump-8", "x");
  EXPECT_EQ(went(8), "dump-8");
}

TEST_F(CoreFile, is_the_newest_that_fits_what_is_not_known_any_more) {
  pattern("core.%e.%p.%t");
  const std::string old = root_.write("app/core.python3.8.100", "x");
  std::filesystem::last_write_time(
      old, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  root_.write("app/core.python3.8.200", "x");
  root_.write("app/core.python3.9.300", "x");
  EXPECT_EQ(went(8), "core.python3.8.200");
}

TEST_F(CoreFile, may_be_in_a_directory_of_its_own_with_signs_that_are_no_wildcards) {
  pattern(root_.path() + "/cores[1]/100%%-%p");
  root_.write("cores[1]/100%-8", "x");
  EXPECT_EQ(where_core_went(8, "/nowhere", root_.path()), root_.path() + "/cores[1]/100%-8");
}

TEST_F(CoreFile, that_a_program_took_is_told_by_its_name) {
  pattern("|/usr/share/apport/apport %p %s");
  EXPECT_EQ(went(8), "given to /usr/share/apport/apport");
  pattern("|/lib/systemd/systemd-coredump %P %u");
  EXPECT_EQ(went(8), "see coredumpctl info 8");
}

TEST_F(CoreFile, is_not_told_where_nothing_can_be_read) {
  EXPECT_EQ(went(8), "");
  pattern("");
  EXPECT_EQ(went(8), "");
}

}  // namespace
}  // namespace mgr::manager
