#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::manager {

// What a supervisor knows, for the program that goes on in its process after an execve(2)
// (upgrade.h): one JSON document in a memfd, beside the descriptors that stay open. Each class
// writes and reads a part of its own, by save() and restore(). A value that a later version adds is
// read with a default where the state lacks it; the format's number changes where that can't be.

// Of the document. A program reads no other than its own.
int saved_state_format();

class StateWriter {
 public:
  // What stands for this open descriptor (borrowed); null for -1.
  nlohmann::json keep(int fd);
  // Everything that was kept.
  const std::vector<int>& descriptors() const { return descriptors_; }

  nlohmann::json document = nlohmann::json::object();

  // The document in a sealed memfd, which is close-on-exec like every other.
  Result<UniqueFd> finish();

 private:
  std::vector<int> descriptors_;
};

class StateReader {
 public:
  // Reads what `memfd` (borrowed) holds. Errors: no state, another format, other protocols of
  // workers than this program speaks, a descriptor that is not open.
  static Result<StateReader> read(int memfd);

  const nlohmann::json& document() const { return document_; }
  // A copy of the descriptor that keep() stood for, close-on-exec; none for null. The original
  // stays as it is, for the program that must go on where this one can't.
  // Throws nlohmann::json::exception, or Unreadable.
  UniqueFd take(const nlohmann::json& kept) const;
  // This program goes on: nobody needs the originals.
  void close_originals();

 private:
  explicit StateReader(nlohmann::json document) : document_(std::move(document)) {}

  nlohmann::json document_;
  std::vector<int> originals_;
};

// What is wrong with a part, from inside of reading().
struct Unreadable {
  std::string what;
};

namespace detail {
Error unreadable(std::string_view part, std::string_view what);
}

// Runs `read`, which takes values out of a document, and makes errors of what it throws.
template <typename Read>
Result<void> reading(std::string_view part, Read read) {
  try {
    read();
    return {};
  } catch (const nlohmann::json::exception& error) {
    return detail::unreadable(part, error.what());
  } catch (const Unreadable& error) {
    return detail::unreadable(part, error.what);
  }
}

// ---- spellings that several parts share

nlohmann::json to_saved(std::chrono::milliseconds time);
std::chrono::milliseconds time_from_saved(const nlohmann::json& saved);

template <typename T, typename Save>
nlohmann::json to_saved(const std::optional<T>& value, Save save) {
  return value ? save(*value) : nlohmann::json(nullptr);
}
template <typename Read>
auto optional_from_saved(const nlohmann::json& saved, Read read)
    -> std::optional<decltype(read(saved))> {
  if (saved.is_null()) return {};
  return read(saved);
}

// The enumerator of [0, count) that to_string() calls so. Throws Unreadable.
template <typename Enum>
Enum named(const std::string& name, int count) {
  for (int i = 0; i < count; ++i) {
    if (to_string(static_cast<Enum>(i)) == name) return static_cast<Enum>(i);
  }
  throw Unreadable{"'" + name + "' is not known"};
}

}  // namespace mgr::manager
