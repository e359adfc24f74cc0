#include "common/settings/kinds.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

namespace mgr::settings {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr const char* kDurationPattern = R"(^[0-9]*\.?[0-9]+(ms|s|m|h)?$)";
constexpr const char* kSizePattern = "^[0-9]+[kKmMgG]?$";

Setting start(Common common, Shape shape, std::string type) {
  Setting setting;
  setting.name = std::move(common.name);
  setting.group = common.group;
  setting.reload = common.reload;
  setting.help = std::move(common.help);
  setting.shape = shape;
  setting.type = std::move(type);
  return setting;
}

using ReadText = std::function<Result<void>(const std::string& text, Settings& settings)>;

// Lifts a reader of texts to one of values, refusing lists and maps.
auto scalar(ReadText read) {
  return [read = std::move(read)](const Spelled& value, Settings& settings) -> Result<void> {
    const auto* text = std::get_if<std::string>(&value);
    if (!text) return Error(fmt::format("{} where a single value belongs", shape_name(value)));
    return read(*text, settings);
  };
}

// A reader of single values: parse, check the range, store.
template <typename Value, typename Parse, typename Store>
auto ranged(Parse parse, Value least, Value most, Store store) {
  return scalar([=](const std::string& text, Settings& settings) -> Result<void> {
    const auto parsed = parse(text);
    if (!parsed) return parsed.error();
    if (parsed.value() < least || parsed.value() > most)
      return Error(in_quotes(text) + " is out of range");
    store(settings, parsed.value());
    return {};
  });
}

json any_of(std::initializer_list<json> schemas) {
  return {{"anyOf", json(schemas)}};
}

bool has_word(const std::vector<Word>& words, std::string_view word) {
  return std::any_of(words.begin(), words.end(), [&](const Word& w) { return w.word == word; });
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

std::string listed(const std::vector<Word>& words) {
  std::vector<std::string> texts;
  for (const Word& word : words) texts.emplace_back(word.word);
  return listed(texts);
}

std::optional<int> find_word(const std::vector<Word>& words, std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") text = "on";
  if (text == "false" || text == "False" || text == "FALSE") text = "off";
  for (const Word& word : words)
    if (word.word == text) return word.value;
  return {};
}

json texts_schema() {
  return {{"type", json::array({"string", "number", "boolean"})}};
}

Result<void> check_texts(const Texts& texts, Validator validator, Empty empty) {
  if (texts.empty() && empty == Empty::refused) return Error("the list is empty");
  Texts seen;
  for (const std::string& text : texts) {
    if (Result<void> valid = validator(text); !valid) return valid;
    if (std::find(seen.begin(), seen.end(), text) != seen.end())
      return Error(in_quotes(text) + " is listed twice");
    seen.push_back(text);
  }
  return {};
}

}  // namespace

Setting text_setting(Common common, std::string Settings::*member, std::string allowed,
                     Validator validator, std::vector<Alias> aliases) {
  Setting setting = start(std::move(common), Shape::scalar, "text");
  setting.allowed = std::move(allowed);
  setting.schema = texts_schema();
  setting.read = scalar([=](const std::string& text, Settings& settings) -> Result<void> {
    for (const Alias& alias : aliases) {
      if (text != alias.spelled) continue;
      settings.*member = alias.stored;
      return {};
    }
    if (Result<void> valid = validator(text); !valid) return valid;
    settings.*member = text;
    return {};
  });
  setting.write = [=](const Settings& settings) -> json {
    const std::string& value = settings.*member;
    for (const Alias& alias : aliases)
      if (value == alias.stored) return alias.spelled;
    return value;
  };
  return setting;
}

Setting duration_setting(Common common, milliseconds Settings::*member, DurationRange range) {
  Setting setting = start(std::move(common), Shape::scalar, "duration");
  setting.allowed =
      fmt::format("{} to {}", format_duration(range.least), format_duration(range.most));
  const auto in_seconds = [](milliseconds value) {
    return std::chrono::duration<double>(value).count();
  };
  setting.schema = any_of({{{"type", "number"},
                            {"minimum", in_seconds(range.least)},
                            {"maximum", in_seconds(range.most)}},
                           {{"type", "string"}, {"pattern", kDurationPattern}}});
  setting.read = ranged(parse_duration, range.least, range.most,
                        [=](Settings& settings, milliseconds value) { settings.*member = value; });
  setting.write = [=](const Settings& settings) { return format_duration(settings.*member); };
  return setting;
}

Setting size_setting(Common common, std::int64_t Settings::*member, std::int64_t least,
                     std::int64_t most) {
  Setting setting = start(std::move(common), Shape::scalar, "size");
  setting.allowed = fmt::format("{} to {}", format_size(least), format_size(most));
  setting.schema = any_of({{{"type", "integer"}, {"minimum", least}, {"maximum", most}},
                           {{"type", "string"}, {"pattern", kSizePattern}}});
  setting.read = ranged(parse_size, least, most,
                        [=](Settings& settings, std::int64_t value) { settings.*member = value; });
  setting.write = [=](const Settings& settings) { return format_size(settings.*member); };
  return setting;
}

Setting integer_setting(Common common, int Settings::*member, int least, int most,
                        std::string zero_name) {
  Setting setting = start(std::move(common), Shape::scalar, "number");
  setting.allowed = fmt::format("{} to {}", least, most);
  setting.schema = {{"type", "integer"}, {"minimum", least}, {"maximum", most}};
  if (!zero_name.empty()) {
    setting.allowed = zero_name + " or " + setting.allowed;
    setting.schema = any_of({{{"const", zero_name}}, setting.schema});
  }
  const auto number = ranged<std::int64_t>(
      parse_integer, least, most,
      [=](Settings& settings, std::int64_t value) { settings.*member = static_cast<int>(value); });
  setting.read = [=](const Spelled& value, Settings& settings) -> Result<void> {
    if (zero_name.empty() || value != Spelled(zero_name)) return number(value, settings);
    settings.*member = 0;
    return {};
  };
  setting.write = [=](const Settings& settings) -> json {
    if (settings.*member == 0 && !zero_name.empty()) return zero_name;
    return settings.*member;
  };
  return setting;
}

Setting mode_setting(Common common, int Settings::*member) {
  Setting setting = start(std::move(common), Shape::scalar, "mode");
  setting.allowed = "0000 to 0777, octal";
  setting.schema = any_of({{{"type", "integer"}, {"minimum", 0}, {"maximum", 777}},
                           {{"type", "string"}, {"pattern", "^(0o)?[0-7]{1,4}$"}}});
  setting.read =
      ranged(parse_mode, 0, 0777, [=](Settings& settings, int value) { settings.*member = value; });
  setting.write = [=](const Settings& settings) { return format_mode(settings.*member); };
  return setting;
}

Setting switch_setting(Common common, bool Settings::*member) {
  Setting setting = start(std::move(common), Shape::scalar, "switch");
  setting.allowed = "on or off";
  setting.schema =
      any_of({{{"type", "boolean"}}, {{"enum", json::array({"on", "off", "yes", "no"})}}});
  setting.read = scalar([=](const std::string& text, Settings& settings) -> Result<void> {
    const Result<bool> value = parse_switch(text);
    if (!value) return value.error();
    settings.*member = *value;
    return {};
  });
  setting.write = [=](const Settings& settings) { return settings.*member ? "on" : "off"; };
  return setting;
}

Setting backoff_setting(Common common, CrashBackoff Settings::*member) {
  constexpr milliseconds kLeast{10};
  constexpr milliseconds kMost = std::chrono::hours(24);
  Setting setting = start(std::move(common), Shape::scalar, "durations");
  setting.allowed =
      fmt::format("FIRST..LONGEST, each {} to {}", format_duration(kLeast), format_duration(kMost));
  setting.schema = {{"type", "string"}, {"pattern", R"(^[0-9.]+[a-z]*\.\.[0-9.]+[a-z]*$)"}};
  setting.read = scalar([=](const std::string& text, Settings& settings) -> Result<void> {
    const std::size_t dots = text.find("..");
    if (dots == std::string::npos) return Error(in_quotes(text) + " is no pair of durations");
    const Result<milliseconds> first = parse_duration(text.substr(0, dots));
    if (!first) return Error(in_quotes(text) + " is no pair: " + first.error().message());
    const Result<milliseconds> longest = parse_duration(text.substr(dots + 2));
    if (!longest) return Error(in_quotes(text) + " is no pair: " + longest.error().message());
    if (*first < kLeast || *longest > kMost) return Error(in_quotes(text) + " is out of range");
    if (*first > *longest)
      return Error(in_quotes(text) + ": the first pause is longer than the last");
    settings.*member = {*first, *longest};
    return {};
  });
  setting.write = [=](const Settings& settings) {
    const CrashBackoff& value = settings.*member;
    return format_duration(value.first) + ".." + format_duration(value.longest);
  };
  return setting;
}

Setting list_setting(Common common, Texts Settings::*member, std::string allowed,
                     Validator validator, Empty empty) {
  Setting setting = start(std::move(common), Shape::list, "list");
  setting.allowed = std::move(allowed);
  json array = {{"type", "array"}, {"items", texts_schema()}, {"uniqueItems", true}};
  if (empty == Empty::refused) array["minItems"] = 1;
  setting.schema = any_of({array, texts_schema()});
  setting.read = [=](const Spelled& value, Settings& settings) -> Result<void> {
    if (std::holds_alternative<TextMap>(value)) return Error("a map where a list belongs");
    const auto* text = std::get_if<std::string>(&value);
    const Texts texts = text ? Texts{*text} : std::get<Texts>(value);
    if (Result<void> valid = check_texts(texts, validator, empty); !valid) return valid;
    settings.*member = texts;
    return {};
  };
  setting.write = [=](const Settings& settings) -> json { return settings.*member; };
  return setting;
}

Setting map_setting(Common common, TextMap Settings::*member, std::string allowed,
                    EntryValidator validator) {
  Setting setting = start(std::move(common), Shape::map, "map");
  setting.allowed = std::move(allowed);
  setting.schema = {{"type", "object"}, {"additionalProperties", texts_schema()}};
  setting.read = [=](const Spelled& value, Settings& settings) -> Result<void> {
    const auto* map = std::get_if<TextMap>(&value);
    if (!map) return Error(fmt::format("{} where a map belongs", shape_name(value)));
    for (const auto& [key, text] : *map)
      if (Result<void> valid = validator(key, text); !valid) return valid;
    settings.*member = *map;
    return {};
  };
  setting.write = [=](const Settings& settings) -> json { return settings.*member; };
  return setting;
}

Setting choice_setting(Common common, std::vector<Word> words,
                       std::function<int(const Settings&)> get,
                       std::function<void(Settings&, int)> set) {
  Setting setting = start(std::move(common), Shape::scalar, "choice");
  setting.allowed = listed(words);
  json spellings = json::array();
  for (const Word& word : words) spellings.push_back(word.word);
  if (has_word(words, "on")) spellings.push_back(true);
  if (has_word(words, "off")) spellings.push_back(false);
  setting.schema = {{"enum", spellings}};
  setting.read = scalar([=](const std::string& text, Settings& settings) -> Result<void> {
    const std::optional<int> value = find_word(words, text);
    if (!value) return Error(in_quotes(text) + " is not known");
    set(settings, *value);
    return {};
  });
  setting.write = [=](const Settings& settings) -> json {
    for (const Word& word : words)
      if (word.value == get(settings)) return word.word;
    return nullptr;
  };
  return setting;
}

Setting word_setting(Common common, std::string Settings::*member, std::vector<std::string> words) {
  Setting setting = start(std::move(common), Shape::scalar, "choice");
  setting.allowed = listed(words);
  setting.schema = {{"enum", words}};
  setting.read = scalar([=](const std::string& text, Settings& settings) -> Result<void> {
    if (std::find(words.begin(), words.end(), text) == words.end())
      return Error(in_quotes(text) + " is not known");
    settings.*member = text;
    return {};
  });
  setting.write = [=](const Settings& settings) -> json { return settings.*member; };
  return setting;
}

}  // namespace mgr::settings
