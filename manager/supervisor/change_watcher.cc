#include "manager/supervisor/change_watcher.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace mgr::manager {
namespace {

constexpr std::uint32_t kMask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                                IN_CREATE | IN_DELETE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

}  // namespace

ChangeWatcher::ChangeWatcher(EventLoop& loop, const Log& log, OnChange on_change)
    : loop_(loop), log_(log), on_change_(std::move(on_change)), quiet_(loop, [this] { fire(); }) {}

void ChangeWatcher::watch(const SourceFiles& sources) {
  sources_ = sources;
  watcher_.reset();
  directories_.clear();
  inotify_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_) {
    log_.warning("reload_on_change: {}", Error::from_errno("inotify").message());
    return;
  }
  for (const auto& tree : sources_.trees) add_tree(tree);
  for (const auto& file : sources_.files) {
    const std::filesystem::path path(file);
    const auto parent = path.parent_path();
    if (Directory* directory = add(parent.empty() ? "." : parent.string())) {
      directory->files.insert(path.filename().string());
    }
  }
  watcher_.emplace(loop_, inotify_.get(), [this](int, int) { read(); });
  watcher_->start(FdWatcher::kReadable);
}

// Null: it can't be watched, or is none.
ChangeWatcher::Directory* ChangeWatcher::add(const std::string& path) {
  const int watch = ::inotify_add_watch(inotify_.get(), path.c_str(), kMask);
  if (watch < 0) {
    if (errno != ENOENT && errno != ENOTDIR && !std::exchange(warned_, true)) {
      const char* const hint = errno == ENOSPC ? " (fs.inotify.max_user_watches)" : "";
      log_.warning("reload_on_change: {}{}; changes there are not seen",
                   Error::from_errno(path).message(), hint);
    }
    return nullptr;
  }
  Directory& directory = directories_[watch];
  directory.path = path;
  return &directory;
}

// True where a source file is there already. Links are not followed: no circle, and no way out.
bool ChangeWatcher::add_tree(const std::string& path) {
  Directory* directory = add(path);
  if (!directory) return false;
  directory->tree = true;
  bool found = false;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code unknown;
    if (std::filesystem::is_directory(entry->symlink_status(unknown))) {
      if (is_source_directory(name)) found |= add_tree(entry->path().string());
    } else {
      found |= is_source_name(name);
    }
  }
  return found;
}

void ChangeWatcher::read() {
  alignas(inotify_event) char buffer[16 * 1024];
  for (ssize_t n; (n = ::read(inotify_.get(), buffer, sizeof buffer)) > 0;) {
    for (const char* at = buffer; at < buffer + n;) {
      inotify_event event;
      std::memcpy(&event, at, sizeof event);
      const char* const name = at + sizeof event;
      on_event(event.wd, event.mask, std::string(name, ::strnlen(name, event.len)));
      at += sizeof event + event.len;
    }
  }
}

void ChangeWatcher::on_event(int watch, std::uint32_t mask, const std::string& name) {
  if (mask & IN_Q_OVERFLOW) return changed("so many files that not all were seen");
  const auto found = directories_.find(watch);
  if (found == directories_.end()) return;
  const Directory& directory = found->second;
  if (mask & IN_IGNORED) {
    directories_.erase(found);
    return;
  }
  if (mask & IN_DELETE_SELF) {
    const auto& trees = sources_.trees;
    // Somebody puts another in its place, it is hoped: looked for when things are quiet.
    if (std::find(trees.begin(), trees.end(), directory.path) != trees.end())
      changed(directory.path);
    return;
  }
  const std::string path =
      (std::filesystem::path(directory.path) / name).lexically_normal().string();
  if (mask & IN_ISDIR) {
    const bool here = (mask & (IN_CREATE | IN_MOVED_TO)) != 0;
    if (!directory.tree || !is_source_directory(name)) return;
    // What was written there before it was watched.
    if (here && add_tree(path)) changed(path);
    if (mask & IN_MOVED_FROM) changed(path);
    return;
  }
  // A new name is complete when it is closed; a link is never.
  if ((mask & IN_CREATE) && !std::filesystem::is_symlink(path)) return;
  const bool counts = directory.files.contains(name) || (directory.tree && is_source_name(name));
  if (counts) changed(path);
}

void ChangeWatcher::changed(const std::string& path) {
  loop_.update_now();
  if (changed_.empty()) first_ = loop_.now();
  changed_.insert(path);
  const auto rest = std::max(first_ + kLongest - loop_.now(), std::chrono::milliseconds(0));
  quiet_.start(std::min(kQuiet, rest));
}

void ChangeWatcher::remind() {
  quiet_.start(kQuiet);
}

void ChangeWatcher::fire() {
  const auto changed = std::exchange(changed_, {});
  const bool lost =
      std::any_of(sources_.trees.begin(), sources_.trees.end(), [this](const std::string& tree) {
        return std::none_of(directories_.begin(), directories_.end(),
                            [&](const auto& entry) { return entry.second.path == tree; });
      });
  if (lost) watch(SourceFiles(sources_));
  if (changed.empty()) return on_change_("", 0);
  on_change_(*changed.begin(), static_cast<int>(changed.size()) - 1);
}

}  // namespace mgr::manager
