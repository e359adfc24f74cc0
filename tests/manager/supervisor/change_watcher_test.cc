#include "manager/supervisor/change_watcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/fakes/temporary_directory.h"

namespace mgr::manager {
namespace {

using std::chrono::milliseconds;
namespace fs = std::filesystem;

TEST(SourceFiles, are_those_of_the_directory_unless_paths_are_given) {
  Settings settings;
  settings.chdir = "/";
  EXPECT_EQ(source_files_of(settings), (SourceFiles{{"/"}, {}}));
  settings.reload_paths = {"etc", "etc/passwd", "not-there"};
  settings.app = "build/hello.so:app";
  settings.env_file = ".env";
  settings.config_file = "/srv/mgr.yaml";
  EXPECT_EQ(
      source_files_of(settings),
      (SourceFiles{{"/etc"},
                   {"/etc/passwd", "/not-there", "/build/hello.so", "/.env", "/srv/mgr.yaml"}}));
}

TEST(SourceFiles, are_python_without_what_editors_and_caches_leave) {
  for (const char* name : {"main.py", "a.b.py"}) EXPECT_TRUE(is_source_name(name)) << name;
  for (const char* name : {"main.pyc", ".main.py.swp", ".#main.py", "#main.py#", "main.py~", "4913",
                           "main.py.new", ".main.py", "data.txt", "#main.py"}) {
    EXPECT_FALSE(is_source_name(name)) << name;
  }
  for (const char* name : {"app", "tests"}) EXPECT_TRUE(is_source_directory(name)) << name;
  for (const char* name :
       {"__pycache__", ".git", ".venv", "venv", "node_modules", "site-packages"}) {
    EXPECT_FALSE(is_source_directory(name)) << name;
  }
}

class ChangeWatcherTest : public testing::Test {
 protected:
  ChangeWatcherTest()
      : null_(::open("/dev/null", O_WRONLY)),
        log_(null_.get(), LogFormat::text, LogLevel::info, "test"),
        watcher_(loop_, log_, [this](const std::string& first, int more) {
          calls_.push_back(first);
          more_ = more;
        }) {}

  std::string at(const std::string& name) const { return root_ + "/" + name; }
  void write(const std::string& name) { std::ofstream(at(name)) << "x"; }
  void watch(std::vector<std::string> files = {}) {
    for (auto& file : files) file = at(file);
    watcher_.watch({{root_}, files});
  }
  // Until it calls back, or nothing can be on its way any more.
  void turn() {
    bool over = false;
    Timer timer(loop_, [&] { over = true; });
    timer.start(ChangeWatcher::kQuiet * 3);
    const std::size_t before = calls_.size();
    while (!over && calls_.size() == before) loop_.run_once();
  }
  bool seen(const std::string& name) {
    calls_.clear();
    turn();
    return calls_ == std::vector<std::string>{at(name)};
  }
  bool nothing_seen() {
    calls_.clear();
    turn();
    return calls_.empty();
  }

