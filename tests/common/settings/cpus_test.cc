#include "common/settings/cpus.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "tests/fakes/temporary_directory.h"

namespace mgr {
namespace {

class Cpus : public testing::Test {
 protected:
  void cgroup(const std::string& lines) { root_.write("proc/self/cgroup", lines); }
  void file(const std::string& path, const std::string& text) {
    root_.write("sys/fs/cgroup/" + path, text + "\n");
  }
  int usable(int affinity) const { return usable_cpus(affinity, root_.path()); }
  std::optional<std::uint64_t> memory() const { return memory_limit(root_.path()); }

  fakes::TemporaryDirectory root_;
};

TEST_F(Cpus, without_cgroups_the_affinity_counts) {
  EXPECT_EQ(usable(6), 6);
  EXPECT_FALSE(memory());
  EXPECT_GE(usable_cpus(root_.path()), 1);
}

TEST_F(Cpus, a_version_2_quota_is_rounded_up) {
  cgroup("0::/app\n");
  file("app/cpu.max", "150000 100000");
  EXPECT_EQ(usable(8), 2);
  EXPECT_EQ(usable(1), 1);
}

TEST_F(Cpus, a_quota_below_one_is_one) {
  cgroup("0::/\n");
  file("cpu.max", "20000 100000");
  EXPECT_EQ(usable(8), 1);
}

TEST_F(Cpus, the_tightest_of_all_levels_counts) {
  cgroup("0::/a/b\n");
  file("a/b/cpu.max", "max 100000");
  file("a/cpu.max", "300000 100000");
  file("cpu.max", "400000 100000");
  file("a/b/memory.max", "max");
  file("a/memory.max", "1000000");
  EXPECT_EQ(usable(8), 3);
  EXPECT_EQ(memory(), 1000000u);
}

TEST_F(Cpus, a_quota_above_the_affinity_changes_nothing) {
  cgroup("0::/\n");
  file("cpu.max", "1600000 100000");
  EXPECT_EQ(usable(4), 4);
}

TEST_F(Cpus, version_1_is_read_from_its_controllers) {
  cgroup("5:cpu,cpuacct:/app\n4:memory:/app\n1:name=systemd:/app\n");
  file("cpu,cpuacct/app/cpu.cfs_quota_us", "200000");
  file("cpu,cpuacct/app/cpu.cfs_period_us", "100000");
  file("memory/app/memory.limit_in_bytes", "268435456");
  EXPECT_EQ(usable(8), 2);
  EXPECT_EQ(memory(), 268435456u);
}

TEST_F(Cpus, version_1_in_a_container_sees_its_own_group_at_the_root) {
  cgroup("5:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n");
  file("cpu/cpu.cfs_quota_us", "300000");
  file("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(usable(8), 3);
}

TEST_F(Cpus, version_1_without_a_limit_is_none) {
  cgroup("5:cpu,cpuacct:/\n4:memory:/\n");
  file("cpu,cpuacct/cpu.cfs_quota_us", "-1");
  file("cpu,cpuacct/cpu.cfs_period_us", "100000");
  file("memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(usable(8), 8);
  EXPECT_FALSE(memory());
}

TEST_F(Cpus, the_tightest_of_all_levels_counts_in_version_1_too) {
  cgroup("5:cpu,cpuacct:/a/b\n4:memory:/a/b\n");
  file("cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1");
  file("cpu,cpuacct/a/b/cpu.cfs_period_us", "100000");
  file("cpu,cpuacct/a/cpu.cfs_quota_us", "25000");
  file("cpu,cpuacct/a/cpu.cfs_period_us", "10000");
  file("memory/a/b/memory.limit_in_bytes", "9223372036854771712");
  file("memory/a/memory.limit_in_bytes", "500000");
  EXPECT_EQ(usable(8), 3);
  EXPECT_EQ(memory(), 500000u);
}

TEST_F(Cpus, the_smaller_of_cpuset_and_quota_counts) {
  cgroup("0::/\n");
  file("cpu.max", "250000 100000");
  EXPECT_EQ(usable(2), 2) << "the affinity is what the cpuset leaves";
  EXPECT_EQ(usable(3), 3);
  EXPECT_EQ(usable(4), 3);
}

TEST_F(Cpus, the_affinity_of_the_process_counts) {
  cpu_set_t all, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cpus(root_.path()), 1);
  ASSERT_EQ(::sched_setaffinity(0, sizeof all, &all), 0);
  EXPECT_EQ(usable_cpus(root_.path()), CPU_COUNT(&all));
}

TEST_F(Cpus, of_both_versions_the_tightest_counts) {
  cgroup("5:cpu:/app\n0::/app\n");
  file("cpu/app/cpu.cfs_quota_us", "400000");
  file("cpu/app/cpu.cfs_period_us", "100000");
  file("app/cpu.max", "300000 100000");
  EXPECT_EQ(usable(8), 3);
}

TEST_F(Cpus, nonsense_limits_nothing) {
  cgroup("nonsense\n0::/\n");
  file("cpu.max", "x 0");
  file("memory.max", "lots");
  EXPECT_EQ(usable(8), 8);
  EXPECT_FALSE(memory());
}

TEST_F(Cpus, workers_fit_into_the_memory) {
  constexpr std::uint64_t kMiB = 1 << 20;
  EXPECT_EQ(automatic_workers(4, {}, 0), 4);
  EXPECT_EQ(automatic_workers(8, 256 * kMiB, 0), 6);
  EXPECT_EQ(automatic_workers(8, 256 * kMiB, 32 * kMiB), 3);
  EXPECT_EQ(automatic_workers(8, 16 * kMiB, 0), 1);
  EXPECT_EQ(automatic_workers(2000, {}, 0), 512);
}

}  // namespace
}  // namespace mgr
