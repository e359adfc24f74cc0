#include "manager/supervisor/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/ipc/channel.h"
#include "manager/supervisor/program_probe.h"
#include "tests/fakes/temporary_directory.h"

namespace mgr::manager {
namespace {

Program started_as(std::vector<std::string> arguments) {
  const auto pointers = pointers_to(arguments);
  return Program(static_cast<int>(arguments.size()), const_cast<char**>(pointers.data()));
}

std::string self() {
  return std::filesystem::read_symlink("/proc/self/exe").string();
}

TEST(ProgramTest, resume_is_read_as_it_is_written) {
  for (const Resume& resume :
       {Resume{Resume::Role::probe, 7}, Resume{Resume::Role::returned, 7, -1, 9},
        Resume{Resume::Role::successor, 7, 8, 9}}) {
    const auto read = Resume::parse(resume.argument());
    ASSERT_TRUE(read) << resume.argument();
    EXPECT_EQ(read->role, resume.role);
    EXPECT_EQ(read->state, resume.state);
    EXPECT_EQ(read->before, resume.before);
    EXPECT_EQ(read->words, resume.words);
  }
}

TEST(ProgramTest, other_arguments_are_no_resume) {
  for (const char* text : {"--resume=", "--resume=probe:", "--resume=probe:x", "--resume=probe:-1",
                           "--resume=probe:1:2", "--resume=successor:1:2", "--resume=guest:1",
                           "--resume=returned:1:", "resume=probe:1", "run"}) {
    EXPECT_FALSE(Resume::parse(text)) << text;
  }
}

TEST(ProgramTest, takes_the_argument_of_a_resume_away) {
  const Program plain = started_as({"mgr", "run", "main:app"});
  EXPECT_FALSE(plain.resume());
  const Program resumed = started_as({"mgr", "run", "main:app", "--resume=probe:5"});
  EXPECT_EQ(resumed.arguments(), plain.arguments());
  EXPECT_EQ(resumed.resume()->state, 5);
}

TEST(ProgramTest, is_named_by_the_link_that_it_was_started_by) {
  fakes::TemporaryDirectory directory;
  const std::string link = directory.path() + "/current";
  std::filesystem::create_symlink(self(), link);
  EXPECT_EQ(started_as({link, "run"}).path(), link);
}

TEST(ProgramTest, is_named_by_the_kernel_where_its_name_is_another_programs) {
  EXPECT_EQ(started_as({"/bin/true", "run"}).path(), self());
  EXPECT_EQ(started_as({"no-such-program-on-path", "run"}).path(), self());
}

TEST(ProgramTest, is_found_on_the_path_and_made_absolute) {
  fakes::TemporaryDirectory directory;
  std::filesystem::create_symlink(self(), directory.path() + "/mgr-by-path");
  const std::string before = std::getenv("PATH");
  ::setenv("PATH", ("/nowhere::" + directory.path()).c_str(), 1);
  EXPECT_EQ(started_as({"mgr-by-path"}).path(), directory.path() + "/mgr-by-path");
  ::setenv("PATH", before.c_str(), 1);
  const auto relative = std::filesystem::relative(directory.path() + "/mgr-by-path");
  EXPECT_EQ(started_as({relative.string()}).path(), std::filesystem::current_path() / relative);
}

// ---- probes: /bin/sh in the place of another mgr

class ProgramProbeTest : public testing::Test {
 protected:
  // What is found of a program that does this.
  std::string found(const std::string& script) { return found({"sh", "-c", script}, "/bin/sh"); }
  std::string found(std::vector<std::string> arguments, const std::string& path) {
    Program program = started_as(std::move(arguments));
    program.set_path(path);
    auto executable = program.open_new();
    if (!executable) return executable.error().message();
    std::optional<Result<std::string>> result;
    ProgramProbe probe(
        loop_, [&](const Result<std::string>& found) { result.emplace(found); }, patience_);
    EXPECT_TRUE(probe.start(program, executable->get(), state_.get(), kept_).ok());
    for (int i = 0; i < 2000 && !result; ++i) {
      loop_.run_nowait();
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, WNOHANG);
      if (pid > 0) {
        EXPECT_TRUE(probe.on_exit(pid, status));
      }
      ::usleep(5000);
    }
    if (!result) return "nothing was found";
    return *result ? "version " + **result : result->error().message();
  }

  EventLoop loop_;
  UniqueFd state_{::memfd_create("state", MFD_CLOEXEC)};
  std::vector<int> kept_;
  std::chrono::milliseconds patience_{20'000};
};

TEST_F(ProgramProbeTest, takes_a_programs_own_word_and_status_0_for_yes) {
  EXPECT_EQ(found("echo some warning; echo 'mgr can go on: 9.9.9'"), "version 9.9.9");
}

TEST_F(ProgramProbeTest, does_not_take_silence_for_yes) {
  EXPECT_EQ(found("exit 0"), "it does not know how to go on from a saved state");
  EXPECT_EQ(found("echo hello"), "it does not know how to go on from a saved state");
}

TEST_F(ProgramProbeTest, says_why_a_program_can_not_go_on) {
  EXPECT_EQ(found("echo 'mgr: no such thing' >&2; exit 1"),
            "mgr: no such thing (its trial on a copy of the state ended with exit status 1)");
  EXPECT_EQ(found("echo 'mgr can go on: 9.9.9'; exit 7"),
            "its trial on a copy of the state ended with exit status 7");
}

TEST_F(ProgramProbeTest, names_the_signal_of_a_program_that_crashes) {
  EXPECT_EQ(found("kill -SEGV $$"),
            "its trial on a copy of the state ended with killed by signal 11 (Segmentation fault)");
}

TEST_F(ProgramProbeTest, ends_a_program_that_hangs) {
  patience_ = std::chrono::milliseconds(100);
  EXPECT_EQ(found("exec sleep 3600"), "its trial on a copy of the state took longer than 0.1 s");
}

TEST_F(ProgramProbeTest, names_a_file_that_is_no_program) {
  fakes::TemporaryDirectory directory;
  const std::string path = directory.path() + "/mgr";
  UniqueFd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0755)).reset();
  EXPECT_NE(found({"mgr"}, path).find(path + ": Exec format error"), std::string::npos);
  ::chmod(path.c_str(), 0644);
  EXPECT_NE(found({"mgr"}, path).find(path + ": Permission denied"), std::string::npos);
  ::unlink(path.c_str());
  EXPECT_EQ(found({"mgr"}, path), path + ": No such file or directory");
  std::ofstream(path) << "#!/bin/sh\nexit 0\n";
  ::chmod(path.c_str(), 0755);
  EXPECT_EQ(found({"mgr"}, path),
            path + ": is a script; mgr goes on only in a program of its own kind");
}

TEST_F(ProgramProbeTest, gives_the_descriptors_of_the_state_and_no_others) {
  const UniqueFd kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd other(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  kept_ = {kept.get()};
  const std::string has = "test -e /proc/self/fd/";
  EXPECT_EQ(found(has + std::to_string(kept.get()) + " && " + has + std::to_string(state_.get()) +
                  " && ! " + has + std::to_string(other.get()) + " && echo 'mgr can go on: 1'"),
            "version 1");
  EXPECT_EQ(::fcntl(kept.get(), F_GETFD), FD_CLOEXEC);
}

TEST_F(ProgramProbeTest, is_not_drowned_by_a_program_that_talks_a_lot) {
  EXPECT_EQ(found("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo 'mgr can go on: 2'"),
            "version 2");
}

}  // namespace
}  // namespace mgr::manager
