// The smallest C++ application: one function, which answers every request.
#include <mgr/application.h>

#include <string>

using namespace mgr::app;

namespace {

Task<> hello(const Scope& scope, Receive, Send send) {
  if (scope.type() != ScopeType::http) co_return;
  const std::string text = "hello " + std::string(scope.path()) + "\n";
  co_await respond(send, 200, {{"content-type", "text/plain"}}, text);
}

}  // namespace

MGR_APPLICATION(hello);
