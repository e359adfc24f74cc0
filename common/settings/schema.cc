#include "common/settings/schema.h"

#include "common/settings/table.h"

namespace mgr::settings {

nlohmann::ordered_json file_schema() {
  nlohmann::ordered_json schema;
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "mgr.yaml";
  schema["type"] = "object";
  schema["additionalProperties"] = false;
  for (const Setting& setting : table()) schema["properties"][setting.name] = setting.schema;
  return schema;
}

}  // namespace mgr::settings
