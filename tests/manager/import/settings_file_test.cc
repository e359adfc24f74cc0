#include "manager/import/settings_file.h"

#include <gtest/gtest.h>

#include "tests/fakes/temporary_directory.h"

namespace mgr::foreign {
namespace {

using nlohmann::json;

constexpr const char* kPython = "/usr/bin/python3";

class SettingsFile : public testing::Test {
 protected:
  Result<Given> run(const std::string& text) {
    return run_settings_file(Server::gunicorn, directory_.write("conf.py", text), kPython);
  }
  json values(const std::string& text) {
    const auto given = run(text);
    if (given) return json(given->values);
    ADD_FAILURE() << given.error().message();
    return {};
  }
  // The error without the file's name.
  std::string error(const std::string& text) {
    const auto given = run(text);
    if (given) return "accepted";
    const std::string file = directory_.path() + "/conf.py: ";
    EXPECT_TRUE(given.error().message().starts_with(file)) << given.error().message();
    return given.error().message().substr(file.size());
  }

  fakes::TemporaryDirectory directory_;
};

TEST_F(SettingsFile, is_executed_and_leaves_its_settings_alone) {
  EXPECT_EQ(values("import os\n"
                   "cores = 2\n"
                   "workers = cores * 2 + 1\n"
                   "bind = ['0.0.0.0:' + '80', 'unix:/run/x']\n"
                   "raw_env = ('A=b',)\n"
                   "timeout = 1.5\n"
                   "pidfile = None\n"
                   "reload = True\n"
                   "print('to standard error')\n"),
            (json{{"workers", 5},
                  {"bind", {"0.0.0.0:80", "unix:/run/x"}},
                  {"raw_env", {"A=b"}},
                  {"timeout", 1.5},
                  {"pidfile", nullptr},
                  {"reload", true}}));
}

TEST_F(SettingsFile, shows_functions_and_other_objects_by_name) {
  const json found = values(
      "import pathlib\n"
      "def on_starting(server): pass\n"
      "class Worker: pass\n"
      "worker_class = Worker\n"
      "chdir = pathlib.Path('/srv')\n"
      "post_fork = lambda server, worker: None\n"
      "logger_class = object()\n");
  EXPECT_EQ(found["on_starting"], "function on_starting");
  EXPECT_EQ(found["worker_class"], "__config__.Worker");
  EXPECT_EQ(found["chdir"], "/srv");
  EXPECT_EQ(found["post_fork"], "function <lambda>");
  EXPECT_TRUE(found["logger_class"].get<std::string>().starts_with("<object object"));
}

TEST_F(SettingsFile, knows_its_own_path_as_gunicorn_tells_it) {
  EXPECT_EQ(values("import os\nchdir = os.path.dirname(__file__)\nproc_name = __name__\n"),
            (json{{"chdir", directory_.path()}, {"proc_name", "__config__"}}));
}

TEST_F(SettingsFile, that_fails_is_told_with_its_line_on_one_line) {
  EXPECT_EQ(error("workers = 1\nworkers = cores\n"),
            "line 2: NameError: name 'cores' is not defined");
  EXPECT_EQ(error("workers = (\n"), "line 1: '(' was never closed");
  EXPECT_EQ(error("raise ValueError('a\\nb')\n"), "line 1: ValueError: a b");
  EXPECT_EQ(error("import sys\nsys.exit(3)\n"), "line 2: SystemExit: 3");
  EXPECT_EQ(error("import os\nos._exit(0)\n"), "/usr/bin/python3 ended without an answer");
}

TEST_F(SettingsFile, that_is_not_there_is_an_error) {
  const auto given = run_settings_file(Server::gunicorn, "/nowhere/conf.py", kPython);
  ASSERT_FALSE(given);
  EXPECT_NE(given.error().message().find("No such file"), std::string::npos);
  EXPECT_FALSE(run_settings_file(Server::gunicorn, "/dev/null", "/nowhere/python3"));
}

TEST_F(SettingsFile, may_be_a_module) {
  const auto given = run_settings_file(Server::gunicorn, "python:http.server", kPython);
  ASSERT_TRUE(given);
  EXPECT_EQ(json(given->values), json::object());
  EXPECT_FALSE(run_settings_file(Server::gunicorn, "python:no_such_module", kPython));
}

TEST_F(SettingsFile, may_be_toml_of_hypercorn) {
  const std::string file = directory_.write(
      "hypercorn.toml",
      "bind = [\"0.0.0.0:80\"]\nworkers = 3\nother = 1\nlogconfig_dict = {a = 1}\n");
  ASSERT_EQ(server_of_file(file), Server::hypercorn);
  const auto given = run_settings_file(Server::hypercorn, file, kPython);
  ASSERT_TRUE(given) << given.error().message();
  EXPECT_EQ(json(given->values),
            (json{{"bind", {"0.0.0.0:80"}}, {"workers", 3}, {"logconfig_dict", {{"a", 1}}}}));
  const auto broken =
      run_settings_file(Server::hypercorn, directory_.write("x.toml", "a b"), kPython);
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().message().find("x.toml: "), std::string::npos);
  EXPECT_EQ(server_of_file("gunicorn.conf.py"), Server::gunicorn);
}

}  // namespace
}  // namespace mgr::foreign
