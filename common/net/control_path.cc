#include "common/net/control_path.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "common/net/address.h"

namespace mgr::net {
namespace {

constexpr std::string_view kSuffix = ".sock";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string tmp_place(const ControlEnvironment& environment) {
  return environment.tmp_directory + "/mgr-" + std::to_string(environment.uid);
}

std::string xdg_place(const ControlEnvironment& environment) {
  return environment.xdg_runtime_dir.empty() ? "" : environment.xdg_runtime_dir + "/mgr";
}

std::string first_runtime_directory(const ControlEnvironment& environment) {
  return environment.runtime_directory.substr(0, environment.runtime_directory.find(':'));
}

// Who else may own a directory that we bind in: RUNTIME_DIRECTORY is the service manager's gift.
enum class Owner { ours, anyone };

bool usable_directory(const std::string& path, Owner owner, uid_t uid) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) return false;
  if (owner == Owner::ours) {
    if (info.st_uid != uid) return false;
    if (info.st_mode & (S_IWGRP | S_IWOTH)) return false;
  }
  return ::access(path.c_str(), W_OK | X_OK) == 0;
}

bool make_usable(const std::string& path, mode_t mode, uid_t uid) {
  ::mkdir(path.c_str(), mode);  // whether it exists is for usable_directory() to say
  return usable_directory(path, Owner::ours, uid);
}

std::vector<std::string> socket_files(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(directory.c_str()), ::closedir);
  while (const dirent* entry = handle ? ::readdir(handle.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    if (name.size() > kSuffix.size() && name.ends_with(kSuffix)) names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> subdirectories(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> found;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;  // a link that leads nowhere, or where this user may not look
    if (entry->is_directory(unknown)) found.push_back(entry->path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// A line of /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path. The abstract name of a
// listening stream socket, with its '@'.
std::optional<std::string> listening_abstract_name(const std::string& line) {
  constexpr const char* kListening = "00010000";
  constexpr const char* kStream = "0001";
  std::istringstream fields(line);
  std::string number, references, protocol, flags, type, state, inode, path;
  fields >> number >> references >> protocol >> flags >> type >> state >> inode >> path;
  if (flags != kListening || type != kStream || !path.starts_with('@')) return {};
  return path;
}

void add(std::vector<ControlCandidate>& found, std::string address, std::string name) {
  const auto same = [&](const ControlCandidate& other) { return other.address == address; };
  if (std::none_of(found.begin(), found.end(), same))
    found.push_back({std::move(address), std::move(name)});
}

void add_abstract(std::vector<ControlCandidate>& found, const ControlEnvironment& environment,
                  const std::string& proc_net_unix) {
  std::ifstream table(proc_net_unix);
  for (std::string line; std::getline(table, line);) {
    const std::optional<std::string> name = listening_abstract_name(line);
    if (!name) continue;
    for (const uid_t uid : {environment.uid, uid_t{0}}) {
      const std::string prefix = abstract_control_name(uid, "");
      if (name->size() > prefix.size() && name->starts_with(prefix))
        add(found, *name, name->substr(prefix.size()));
    }
  }
}

}  // namespace

ControlEnvironment ControlEnvironment::of_process() {
  ControlEnvironment environment;
  environment.uid = ::geteuid();
  environment.runtime_directory = variable("RUNTIME_DIRECTORY");
  environment.xdg_runtime_dir = variable("XDG_RUNTIME_DIR");
  return environment;
}

std::vector<std::string> control_directories(const ControlEnvironment& environment) {
  std::vector<std::string> directories{first_runtime_directory(environment), xdg_place(environment),
                                       environment.run_directory};
  for (auto& service : subdirectories(environment.run_directory)) {
    if (service != directories.front()) directories.push_back(std::move(service));
  }
  directories.push_back(tmp_place(environment));
  std::erase(directories, "");
  return directories;
}

Result<std::string> choose_control_socket(std::string_view name,
                                          const ControlEnvironment& environment) {
  const auto place = [&]() -> std::string {
    const std::string given = first_runtime_directory(environment);
    if (!given.empty() && usable_directory(given, Owner::anyone, environment.uid)) return given;
    const std::string xdg = xdg_place(environment);
    if (!xdg.empty() && make_usable(xdg, 0700, environment.uid)) return xdg;
    if (environment.uid == 0 && make_usable(environment.run_directory, 0755, 0))
      return environment.run_directory;
    const std::string tmp = tmp_place(environment);
    return make_usable(tmp, 0700, environment.uid) ? tmp : "";
  }();
  std::string address = place.empty() ? abstract_control_name(environment.uid, name)
                                      : place + "/" + std::string(name) + std::string(kSuffix);
  const Result<UnixAddress> fits = make_unix_address(address);
  if (!fits) return Error(fits.error()).with("control socket");
  return address;
}

std::string abstract_control_name(uid_t uid, std::string_view name) {
  return "@mgr-" + std::to_string(uid) + "-" + std::string(name);
}

bool vouched_for(const std::string& address, uid_t server) {
  if (address.empty() || address.front() == '@') return false;
  std::error_code error;
  auto directory =
      std::filesystem::canonical(std::filesystem::absolute(address, error).parent_path(), error);
  if (error) return false;
  struct stat info {};
  if (::lstat(directory.c_str(), &info) != 0 || info.st_uid != server) return false;
  while (::lstat(directory.c_str(), &info) == 0) {
    if (info.st_uid != 0 && info.st_uid != server) return false;
    if (info.st_mode & (S_IWGRP | S_IWOTH)) return false;
    if (directory == directory.root_path()) return true;
    directory = directory.parent_path();
  }
  return false;
}

std::vector<ControlCandidate> find_control_sockets(const ControlEnvironment& environment,
                                                   const std::string& proc_net_unix) {
  std::vector<ControlCandidate> found;
  for (const std::string& directory : control_directories(environment)) {
    for (const std::string& file : socket_files(directory))
      add(found, directory + "/" + file, file.substr(0, file.size() - kSuffix.size()));
  }
  add_abstract(found, environment, proc_net_unix);
  return found;
}

}  // namespace mgr::net
