#include "manager/supervisor/upgrade.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/mman.h>

#include <utility>

#include "manager/program_version.h"

namespace mgr::manager {
namespace {

// How long connections of the control socket may take to end before they are cut.
constexpr Millis kQuietTime{1000};
constexpr Millis kLookEvery{5};

Result<UniqueFd> memfd_for_words() {
  UniqueFd fd(::memfd_create("mgr-last-words", MFD_CLOEXEC));
  if (!fd) return Error::from_errno("memfd_create");
  return fd;
}

}  // namespace

void set_close_on_exec(int fd, bool close) {
  const int flags = ::fcntl(fd, F_GETFD);
  if (flags < 0) return;
  ::fcntl(fd, F_SETFD, close ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC);
}

Upgrade::Upgrade(EventLoop& loop, const Log& log, const Program& program, Actions actions)
    : loop_(loop), log_(log), program_(program), actions_(std::move(actions)), timer_(loop, [this] {
        look_whether_quiet();
      }) {}

void Upgrade::begin(Asker asker) {
  asker_ = std::move(asker);
  log_.info("upgrade: trying {} on a copy of the state", program_.path());
  if (auto begun = begin_probe(); !begun) fail(begun.error());
}

Result<void> Upgrade::begin_probe() {
  auto executable = program_.open_new();
  if (!executable) return std::move(executable).error();
  executable_ = std::move(*executable);
  std::vector<int> descriptors;
  auto state = write_state(descriptors);
  if (!state) return std::move(state).error();
  step_ = Step::probing;
  probe_.emplace(loop_, [this](const Result<std::string>& version) { probed(version); });
  return probe_->start(program_, executable_.get(), state->get(), descriptors);
}

bool Upgrade::on_exit(pid_t pid, int status) {
  return probe_ && probe_->on_exit(pid, status);
}

void Upgrade::probed(const Result<std::string>& version) {
  probe_.reset();
  if (!version) return fail(version.error());
  version_ = *version;
  step_ = Step::idle;
  if (!actions_.may_go_on()) return;  // begin() comes again, or is over
  step_ = Step::quieting;
  accept_control(false);
  loop_.update_now();
  quiet_by_ = loop_.now() + kQuietTime;
  timer_.start_repeating(kLookEvery);
}

void Upgrade::look_whether_quiet() {
  const std::size_t own = asker_() >= 0 ? 1 : 0;
  if (actions_.control_connections() > own && loop_.now() < quiet_by_) return;
  timer_.stop();
  step_ = Step::ready;
  loop_.stop();
}

void Upgrade::hand_over() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  // What has been caught by now is in the loop's own pipe, which does not pass.
  loop_.run_nowait();
  loop_.run_nowait();
  std::optional<Error> error;
  if (std::exchange(step_, Step::idle) == Step::ready && actions_.may_go_on()) error = execute();
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  accept_control(true);
  if (error) fail(*error);
}

void Upgrade::accept_control(bool accept) {
  if (std::exchange(accepting_, accept) != accept) actions_.accept_control(accept);
}

Result<UniqueFd> Upgrade::write_state(std::vector<int>& descriptors) {
  StateWriter writer;
  writer.document["version"] = program_version();
  writer.document["program"] = program_.path();
  const int asker = asker_();
  writer.document["asked"] = asker >= 0;
  writer.document["asker"] = writer.keep(asker);
  actions_.save(writer);
  auto state = writer.finish();
  descriptors = writer.descriptors();
  return state;
}

Error Upgrade::execute() {
  std::vector<int> descriptors;
  auto state = write_state(descriptors);
  if (!state) return std::move(state).error();
  auto before = Program::open_running();
  if (!before) return std::move(before).error();
  auto words = memfd_for_words();
  if (!words) return std::move(words).error();
  log_.info("upgrade: mgr {} hands over to {} ({})", program_version(), version_, program_.path());
  descriptors.insert(descriptors.end(), {state->get(), before->get(), words->get()});
  for (const int fd : descriptors) set_close_on_exec(fd, false);
  const Error error =
      program_.execute(executable_.get(),
                       Resume{Resume::Role::successor, state->get(), before->get(), words->get()});
  for (const int fd : descriptors) set_close_on_exec(fd, true);
  return error;
}

void Upgrade::cancel() {
  if (step_ == Step::idle) return;
  log_.info("upgrade: given up; mgr {} goes on", program_version());
  rest();
}

void Upgrade::fail(const Error& error) {
  rest();
  log_.error("upgrade to {} refused: {}; mgr {} goes on", program_.path(), error.message(),
             program_version());
  actions_.failed(
      {.ok = false,
       .message = fmt::format("refused: {}; mgr {} goes on", error.message(), program_version())});
}

// Where begin() finds it.
void Upgrade::rest() {
  accept_control(true);
  step_ = Step::idle;
  timer_.stop();
  probe_.reset();
  executable_.reset();
}

}  // namespace mgr::manager
