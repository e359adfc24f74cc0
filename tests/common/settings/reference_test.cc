#include "common/settings/reference.h"

#include <gtest/gtest.h>

#include "common/settings/table.h"

namespace mgr::settings {
namespace {

TEST(Reference, has_a_row_for_every_setting) {
  const std::string text = markdown_reference();
  for (const Setting& setting : table())
    EXPECT_NE(text.find("\n| `" + setting.name + "` | "), std::string::npos) << setting.name;
}

TEST(Reference, marks_what_a_reload_cannot_apply) {
  const std::string text = markdown_reference();
  const auto row = [&](const std::string& name) {
    const std::size_t start = text.find("| `" + name + "` |");
    return text.substr(start, text.find('\n', start) - start);
  };
  EXPECT_NE(row("backlog").find("†"), std::string::npos);
  EXPECT_EQ(row("keep_alive").find("†"), std::string::npos);
  EXPECT_NE(row("keep_alive").find("`5s`"), std::string::npos);
}

}  // namespace
}  // namespace mgr::settings
