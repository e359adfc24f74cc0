#include "common/settings/interpreter.h"

#include <gtest/gtest.h>

#include <set>

namespace mgr {
namespace {

// A machine on which only `files` can be executed.
class Interpreter : public testing::Test {
 protected:
  std::string found() {
    auto path = find_interpreter(search);
    return path ? *path : "error: " + path.error().message();
  }

  std::set<std::string> files;
  InterpreterSearch search{"", "", "/usr/local/bin:/usr/bin",
                           [this](const std::string& path) { return files.contains(path); }};
};

TEST_F(Interpreter, TheSettingWins) {
  files = {"/opt/python", "/venv/bin/python3", ".venv/bin/python3", "/usr/bin/python3"};
  search.python = "/opt/python";
  search.virtual_env = "/venv";
  EXPECT_EQ(found(), "/opt/python");
}

TEST_F(Interpreter, ASettingWithoutDirectoryIsLookedUpOnPath) {
  files = {"/usr/bin/python3.12"};
  search.python = "python3.12";
  EXPECT_EQ(found(), "/usr/bin/python3.12");
}

TEST_F(Interpreter, ASettingThatNamesNothingIsAnErrorAndNothingElseIsTried) {
  files = {"/usr/bin/python3"};
  search.python = "/opt/python";
  EXPECT_EQ(found(), "error: python: /opt/python is not an executable file");
  search.python = "python9";
  EXPECT_EQ(found(), "error: python: python9 is not on PATH (/usr/local/bin:/usr/bin)");
}

TEST_F(Interpreter, ThenTheActiveVirtualEnvironment) {
  files = {"/venv/bin/python3", ".venv/bin/python3", "/usr/bin/python3"};
  search.virtual_env = "/venv";
  EXPECT_EQ(found(), "/venv/bin/python3");
  files.erase("/venv/bin/python3");
  EXPECT_EQ(found(), "error: VIRTUAL_ENV: /venv/bin/python3 is not an executable file");
}

TEST_F(Interpreter, ThenTheOneBesideTheApplication) {
  files = {"venv/bin/python3", "/usr/bin/python3"};
  EXPECT_EQ(found(), "venv/bin/python3");
  files.insert(".venv/bin/python3");
  EXPECT_EQ(found(), ".venv/bin/python3");
}

TEST_F(Interpreter, ThenTheFirstOnPath) {
  files = {"/usr/bin/python3"};
  EXPECT_EQ(found(), "/usr/bin/python3");
  files.insert("/usr/local/bin/python3");
  EXPECT_EQ(found(), "/usr/local/bin/python3");
}

TEST_F(Interpreter, AnEmptyPartOfPathIsTheCurrentDirectory) {
  search.path = "";
  files = {"./python3"};
  EXPECT_TRUE(found().starts_with("error: no Python interpreter"));
  search.path = ":/usr/bin";
  EXPECT_EQ(found(), "./python3");
}

TEST_F(Interpreter, NoneAtAllIsAnErrorThatSaysWhereItWasLookedFor) {
  EXPECT_EQ(
      found(),
      "error: no Python interpreter: no setting 'python', no VIRTUAL_ENV, no .venv or venv in "
      "the application's directory, no python3 on PATH (/usr/local/bin:/usr/bin)");
}

TEST(ExecutableFile, IsAFileThatMayBeExecuted) {
  EXPECT_TRUE(is_executable_file("/bin/sh"));
  EXPECT_FALSE(is_executable_file("/usr"));
  EXPECT_FALSE(is_executable_file("/etc/passwd"));
  EXPECT_FALSE(is_executable_file("/nowhere"));
}

TEST_F(Interpreter, an_empty_path_is_said_to_be_empty) {
  search.path = "";
  EXPECT_TRUE(found().ends_with("no python3 on PATH, which is empty"));
}

}  // namespace
}  // namespace mgr
