#include "common/settings/sources/environment.h"

#include <gtest/gtest.h>

namespace mgr::settings {
namespace {

TEST(Variables, give_settings_lists_and_maps) {
  const GivenValues result = read_variables({{"MGR_KEEP_ALIVE", "7s"},
                                             {"MGR_BIND", ":80, unix:@a"},
                                             {"MGR_ENV", "A=1,B=x=y"},
                                             {"MGR_PYTHON_PATH", ""},
                                             {"HOME", "/"},
                                             {"MGR_CONFIG", "x"},
                                             {"MGR_CONTROL", "/c"}});
  EXPECT_TRUE(result.errors.empty());
  EXPECT_TRUE(result.warnings.empty());
  std::map<std::string, Spelled> values;
  for (const Given& given : result.values) {
    values[given.name] = given.value;
    EXPECT_EQ(given.origin, "env");
  }
  EXPECT_EQ(values, (std::map<std::string, Spelled>{{"keep_alive", "7s"},
                                                    {"bind", Texts{":80", "unix:@a"}},
                                                    {"env", TextMap{{"A", "1"}, {"B", "x=y"}}},
                                                    {"python_path", Texts{}},
                                                    {"control", "/c"}}));
}

TEST(Variables, that_are_unknown_are_warnings) {
  const GivenValues result =
      read_variables({{"MGR_SERVICE_HOST", "10.0.0.1"}, {"MGR_WORKER", "2"}});
  EXPECT_TRUE(result.errors.empty());
  ASSERT_EQ(result.warnings.size(), 2u);
  EXPECT_EQ(result.warnings[1],
            "MGR_WORKER: no such setting, ignored; the nearest known one is MGR_WORKERS");
}

TEST(Variables, that_are_no_entries_are_errors) {
  EXPECT_EQ(read_variables({{"MGR_ENV", "A"}}).errors.front(),
            "MGR_ENV: 'A' is no KEY=VALUE; allowed: NAME=VALUE");
  EXPECT_FALSE(read_variables({{"MGR_ENV", "A=1,A=2"}}).errors.empty());
}

TEST(PlatformVariables, mean_workers_port_and_proxies) {
  const GivenValues result = read_platform_variables(
      {{"WEB_CONCURRENCY", "3"}, {"PORT", "5000"}, {"FORWARDED_ALLOW_IPS", "10.0.0.1,::1"}});
  ASSERT_EQ(result.values.size(), 3u);
  EXPECT_EQ(result.values[0].value, Spelled("3"));
  EXPECT_EQ(result.values[0].where, "WEB_CONCURRENCY");
  EXPECT_EQ(result.values[1].value, Spelled(Texts{":5000"}));
  EXPECT_EQ(result.values[2].value, Spelled(Texts{"10.0.0.1", "::1"}));
}

TEST(PlatformVariables, that_are_empty_do_not_count) {
  EXPECT_TRUE(read_platform_variables({{"WEB_CONCURRENCY", ""}, {"PORT", ""}}).values.empty());
}

TEST(ProcessEnvironment, is_ours) {
  ::setenv("MGR_TEST_VARIABLE", "a=b", 1);
  EXPECT_EQ(process_environment()["MGR_TEST_VARIABLE"], "a=b");
  ::unsetenv("MGR_TEST_VARIABLE");
}

}  // namespace
}  // namespace mgr::settings
