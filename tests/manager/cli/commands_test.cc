#include "manager/cli/commands.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/fakes/temporary_directory.h"

namespace mgr::cli {
namespace {

// What the programs were called with last.
struct Calls {
  std::string run_app, check_app;
  int reloaded_workers = 0;
};
Calls calls;

int fake_run(SettingsLoader loader, LoadedSettings settings) {
  calls.run_app = settings.values.app;
  calls.reloaded_workers = loader.load()->values.workers;
  return 42;
}

int fake_check(const Settings& settings) {
  calls.check_app = settings.app;
  return 4;
}

class Commands : public testing::Test {
 protected:
  Commands() { calls = {}; }

  int mgr(std::vector<std::string> arguments) {
    out_.str("");
    err_.str("");
    return run_command_line(std::move(arguments), {fake_run, fake_check}, places_, {out_, err_});
  }

  fakes::TemporaryDirectory directory_;
  Places places_;
  std::ostringstream out_, err_;
};

TEST_F(Commands, run_and_check_get_the_settings_and_give_the_exit_status) {
  const std::string file = directory_.write("x.yaml", "app: main:app\nworkers: 3\n");
  EXPECT_EQ(mgr({"run", "-c", file}), 42);
  EXPECT_EQ(calls.run_app, "main:app");
  EXPECT_EQ(calls.reloaded_workers, 3);
  EXPECT_EQ(mgr({"check", "other:app", "-c", file}), 4);
  EXPECT_EQ(calls.check_app, "other:app");
}

TEST_F(Commands, one_that_goes_on_from_a_state_needs_no_valid_settings) {
  const std::string file = directory_.write("x.yaml", "app: main:app\nworkers: many\n");
  std::string resumed;
  const Programs programs{fake_run, fake_check, [&](SettingsLoader loader) {
                            resumed = loader.file();
                            return 17;
                          }};
  const auto run = [&](std::vector<std::string> arguments) {
    return run_command_line(std::move(arguments), programs, places_, {out_, err_});
  };
  EXPECT_EQ(run({"run", "-c", file}), 17);
  EXPECT_EQ(resumed, file);
  EXPECT_EQ(calls.run_app, "");
  EXPECT_EQ(run({"run", "--no-such-flag"}), kUsageError);
}

TEST_F(Commands, a_bad_value_is_bad_configuration_from_every_source) {
  EXPECT_EQ(mgr({"run", "main:app", "--workers", "many"}), kBadConfiguration);
  EXPECT_EQ(err_.str(), "--workers: 'many' is no whole number; allowed: auto or 1 to 512\n");
  places_.variables["MGR_WORKERS"] = "many";
  EXPECT_EQ(mgr({"check", "main:app"}), kBadConfiguration);
  EXPECT_EQ(mgr({"config"}), kBadConfiguration);
  places_.variables.clear();
  EXPECT_EQ(mgr({"config", "-c", directory_.write("x.yaml", "nope: 1\n")}), kBadConfiguration);
  EXPECT_EQ(mgr({"run", "main:app", "--chdir", "/nowhere"}), kBadConfiguration);
  EXPECT_EQ(calls.run_app, "");
}

TEST_F(Commands, an_application_is_needed_to_run) {
  EXPECT_EQ(mgr({"run"}), kUsageError);
  EXPECT_EQ(mgr({"check", "-c", directory_.write("x.yaml", "workers: 1\n")}), kBadConfiguration);
  EXPECT_NE(err_.str().find("app"), std::string::npos);
}

TEST_F(Commands, config_prints_values_with_origins) {
  const std::string file = directory_.write("x.yaml", "workers: 3\n");
  EXPECT_EQ(mgr({"config", "-c", file, "--keep-alive", "9"}), 0);
  EXPECT_NE(out_.str().find("workers: 3  "), std::string::npos);
  EXPECT_NE(out_.str().find("# file:1\n"), std::string::npos);
  EXPECT_EQ(mgr({"config", "-c", file, "--keep-alive", "9", "--json"}), 0);
  const auto document = nlohmann::json::parse(out_.str());
  EXPECT_EQ(document["workers"], (nlohmann::json{{"value", 3}, {"origin", "file:1"}}));
  EXPECT_EQ(document["keep_alive"]["origin"], "command line");
}

TEST_F(Commands, config_warns_of_unknown_variables_on_standard_error) {
  places_.variables["MGR_WORKER"] = "2";
  EXPECT_EQ(mgr({"config"}), 0);
  EXPECT_EQ(err_.str(),
            "MGR_WORKER: no such setting, ignored; the nearest known one is MGR_WORKERS\n");
}

TEST_F(Commands, schema_and_reference_need_no_valid_configuration) {
  places_.variables["MGR_WORKERS"] = "many";
  EXPECT_EQ(mgr({"config", "--schema"}), 0);
  EXPECT_TRUE(nlohmann::json::parse(out_.str()).contains("properties"));
  EXPECT_EQ(mgr({"config", "--reference"}), 0);
  EXPECT_NE(out_.str().find("| `workers` |"), std::string::npos);
}

TEST_F(Commands, version_names_every_library) {
  EXPECT_EQ(mgr({"version"}), 0);
  for (const char* name : {"mgr ", "libuv ", "llhttp ", "yaml-cpp ", "spdlog ", "fmt ",
                           "nlohmann-json ", "CLI11 ", "CPython 3.11"})
    EXPECT_NE(out_.str().find(name), std::string::npos) << name;
}

TEST_F(Commands, help_goes_to_standard_output_and_usage_errors_do_not) {
  EXPECT_EQ(mgr({"--help"}), 0);
  EXPECT_NE(out_.str(), "");
  EXPECT_EQ(err_.str(), "");
  EXPECT_EQ(mgr({"nope"}), kUsageError);
  EXPECT_EQ(out_.str(), "");
}

TEST_F(Commands, clients_without_a_supervisor_fail_with_one_line) {
  places_.proc_net_unix = "/dev/null";
  places_.control.run_directory = places_.control.tmp_directory = directory_.path();
  for (const char* verb : {"status", "metrics", "ready", "reload", "restart", "stop", "upgrade"}) {
    EXPECT_EQ(mgr({verb}), kFailed) << verb;
    EXPECT_EQ(err_.str(), "no supervisor runs\n") << verb;
  }
  EXPECT_EQ(mgr({"scale", "-1"}), kFailed);
}

}  // namespace
}  // namespace mgr::cli
