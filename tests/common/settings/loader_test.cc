#include "common/settings/sources/loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/fakes/temporary_directory.h"

namespace mgr {
namespace {

using namespace std::chrono_literals;

class Loader : public testing::Test {
 protected:
  std::string file(const std::string& text) { return directory_.write("mgr.yaml", text); }
  SettingsLoader loader(std::optional<std::string> path = {}) const {
    return SettingsLoader(flags_, environment_, std::move(path));
  }
  LoadedSettings loaded(std::optional<std::string> path = {}) const {
    Result<LoadedSettings> result = loader(std::move(path)).load();
    EXPECT_TRUE(result.ok()) << result.error().message();
    return result.ok() ? *result : LoadedSettings{};
  }
  std::string problem(std::optional<std::string> path = {}) const {
    const Result<LoadedSettings> result = loader(std::move(path)).load();
    return result ? "" : result.error().message();
  }

  fakes::TemporaryDirectory directory_;
  CommandLineValues flags_;
  settings::Environment environment_;
};

// A working directory of its own for one test.
class WorkingDirectory {
 public:
  explicit WorkingDirectory(const std::string& path) : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(path);
  }
  ~WorkingDirectory() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_;
};

TEST_F(Loader, every_source_overrides_those_below_it) {
  EXPECT_EQ(loaded().origins["workers"], "default");
  environment_["WEB_CONCURRENCY"] = "2";
  EXPECT_EQ(loaded().values.workers, 2);
  EXPECT_EQ(loaded().origins["workers"], "env");
  const std::string path = file("app: a\nworkers: 3\n");
  EXPECT_EQ(loaded(path).values.workers, 3);
  EXPECT_EQ(loaded(path).origins["workers"], "file:2");
  environment_["MGR_WORKERS"] = "4";
  EXPECT_EQ(loaded(path).values.workers, 4);
  EXPECT_EQ(loaded(path).origins["workers"], "env");
  flags_["workers"] = {"5"};
  EXPECT_EQ(loaded(path).values.workers, 5);
  EXPECT_EQ(loaded(path).origins["workers"], "command line");
}

TEST_F(Loader, a_higher_source_replaces_lists_and_maps_whole) {
  const std::string path = file("bind: [':1', ':2']\nenv: {A: a, B: b}\n");
  flags_["bind"] = {":3"};
  flags_["env"] = {"C=c"};
  EXPECT_EQ(loaded(path).values.bind, (std::vector<std::string>{":3"}));
  EXPECT_EQ(loaded(path).values.env, (std::map<std::string, std::string>{{"C", "c"}}));
}

TEST_F(Loader, an_invalid_value_counts_even_where_it_is_overridden) {
  flags_["workers"] = {"2"};
  EXPECT_FALSE(problem(file("workers: many\n")).empty());
}

TEST_F(Loader, errors_name_where_the_value_stands) {
  const std::string path = file("\nkeep_alive: soon\n");
  EXPECT_EQ(problem(path),
            path +
                ":2: keep_alive: 'soon' is no duration (such as 500ms, 30s, 5m, 2h); "
                "allowed: 1ms to 24h");
  environment_["MGR_WORKERS"] = "many";
  EXPECT_EQ(problem(), "MGR_WORKERS: 'many' is no whole number; allowed: auto or 1 to 512");
  environment_.clear();
  flags_["limit_headers"] = {"0"};
  EXPECT_EQ(problem(), "--limit-headers: '0' is out of range; allowed: 1 to 10000");
  flags_ = {{"env", {"A"}}};
  EXPECT_EQ(problem(), "--env: 'A' is no KEY=VALUE; allowed: NAME=VALUE");
  flags_.clear();
  environment_["WEB_CONCURRENCY"] = "0";
  EXPECT_EQ(problem(), "WEB_CONCURRENCY: '0' is out of range; allowed: auto or 1 to 512");
}

TEST_F(Loader, tells_everything_that_is_wrong_a_line_each) {
  flags_["workers"] = {"x"};
  const std::string lines = problem(file("nope: 1\nkeep_alive: y\n"));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2);
}