  fakes::TemporaryDirectory directory_;
  std::string root_ = directory_.path();
  UniqueFd null_;
  Log log_;
  EventLoop loop_;
  std::vector<std::string> calls_;
  int more_ = -1;
  ChangeWatcher watcher_;
};

TEST_F(ChangeWatcherTest, sees_files_that_are_written_renamed_and_removed) {
  write("a.py");
  watch();
  EXPECT_TRUE(nothing_seen());
  write("a.py");
  EXPECT_TRUE(seen("a.py"));
  write("b.tmp");
  fs::rename(at("b.tmp"), at("b.py"));  // as editors save
  EXPECT_TRUE(seen("b.py"));
  fs::rename(at("b.py"), at("c.txt"));
  EXPECT_TRUE(seen("b.py"));
  fs::remove(at("a.py"));
  EXPECT_TRUE(seen("a.py"));
  fs::create_symlink(at("c.txt"), at("link.py"));
  EXPECT_TRUE(seen("link.py"));
}

TEST_F(ChangeWatcherTest, calls_once_for_many_that_come_together) {
  watch();
  for (int i = 0; i < 50; ++i) write("m" + std::to_string(i) + ".py");
  turn();
  EXPECT_EQ(calls_.size(), 1u);
  EXPECT_EQ(more_, 49);
  EXPECT_TRUE(nothing_seen());
}

TEST_F(ChangeWatcherTest, does_not_wait_for_ever_for_quiet) {
  watch();
  Timer writing(loop_, [this] { write("busy.py"); });
  writing.start_repeating(milliseconds(20));
  bool over = false;
  Timer end(loop_, [&] { over = true; });
  end.start(ChangeWatcher::kLongest * 3);
  while (calls_.empty() && !over) loop_.run_once();
  EXPECT_EQ(calls_.size(), 1u);
}

TEST_F(ChangeWatcherTest, sees_no_temporary_files_and_no_caches) {
  fs::create_directories(at("__pycache__"));
  fs::create_directories(at(".git/refs"));
  watch();
  for (const char* name : {".a.py.swp", "a.py~", "4913", "__pycache__/a.py", ".git/x.py",
                           ".git/refs/y.py", "notes.txt", "main.py.new"}) {
    write(name);
  }
  fs::create_directories(at(".cache/deep"));
  write(".cache/deep/z.py");
  EXPECT_TRUE(nothing_seen()) << calls_.front();
}

TEST_F(ChangeWatcherTest, sees_directories_of_any_depth_and_those_that_come_later) {
  fs::create_directories(at("a/b/c"));
  watch();
  write("a/b/c/deep.py");
  EXPECT_TRUE(seen("a/b/c/deep.py"));
  fs::create_directories(at("new/inner"));
  EXPECT_TRUE(nothing_seen()) << "empty directories";
  write("new/inner/late.py");
  EXPECT_TRUE(seen("new/inner/late.py"));
  fs::create_directories(at("whole"));
  write("whole/x.py");  // perhaps before it is watched
  calls_.clear();
  turn();
  EXPECT_FALSE(calls_.empty());
  fs::rename(at("new/inner"), at("moved"));
  calls_.clear();
  turn();
  EXPECT_FALSE(calls_.empty());
  write("moved/late.py");
  EXPECT_TRUE(seen("moved/late.py"));
}

TEST_F(ChangeWatcherTest, sees_single_files_by_whatever_name_also_before_they_exist) {
  fs::create_directories(at("build"));
  watch({"build/app.so", ".env"});
  write("build/app.so");
  EXPECT_TRUE(seen("build/app.so"));
  write(".env");
  EXPECT_TRUE(seen(".env"));
  write("build/other.so");
  write(".other");
  EXPECT_TRUE(nothing_seen());
}

TEST_F(ChangeWatcherTest, watches_a_directory_again_that_was_replaced) {
  root_ = directory_.path() + "/app";
  fs::create_directories(root_);
  watch();
  fs::create_directories(root_ + ".new");
  fs::remove_all(root_);
  fs::rename(root_ + ".new", root_);
  turn();
  write("a.py");
  EXPECT_TRUE(seen("a.py"));
}

TEST_F(ChangeWatcherTest, reminds_of_what_could_not_be_done) {
  watch();
  watcher_.remind();
  turn();
  EXPECT_EQ(calls_, std::vector<std::string>{""});
}

TEST_F(ChangeWatcherTest, watches_nothing_else_after_another_watch) {
  fs::create_directories(at("old"));
  fs::create_directories(at("new"));
  watcher_.watch({{at("old")}, {}});
  watcher_.watch({{at("new")}, {}});
  write("old/a.py");
  EXPECT_TRUE(nothing_seen());
  write("new/a.py");
  EXPECT_TRUE(seen("new/a.py"));
}

TEST_F(ChangeWatcherTest, survives_what_is_not_there) {
  watcher_.watch({{at("nowhere")}, {at("neither/app.so")}});
  EXPECT_TRUE(nothing_seen());
}

}  // namespace
}  // namespace mgr::manager
