#include "manager/cli/find_supervisor.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace mgr::cli {
namespace {

using net::ControlCandidate;

struct Search {
  std::vector<ControlCandidate> live;
  std::string obstacle;  // the last socket that could not be asked, and why
};

Search search(const Places& places) {
  Search result;
  for (const ControlCandidate& candidate :
       net::find_control_sockets(places.control, places.proc_net_unix)) {
    const Result<ControlClient> client = connect_supervisor(candidate.address, places);
    if (client) {
      result.live.push_back(candidate);
    } else if (client.error().code() == EACCES) {
      result.obstacle = client.error().message();
    }
  }
  return result;
}

Error none_found(const std::string& which, const Search& found) {
  std::string line = "no supervisor" + which + " runs";
  if (!found.obstacle.empty()) line += " that answers (" + found.obstacle + ")";
  return Error(line);
}

// "-i shop (/run/mgr/shop.sock), --control /tmp/mgr-0/shop.sock"
std::string choices(const std::vector<ControlCandidate>& live) {
  std::string text;
  for (std::size_t i = 0; i < live.size(); ++i) {
    // -i means the first of its name, so a second one needs its path.
    const auto first = std::find_if(live.begin(), live.end(), [&](const ControlCandidate& other) {
      return other.name == live[i].name;
    });
    if (i > 0) text += ", ";
    text += &*first == &live[i] ? fmt::format("-i {} ({})", live[i].name, live[i].address)
                                : "--control " + live[i].address;
  }
  return text;
}

Result<std::string> find_by_name(const std::string& name, const Places& places) {
  const Search found = search(places);
  for (const ControlCandidate& candidate : found.live)
    if (candidate.name == name) return candidate.address;
  Error error = none_found(" called " + settings::in_quotes(name), found);
  if (found.live.empty()) return error;
  return Error(error.message() + "; others: " + choices(found.live));
}

Result<std::string> checked_control(const std::string& control, const std::string& source) {
  if (control == "off") return Error(source + ": control is off, so nothing can be asked");
  return control;
}

Result<std::string> find_by_file(const std::string& file, const Places& places) {
  const Settings settings = SettingsLoader({}, places.variables, file).load_what_is_valid();
  if (!settings.control.empty()) return checked_control(settings.control, file);
  // A file that has gone still names its supervisor, if that runs.
  const bool readable = ::access(file.c_str(), R_OK) == 0;
  const std::string obstacle = readable ? "" : fmt::format("{}: {}; ", file, std::strerror(errno));
  Result<std::string> found = find_by_name(settings.derived_name(), places);
  return found ? std::move(found) : Error(obstacle + found.error().message());
}

}  // namespace

Places Places::of_process() {
  return {settings::process_environment(), net::ControlEnvironment::of_process()};
}

Result<std::string> find_supervisor(const Target& target, const Places& places) {
  if (target.control) return *target.control;
  if (target.instance) return find_by_name(*target.instance, places);
  const auto variable = places.variables.find("MGR_CONTROL");
  if (variable != places.variables.end() && !variable->second.empty())
    return checked_control(variable->second, "MGR_CONTROL");
  if (target.file) return find_by_file(*target.file, places);
  const Search found = search(places);
  if (found.live.empty()) return none_found("", found);
  if (found.live.size() == 1) return found.live.front().address;
  return Error("several supervisors run; name one: " + choices(found.live));
}

Result<ControlClient> connect_supervisor(const std::string& address, const Places& places) {
  Result<ControlClient> client = ControlClient::connect(address);
  if (!client) {
    const int code = client.error().code();
    if (code != ENOENT && code != ECONNREFUSED) return client;
    return Error("no supervisor answers at " + client.error().message(), code);
  }
  const uid_t uid = client->peer().uid;
  if (uid == places.control.uid || uid == 0 || net::vouched_for(address, uid)) return client;
  return Error(fmt::format("{}: its server runs as user {}, neither you nor root, nor is that user "
                           "the only one who can write its directory",
                           address, uid),
               EACCES);
}

}  // namespace mgr::cli
