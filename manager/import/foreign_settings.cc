#include "manager/import/foreign_settings.h"

#include "manager/import/tables.h"

namespace mgr::foreign {

std::string_view name_of(Server server) {
  switch (server) {
    case Server::gunicorn:
      return "Gunicorn";
    case Server::uvicorn:
      return "Uvicorn";
    case Server::hypercorn:
      return "Hypercorn";
    case Server::granian:
      return "Granian";
  }
  return "";
}

const std::vector<ForeignSetting>& foreign_settings(Server server) {
  static const std::vector<ForeignSetting> tables[] = {gunicorn_table(), uvicorn_table(),
                                                       hypercorn_table(), granian_table()};
  return tables[static_cast<std::size_t>(server)];
}

const ForeignSetting* find_foreign(Server server, std::string_view name) {
  for (const ForeignSetting& setting : foreign_settings(server))
    if (setting.name == name) return &setting;
  return nullptr;
}

}  // namespace mgr::foreign