TEST_F(Loader, reads_the_file_anew_each_time) {
  const SettingsLoader same = loader(file("workers: 2\n"));
  EXPECT_EQ(same.load()->values.workers, 2);
  file("workers: 3\n");
  EXPECT_EQ(same.load()->values.workers, 3);
  file("workers: [\n");
  EXPECT_FALSE(same.load());
}

TEST_F(Loader, a_file_that_was_there_and_is_gone_is_an_error) {
  const SettingsLoader same = loader(file("workers: 2\n"));
  std::filesystem::remove(directory_.path() + "/mgr.yaml");
  EXPECT_FALSE(same.load());
}

TEST_F(Loader, without_a_name_takes_mgr_yaml_of_the_working_directory_if_there_is_one) {
  const WorkingDirectory here(directory_.path());
  EXPECT_EQ(loader().file(), "");
  EXPECT_EQ(loaded().values.config_file, "");
  file("workers: 6\n");
  EXPECT_EQ(loader().file(), "mgr.yaml");
  EXPECT_EQ(loaded().values.workers, 6);
  EXPECT_EQ(loaded().values.config_file, std::filesystem::current_path().string() + "/mgr.yaml");
  environment_["MGR_CONFIG"] = directory_.write("other.yaml", "workers: 7\n");
  EXPECT_EQ(loaded().values.workers, 7);
  EXPECT_EQ(loaded(directory_.write("named.yaml", "workers: 8\n")).values.workers, 8);
}

TEST_F(Loader, finds_its_file_again_from_another_working_directory) {
  file("workers: 6\n");
  std::optional<SettingsLoader> made_there;
  {
    const WorkingDirectory there(directory_.path());
    made_there = loader();
  }
  EXPECT_EQ(made_there->load()->values.workers, 6);
}

TEST_F(Loader, unknown_variables_come_as_warnings) {
  environment_["MGR_PORT"] = "tcp://10.0.0.1:80";
  EXPECT_EQ(loaded().warnings.size(), 1u);
}

TEST_F(Loader, a_control_group_implies_its_permission) {
  flags_["control_group"] = {"root"};
  EXPECT_EQ(loaded().values.control_mode, 0660);
  flags_["control_mode"] = {"0600"};
  EXPECT_EQ(loaded().values.control_mode, 0600);
}

TEST_F(Loader, what_is_valid_is_known_although_the_rest_is_not) {
  const Settings valid = loader(file("name: shop\nworkers: many\nnope: 1\n")).load_what_is_valid();
  EXPECT_EQ(valid.name, "shop");
  EXPECT_EQ(valid.derived_name(), "shop");
  EXPECT_EQ(loader(file("{")).load_what_is_valid().derived_name(), "mgr");
}

TEST_F(Loader, describes_every_value_with_its_origin) {
  const nlohmann::json all = loaded(file("keep_alive: 9\n")).describe();
  EXPECT_EQ(all["keep_alive"], (nlohmann::json{{"value", "9s"}, {"origin", "file:1"}}));
  EXPECT_EQ(all["bind"]["origin"], "default");
}

TEST_F(Loader, what_it_prints_is_a_file_that_means_the_same) {
  flags_ = {{"app", {"main:app"}},        {"name", {"null"}},          {"bind", {":1", "[::1]:2"}},
            {"env", {"A=x: # y", "B="}},  {"python_path", {"~", "-"}}, {"headers", {"X-A=\"q\""}},
            {"root_path", {"/a:b"}},      {"workers", {"3"}},          {"control", {"off"}},
            {"log_file", {"/tmp/a#b c"}}, {"preload", {"off"}}};
  const LoadedSettings first = loaded();
  const std::string text = to_yaml(first);
  flags_.clear();
  LoadedSettings second = loaded(file(text));
  second.values.config_file = first.values.config_file;
  EXPECT_EQ(second.values.to_json(), first.values.to_json()) << text;
}

