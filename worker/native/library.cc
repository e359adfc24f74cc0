#include "worker/native/library.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "common/base/result.h"

namespace mgr::native {
namespace {

std::string absolute(const std::string& path) {
  if (path.starts_with('/')) return path;
  char directory[PATH_MAX];
  return ::getcwd(directory, sizeof directory) ? std::string(directory) + "/" + path : "./" + path;
}

Result<struct stat> look_at(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return Error("not a file");
  return info;
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

// All of `from` in a file of ours; -1 where the system gives none.
UniqueFd copy_of(int from, off_t size, const std::string& name) {
  UniqueFd copy(::memfd_create(name.c_str(), MFD_CLOEXEC));
  off_t done = 0;
  while (copy && done < size) {
    if (::sendfile(copy.get(), from, &done, static_cast<std::size_t>(size - done)) <= 0) {
      copy.reset();
    }
  }
  return copy;
}

Result<UniqueFd> private_copy(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Error(std::strerror(errno));
  const auto before = look_at(file.get());
  if (!before) return before.error();
  UniqueFd copy = copy_of(file.get(), before->st_size, path.substr(path.rfind('/') + 1));
  const auto after = look_at(file.get());
  if (!after || !same(*before, *after)) return Error("changed while it was read");
  return copy;
}

// dlerror() with what is known already taken off.
std::string load_error(const std::string& path) {
  const char* text = ::dlerror();
  std::string error = text ? text : "unknown error";
  if (error.starts_with(path + ": ")) error.erase(0, path.size() + 2);
  std::replace(error.begin(), error.end(), '\n', ' ');
  return error;
}

LoadFailure failed(std::string stage, std::string error) {
  return {std::move(stage), std::move(error)};
}

// What is wrong with an exported object; empty: nothing.
std::string fault_of(const mgr_application_table& table) {
  if (table.magic != MGR_ABI_MAGIC) {
    return "is no application of mgr (MGR_APPLICATION() exports one)";
  }
  if (table.abi == MGR_ABI_VERSION && table.size != sizeof(mgr_application_table)) {
    return "exports a table of " + std::to_string(table.size) + " bytes, where ABI " +
           std::to_string(table.abi) + " of mgr has " +
           std::to_string(sizeof(mgr_application_table)) + ": build it with MGR_APPLICATION()";
  }
  if (table.abi != MGR_ABI_VERSION) {
    return "is built for ABI " + std::to_string(table.abi) + " of mgr, and this mgr has ABI " +
           std::to_string(MGR_ABI_VERSION) + ": build it against the headers of this version";
  }
  return {};
}

}  // namespace

std::variant<Library, LoadFailure> load(const settings::LibraryName& name) {
  const std::string path = absolute(name.path);
  auto copy = private_copy(path);
  if (!copy) return failed("import", "cannot load " + path + ": " + copy.error().message());
  void* library = nullptr;
  if (*copy) {
    const std::string link = "/proc/self/fd/" + std::to_string(copy->get());
    library = ::dlopen(link.c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (!library) library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return failed("import", "cannot load " + path + ": " + load_error(path));
  const void* symbol = ::dlsym(library, name.symbol.c_str());
  if (!symbol) {
    return failed("attribute",
                  path + " has no symbol '" + name.symbol + "' (MGR_APPLICATION() exports one)");
  }
  const auto& table = *static_cast<const mgr_application_table*>(symbol);
  const std::string fault = fault_of(table);
  if (!fault.empty()) return failed("application", path + ":" + name.symbol + " " + fault);
  return Library{&table, std::move(*copy)};
}

}  // namespace mgr::native
