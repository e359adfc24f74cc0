#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

// The items of one worker. Each worker has its own: what all must see belongs in a database.
struct Item {
  std::int64_t id = 0;
  std::string name;
  double price = 0;
};

// What is wrong with a request body, by field.
using Faults = std::map<std::string, std::string>;

class Items {
 public:
  std::vector<Item> all() const;
  const Item* find(std::int64_t id) const;
  // An object with a `name` (1 to 100 bytes) and a `price` (0 or more), and nothing else.
  std::variant<Item, Faults> add(const nlohmann::json& body);

 private:
  std::map<std::int64_t, Item> items_;
  std::int64_t last_id_ = 0;
};

void to_json(nlohmann::json& json, const Item& item);
