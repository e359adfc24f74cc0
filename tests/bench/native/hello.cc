#include <mgr/application.h>

using namespace mgr::app;

namespace {

Task<> hello(const Scope& scope, Receive, Send send) {
  if (scope.type() != ScopeType::http) co_return;
  co_await respond(send, 200, {{"content-type", "text/plain"}}, "Hello, world!\n");
}

}  // namespace

MGR_APPLICATION(hello);
