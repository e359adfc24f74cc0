#include "manager/supervisor/saved_state.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/ipc/messages.h"
#include "common/ipc/scoreboard.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

// New descriptors do not take the numbers of libraries, nor those that a mold's are placed on.
constexpr int kAbove = 16;

Result<void> check_number(const json& header, const char* name, int own, const char* what) {
  const auto found = header.find(name);
  if (found == header.end() || !found->is_number_integer()) {
    return Error(fmt::format("the saved state does not say its {}", what));
  }
  if (*found == own) return {};
  return Error(
      fmt::format("the running program's {} is {}, this program's is {}: mgr has to be "
                  "stopped and started",
                  what, found->dump(), own));
}

}  // namespace

json StateWriter::keep(int fd) {
  if (fd < 0) return nullptr;
  descriptors_.push_back(fd);
  return fd;
}

Result<UniqueFd> StateWriter::finish() {
  json whole = document;
  whole["format"] = saved_state_format();
  whole["protocol"] = ipc::kProtocolVersion;
  whole["scoreboard_version"] = ipc::kScoreboardVersion;
  whole["descriptors"] = descriptors_;
  return ipc::sealed_memfd("mgr-state", whole.dump(-1, ' ', false, json::error_handler_t::replace));
}

Result<StateReader> StateReader::read(int memfd) {
  auto text = ipc::read_all(memfd);
  if (!text) return std::move(text).error().with("the saved state");
  json document = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return Error("the saved state is no JSON object");
  for (const auto& checked :
       {check_number(document, "format", saved_state_format(), "format of the saved state"),
        check_number(document, "protocol", ipc::kProtocolVersion, "protocol with its workers"),
        check_number(document, "scoreboard_version", ipc::kScoreboardVersion,
                     "layout of the scoreboard")}) {
    if (!checked) return checked.error();
  }
  StateReader reader(std::move(document));
  auto got = reading("descriptors", [&reader] {
    reader.originals_ = reader.document_.at("descriptors").get<std::vector<int>>();
    for (const int fd : reader.originals_) {
      if (::fcntl(fd, F_GETFD) < 0) throw Unreadable{fmt::format("{} is not open", fd)};
    }
  });
  if (!got) return std::move(got).error();
  return reader;
}

UniqueFd StateReader::take(const json& kept) const {
  if (kept.is_null()) return {};
  UniqueFd copy(::fcntl(kept.get<int>(), F_DUPFD_CLOEXEC, kAbove));
  if (!copy) throw Unreadable{Error::from_errno("descriptor " + kept.dump()).message()};
  return copy;
}

void StateReader::close_originals() {
  for (const int fd : originals_) {
    if (fd > STDERR_FILENO) ::close(fd);
  }
  originals_.clear();
}

namespace detail {

Error unreadable(std::string_view part, std::string_view what) {
  return Error(fmt::format("the saved state: {}: {}", part, what));
}

}  // namespace detail

json to_saved(std::chrono::milliseconds time) {
  return time.count();
}

std::chrono::milliseconds time_from_saved(const json& saved) {
  return std::chrono::milliseconds(saved.get<std::int64_t>());
}

}  // namespace mgr::manager
