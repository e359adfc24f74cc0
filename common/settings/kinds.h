#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/settings/table.h"

namespace mgr::settings {

// The kinds of settings: each function fills type, allowed, schema, read and write of a Setting for
// a member of Settings. table.cc adds the rest.

// What every declaration states besides its kind.
struct Common {
  std::string name;
  Group group;
  std::string help;
  Reload reload = Reload::applies;
};

// Says what is wrong with one text, or nothing.
using Validator = Result<void> (*)(std::string_view text);
using EntryValidator = Result<void> (*)(std::string_view key, std::string_view value);

// A word that stands for a text: `stderr` for an empty log_file.
struct Alias {
  std::string spelled;
  std::string stored;
};

// The first alias of a text is how it is written.
Setting text_setting(Common common, std::string Settings::*member, std::string allowed,
                     Validator validator, std::vector<Alias> aliases = {});

struct DurationRange {
  std::chrono::milliseconds least;
  std::chrono::milliseconds most;
};
Setting duration_setting(Common common, std::chrono::milliseconds Settings::*member,
                         DurationRange range);

Setting size_setting(Common common, std::int64_t Settings::*member, std::int64_t least,
                     std::int64_t most);

// `zero_name`: the word that stands for 0, as `auto` for workers.
Setting integer_setting(Common common, int Settings::*member, int least, int most,
                        std::string zero_name = "");

Setting mode_setting(Common common, int Settings::*member);

Setting switch_setting(Common common, bool Settings::*member);

Setting backoff_setting(Common common, CrashBackoff Settings::*member);

// `empty`: whether the list may have no entries.
enum class Empty { allowed, refused };
Setting list_setting(Common common, Texts Settings::*member, std::string allowed,
                     Validator validator, Empty empty = Empty::allowed);

Setting map_setting(Common common, TextMap Settings::*member, std::string allowed,
                    EntryValidator validator);

// A word of a fixed set. `on` and `off` also take true and false: tools that rewrite YAML turn the
// words into these.
struct Word {
  std::string_view word;
  int value;
};
Setting choice_setting(Common common, std::vector<Word> words,
                       std::function<int(const Settings&)> get,
                       std::function<void(Settings&, int)> set);

template <typename Enum>
Setting enum_setting(Common common, Enum Settings::*member,
                     const std::vector<std::pair<std::string_view, Enum>>& words) {
  std::vector<Word> plain;
  for (const auto& [word, value] : words) plain.push_back({word, static_cast<int>(value)});
  return choice_setting(
      std::move(common), std::move(plain),
      [member](const Settings& settings) { return static_cast<int>(settings.*member); },
      [member](Settings& settings, int value) { settings.*member = static_cast<Enum>(value); });
}

// A text of which the program knows some values only.
Setting word_setting(Common common, std::string Settings::*member, std::vector<std::string> words);

}  // namespace mgr::settings
