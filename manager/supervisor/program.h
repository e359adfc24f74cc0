#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::manager {

// A program that goes on from a saved state is started with the arguments of the one before and
// this last one: --resume=probe:STATE, --resume=successor:STATE:BEFORE:WORDS or
// --resume=returned:STATE:WORDS, each a number of a descriptor.
struct Resume {
  enum class Role {
    probe,      // says whether it could, by its exit status and kProbeAnswer
    successor,  // goes on in the process of the one before, or executes that again
    returned,   // is the one before again: its successor has failed
  };
  Role role = Role::probe;
  int state = -1;   // memfd (saved_state.h)
  int before = -1;  // the executable to go back to
  int words = -1;   // memfd: in which the successor has said why it failed

  std::string argument() const;
  // Nothing where `argument` is none of these.
  static std::optional<Resume> parse(const std::string& argument);
};

// Begins the last line that a probe writes on standard output; behind it stands its version.
inline constexpr char kProbeAnswer[] = "mgr can go on: ";

// What this process executes, and with which arguments.
class Program {
 public:
  // Made first of all: what it looks at may be exchanged, or written over, later. As for main().
  Program(int argc, char** argv);

  // The file that was executed, absolute, as it was named: a symbolic link is not followed, so that
  // a link that points elsewhere later names another program.
  const std::string& path() const { return path_; }
  void set_path(std::string path) { path_ = std::move(path); }
  // With the program's name, without the argument of a resume.
  const std::vector<std::string>& arguments() const { return arguments_; }
  const std::optional<Resume>& resume() const { return resume_; }

  // What is executed now, whatever has become of the file.
  static Result<UniqueFd> open_running();
  // What is there now under path().
  Result<UniqueFd> open_new() const;
  // Executes `program` (a descriptor) with these arguments and the environment of this process.
  // Returns only what failed.
  Error execute(int program, const Resume& resume) const;

 private:
  std::string path_;
  std::vector<std::string> arguments_;
  std::optional<Resume> resume_;
};

// Pointers to the texts, as exec wants them; `texts` must outlive them.
std::vector<char*> pointers_to(std::vector<std::string>& texts);

}  // namespace mgr::manager
