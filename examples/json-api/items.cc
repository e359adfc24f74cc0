#include "items.h"

#include <utility>

namespace {

Faults faults_of(const nlohmann::json& body) {
  if (!body.is_object()) return {{"", "expected an object"}};
  Faults faults;
  const auto name = body.find("name");
  if (name == body.end()) {
    faults["name"] = "is missing";
  } else if (!name->is_string() || name->get_ref<const std::string&>().empty() ||
             name->get_ref<const std::string&>().size() > 100) {
    faults["name"] = "expected a text of 1 to 100 bytes";
  }
  const auto price = body.find("price");
  if (price == body.end()) {
    faults["price"] = "is missing";
  } else if (!price->is_number() || price->get<double>() < 0) {
    faults["price"] = "expected a number that is 0 or more";
  }
  for (const auto& [key, value] : body.items()) {
    if (key != "name" && key != "price") faults[key] = "is not known";
  }
  return faults;
}

}  // namespace

std::vector<Item> Items::all() const {
  std::vector<Item> found;
  for (const auto& [id, item] : items_) found.push_back(item);
  return found;
}

const Item* Items::find(std::int64_t id) const {
  const auto found = items_.find(id);
  return found == items_.end() ? nullptr : &found->second;
}

std::variant<Item, Faults> Items::add(const nlohmann::json& body) {
  Faults faults = faults_of(body);
  if (!faults.empty()) return faults;
  Item item{++last_id_, body.at("name").get<std::string>(), body.at("price").get<double>()};
  items_[item.id] = item;
  return item;
}

void to_json(nlohmann::json& json, const Item& item) {
  json = {{"id", item.id}, {"name", item.name}, {"price", item.price}};
}
