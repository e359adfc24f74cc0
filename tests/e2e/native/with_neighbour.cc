// Needs a library beside it.
#include <mgr/application.h>

extern "C" const char* neighbour_name();

using namespace mgr::app;

namespace {

Task<> application(const Scope& scope, Receive, Send send) {
  if (scope.type() != ScopeType::http) co_return;
  co_await respond(send, 200, {}, neighbour_name());
}

}  // namespace

MGR_APPLICATION(application);
