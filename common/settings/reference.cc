#include "common/settings/reference.h"

#include <fmt/core.h>

#include <optional>

#include "common/settings/table.h"

namespace mgr::settings {
namespace {

// '|' would end the cell.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

std::string default_text(const Setting& setting) {
  const nlohmann::json value = setting.write(Settings{});
  if (value.is_string())
    return value.get<std::string>().empty() ? "–" : "`" + value.get<std::string>() + "`";
  if (value.is_structured() && value.empty()) return "–";
  if (!value.is_array()) return "`" + value.dump() + "`";
  std::string text;
  for (const nlohmann::json& element : value)
    text += (text.empty() ? "`" : ", `") + element.get<std::string>() + "`";
  return text;
}

std::string row(const Setting& setting) {
  return fmt::format("| `{}` | {} | {}: {} | {}{} |\n", setting.name, cell(default_text(setting)),
                     setting.type, cell(setting.allowed), cell(setting.help),
                     setting.reload == Reload::needs_restart ? " †" : "");
}

}  // namespace

std::string markdown_reference() {
  std::string text;
  std::optional<Group> group;
  for (const Setting& setting : table()) {
    if (setting.group != group) {
      group = setting.group;
      text += fmt::format("{}**{}**\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n",
                          text.empty() ? "" : "\n", group_title(*group));
    }
    text += row(setting);
  }
  text +=
      "\n`keep_alive` in the file is `--keep-alive` on the command line and `MGR_KEEP_ALIVE` in "
      "the environment. Lists: the flag repeated, commas in the environment; maps: `KEY=VALUE` "
      "likewise. Durations: `500ms`, `30s`, `5m`, `2h`, or seconds. Sizes: `8190`, `64k`, `16m`, "
      "`1g`. Relative paths begin in the directory where mgr was started, whatever that of the "
      "file is, unless they are said to begin in `chdir`. "
      "† `mgr reload` can't apply it; it needs a new start.\n";
  return text;
}

}  // namespace mgr::settings