TEST_F(Loader, this_machine_is_asked_for_directories_groups_and_files) {
  Settings settings;
  EXPECT_TRUE(check_on_this_machine(settings).ok());
  settings.chdir = "/nowhere";
  EXPECT_EQ(check_on_this_machine(settings).error().message(),
            "chdir: '/nowhere': No such file or directory");
  settings.chdir = "/etc/passwd";
  EXPECT_EQ(check_on_this_machine(settings).error().message(),
            "chdir: '/etc/passwd' is no directory");
  settings.chdir = "/";
  settings.socket_group = "no-such-group";
  EXPECT_EQ(check_on_this_machine(settings).error().message(),
            "socket_group: 'no-such-group' is no group of this machine");
  settings.socket_group = "root";
  settings.env_file = directory_.write("env", "nonsense\n");
  EXPECT_EQ(check_on_this_machine(settings).error().message(),
            "env_file: " + directory_.path() + "/env:1: a line that is not NAME=VALUE");
  settings.chdir = directory_.path();
  settings.env_file = directory_.write("good", "A=1\n").substr(directory_.path().size() + 1);
  EXPECT_TRUE(check_on_this_machine(settings).ok());
}

TEST_F(Loader, this_machine_is_asked_for_directories_of_files_and_sockets) {
  Settings settings;
  settings.log_file = "mgr.log";
  settings.access_log = "-";
  settings.pidfile = directory_.path() + "/mgr.pid";
  settings.control = "off";
  settings.bind = {":8000", "unix:@a/b", "unix:" + directory_.path() + "/s", "fd://3"};
  EXPECT_EQ(missing_directories(settings), std::vector<std::string>());
  settings.log_file = "nowhere/mgr.log";
  settings.access_log = "/nowhere/access.log";
  settings.pidfile = "/etc/passwd/mgr.pid";
  settings.control = "/nowhere/c";
  settings.bind = {"unix:/nowhere/s"};
  const std::vector<std::string> warnings = missing_directories(settings);
  ASSERT_EQ(warnings.size(), 5U);
  EXPECT_EQ(warnings[0],
            "log_file: nowhere/mgr.log: there is no directory nowhere yet, and mgr run needs it");
  EXPECT_EQ(warnings[4],
            "bind: /nowhere/s: there is no directory /nowhere yet, and mgr run needs it");
}

TEST_F(Loader, a_value_that_is_no_utf8_is_refused_from_every_source) {
  environment_["MGR_ROOT_PATH"] = "/\xff";
  flags_["env"] = {"A=\xff"};
  flags_["chdir"] = {"d\xe9"};
  const std::string lines = problem();
  EXPECT_NE(lines.find("MGR_ROOT_PATH: '/\\xff' is not UTF-8"), std::string::npos) << lines;
  EXPECT_NE(lines.find("--env: 'A': '\\xff' is not UTF-8"), std::string::npos) << lines;
  EXPECT_NE(lines.find("--chdir: 'd\\xe9' is not UTF-8"), std::string::npos) << lines;
}

TEST_F(Loader, a_pair_of_durations_is_quoted_as_given) {
  for (const char* value : {"1s..", "1s..x", "x..1s"}) {
    flags_["crash_backoff"] = {value};
    EXPECT_NE(problem().find("'" + std::string(value) + "'"), std::string::npos) << problem();
  }
}

TEST_F(Loader, a_value_that_follows_from_another_setting_has_its_origin) {
  const std::string path = file("reload_on_change: on\ncontrol_group: root\n");
  EXPECT_EQ(loaded(path).origins["workers"], "file:1");
  EXPECT_EQ(loaded(path).origins["min_ready"], "file:1");
  EXPECT_EQ(loaded(path).origins["control_mode"], "file:2");
}

TEST_F(Loader, reads_what_it_writes) {
  for (const char* text :
       {"null", "Null", "NULL", "~",    "",     " a",   "a ",  "- a", "#a", "a #b",
        "a: b", "true", "1e3",  "0x1f", "[a",   "{a",   "*a",  "&a",  "!a", "%a",
        "@a",   "'",    "\"",   "\\",   "a\nb", "\x1b", "---", "...", "ä"}) {
    flags_ = {{"env", {"A=" + std::string(text)}}};
    const std::string path = file(to_yaml(loaded()));
    flags_.clear();
    EXPECT_EQ(loaded(path).values.env.at("A"), text);
  }
}

TEST_F(Loader, a_control_socket_is_off_by_any_word_of_yaml_for_it) {
  for (const char* word : {"off", "no", "false", "False", "FALSE"})
    EXPECT_EQ(loaded(file("control: " + std::string(word) + "\n")).values.control, "off");
}

}  // namespace
}  // namespace mgr
