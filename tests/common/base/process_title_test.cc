#include "common/base/process_title.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>

namespace mgr {
namespace {

std::string file(const std::string& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// What a child that does this has in its files of /proc.
struct Seen {
  std::string arguments, name, environment;
};
Seen seen_in_child(const std::function<void()>& act) {
  int told[2];
  int wait[2];
  EXPECT_EQ(::pipe(told), 0);
  EXPECT_EQ(::pipe(wait), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    act();
    char byte = 'x';
    (void)!::write(told[1], &byte, 1);
    (void)!::read(wait[0], &byte, 1);
    ::_exit(0);
  }
  char byte;
  EXPECT_EQ(::read(told[0], &byte, 1), 1);
  const std::string directory = "/proc/" + std::to_string(child);
  Seen seen{file(directory + "/cmdline"), file(directory + "/comm"), file(directory + "/environ")};
  EXPECT_EQ(::write(wait[1], &byte, 1), 1);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  for (const int fd : {told[0], told[1], wait[0], wait[1]}) ::close(fd);
  return seen;
}

// Without what fills the place behind it.
std::string text(const std::string& arguments) {
  return arguments.substr(0, arguments.find('\0'));
}

TEST(ProcessTitle, is_the_command_line_and_leaves_the_environment) {
  const Seen before = seen_in_child([] {});
  const Seen seen =
      seen_in_child([] { set_process_title("mgr: worker 3 [a:b] gen 2", "mgr worker 3"); });
  EXPECT_EQ(seen.arguments, std::string("mgr: worker 3 [a:b] gen 2") + '\0');
  EXPECT_EQ(seen.name, "mgr worker 3\n");
  EXPECT_EQ(seen.environment, before.environment);
}

TEST(ProcessTitle, may_be_longer_than_the_arguments_were) {
  const std::string title = "mgr: " + std::string(300, 'x');
  EXPECT_EQ(text(seen_in_child([&] { set_process_title(title, "mgr"); }).arguments), title);
}

TEST(ProcessTitle, is_cut_where_it_is_absurd) {
  const std::string title(5000, 'x');
  EXPECT_EQ(text(seen_in_child([&] { set_process_title(title, "mgr"); }).arguments),
            title.substr(0, 511));
}

TEST(ProcessTitle, of_a_forked_process_is_inherited_until_it_has_its_own) {
  const Seen seen = seen_in_child([] {
    set_process_title("mgr: mold with a long name", "mgr mold");
    set_process_title("mgr: worker", "mgr worker");
  });
  EXPECT_EQ(text(seen.arguments), "mgr: worker");
  EXPECT_EQ(seen.name, "mgr worker\n");
}

}  // namespace
}  // namespace mgr
