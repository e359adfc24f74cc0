#include "common/settings/schema.h"

#include <gtest/gtest.h>

#include "common/settings/table.h"

namespace mgr::settings {
namespace {

TEST(Schema, describes_every_setting_and_no_other) {
  const nlohmann::ordered_json schema = file_schema();
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["additionalProperties"], false);
  EXPECT_EQ(schema["properties"].size(), table().size());
  for (const Setting& setting : table()) {
    ASSERT_TRUE(schema["properties"].contains(setting.name)) << setting.name;
    const auto& property = schema["properties"][setting.name];
    EXPECT_FALSE(property["description"].empty()) << setting.name;
    EXPECT_TRUE(property.contains("default")) << setting.name;
  }
}

TEST(Schema, knows_ranges_and_choices) {
  const auto properties = file_schema()["properties"];
  EXPECT_EQ(properties["keep_alive"]["anyOf"][0]["minimum"], 0.001);
  EXPECT_EQ(properties["keep_alive"]["anyOf"][0]["maximum"], 86400.0);
  EXPECT_EQ(properties["request_timeout"]["anyOf"][0]["minimum"], 0.0);
  EXPECT_EQ(properties["backlog"]["maximum"], 65535);
  EXPECT_EQ(properties["loop"]["enum"],
            nlohmann::ordered_json::array({"mgr", "asyncio", "uvloop"}));
  EXPECT_EQ(properties["preload"]["enum"],
            nlohmann::ordered_json::array({"auto", "on", "off", true, false}));
}

}  // namespace
}  // namespace mgr::settings
