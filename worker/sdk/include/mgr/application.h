// C++ applications for mgr: ASGI's model in coroutines. One include, one function, one macro:
//
//   #include <mgr/application.h>
//   using namespace mgr::app;
//
//   Task<> hello(const Scope& scope, Receive receive, Send send) {
//     if (scope.type() != ScopeType::http) co_return;
//     co_await respond(send, 200, {{"content-type", "text/plain"}}, "hello\n");
//   }
//   MGR_APPLICATION(hello);
//
// The application is called once for each request, and once for its lifespan, in every worker: on
// one thread, the loop's, where it may not block (offload() is for that). When it returns, throws
// or is cancelled, its destructors have run. An exception is logged and answered with 500, or cuts
// the connection where the response has begun; in a lifespan it means one without lifespan, which
// is served (`lifespan: auto`), or a failed start (`lifespan: on`): co_await
// send(StartupFailed{…}) is one in both.
//
// Nothing is cancelled when the client leaves, as in ASGI: receive() says `disconnect` then, and
// send() throws Disconnected. A long computation or sleep() that is for this client alone asks now
// and then.
//
// With GCC 12 a co_await is a statement of its own or initializes a variable, and what owns memory
// in it (a lambda with captures, an aggregate, a branch of ?:) has a name, as the README of the SDK
// says.
#pragma once

#include <mgr/abi.h>
#include <mgr/detail/instance.h>
#include <mgr/helpers.h>
#include <mgr/messages.h>
#include <mgr/offload.h>
#include <mgr/receive_send.h>
#include <mgr/scope.h>
#include <mgr/sleep.h>
#include <mgr/task.h>

// Exports the function as this library's application: `mgr run path/to/lib.so`.
#define MGR_APPLICATION(function) MGR_APPLICATION_AS(mgr_application, function)

// The same under another name: `mgr run path/to/lib.so:symbol`. Outside of any namespace.
#define MGR_APPLICATION_AS(symbol, function)                                            \
  extern "C" __attribute__((visibility("default"))) const mgr_application_table symbol; \
  extern "C" const mgr_application_table symbol = ::mgr::app::detail::kTable<&(function)>
