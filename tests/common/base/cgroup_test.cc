#include "common/base/cgroup.h"

#include <gtest/gtest.h>

#include "tests/fakes/temporary_directory.h"

namespace mgr {
namespace {

class Cgroups : public testing::Test {
 protected:
  void groups(const std::string& lines) { root_.write("proc/self/cgroup", lines); }
  void file(const std::string& path, const std::string& text) {
    root_.write("sys/fs/cgroup/" + path, text);
  }
  std::optional<std::int64_t> kills() const { return oom_kills(root_.path()); }
  std::vector<std::string> directories(std::string_view controller) const {
    std::vector<std::string> all;
    const std::string base = root_.path() + "/sys/fs/cgroup";
    for (const Cgroup& cgroup : cgroups_of_process(controller, root_.path())) {
      for (const std::string& directory : cgroup.directories) {
        EXPECT_TRUE(directory.starts_with(base));
        all.push_back(directory.substr(base.size()));
      }
    }
    return all;
  }

  fakes::TemporaryDirectory root_;
};

using Paths = std::vector<std::string>;

TEST_F(Cgroups, are_the_processs_own_and_those_above) {
  groups("0::/a/b\n");
  EXPECT_EQ(directories("cpu"), (Paths{"/a/b", "/a", ""}));
}

TEST_F(Cgroups, of_version_1_are_below_the_controllers_mount) {
  groups("5:cpu,cpuacct:/app\n4:memory:/m\n1:name=systemd:/app\n");
  EXPECT_EQ(directories("cpu"), (Paths{"/cpu,cpuacct/app", "/cpu,cpuacct", "/cpu/app", "/cpu"}));
  EXPECT_EQ(directories("memory"), (Paths{"/memory/m", "/memory"}));
  EXPECT_EQ(directories("cpua"), Paths{});
}

TEST_F(Cgroups, outside_of_the_namespace_are_not_looked_for_outside_of_the_mount) {
  groups("0::/../../system.slice\n");
  EXPECT_EQ(directories("cpu"), Paths{""});
}

TEST_F(Cgroups, version_2_tells_oom_kills_in_the_events) {
  groups("0::/app\n");
  file("app/memory.events", "low 0\nhigh 9\nmax 31\noom 4\noom_kill 3\noom_group_kill 0\n");
  EXPECT_EQ(kills(), 3);
}

TEST_F(Cgroups, the_innermost_that_tells_counts) {
  groups("0::/app/inner\n");
  file("memory.events", "oom_kill 9\n");
  file("app/memory.events", "oom_kill 5\n");
  EXPECT_EQ(kills(), 5) << "the controller is off in the inner one";
  file("app/inner/memory.events", "oom_kill 2\n");
  EXPECT_EQ(kills(), 2);
}

TEST_F(Cgroups, version_1_tells_oom_kills_in_oom_control) {
  groups("4:memory:/app\n0::/\n");
  file("memory/app/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
  EXPECT_EQ(kills(), 7);
}

TEST_F(Cgroups, version_1_in_a_container_sees_its_own_group_at_the_mount) {
  groups("4:memory:/docker/0123\n");
  file("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
  EXPECT_EQ(kills(), 1);
}

TEST_F(Cgroups, without_a_group_the_machines_kills_count) {
  root_.write("proc/vmstat", "nr_free_pages 12\noom_kill 4\n");
  EXPECT_EQ(kills(), 4);
  groups("0::/\n");
  EXPECT_EQ(kills(), 4) << "the root group has no events";
}

TEST_F(Cgroups, nothing_readable_is_nothing) {
  EXPECT_FALSE(kills());
  groups("0::/app\nnonsense\n");
  file("app/memory.events", "oom_kill many\n");
  EXPECT_FALSE(kills());
}

TEST_F(Cgroups, failures_to_charge_are_no_kills) {
  groups("4:memory:/app\n");
  file("memory/app/memory.failcnt", "17\n");
  file("memory/app/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
  EXPECT_FALSE(kills());
}

}  // namespace
}  // namespace mgr
