// A small JSON API: items to read and to add, a computation on the thread pool, server-sent events.
#include <mgr/application.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "items.h"

using namespace mgr::app;
using nlohmann::json;

namespace {

constexpr std::size_t kLargestBody = 64 * 1024;
constexpr std::int64_t kLargestPrimes = 100'000'000;

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The value of `name` in a query string; empty where it has none. (No decoding: numbers need none.)
std::string_view parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    if (pair.starts_with(name) && pair.substr(name.size()).starts_with('=')) {
      return pair.substr(name.size() + 1);
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return {};
}

// By value: the coroutine begins when it is awaited, and what it was called with may be gone by
// then.
Task<> answer(Send send, int status, json body) {
  const std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  co_await respond(send, status, {{"content-type", "application/json"}}, text);
}

Task<> fail(Send send, int status, std::string_view what) {
  return answer(send, status, json{{"error", what}});
}

Task<> add_item(Items& items, const Scope& scope, Receive receive, Send send) {
  const auto type = scope.header("content-type");
  if (!type || !type->starts_with("application/json")) {
    co_return co_await fail(send, 415, "expected content-type: application/json");
  }
  const auto text = co_await read_body(receive, kLargestBody);
  if (!text) co_return co_await fail(send, 413, "the body is larger than 64 kB");
  const json body = json::parse(*text, nullptr, false);
  if (body.is_discarded()) co_return co_await fail(send, 400, "the body is no JSON");
  const auto added = items.add(body);
  if (const Faults* faults = std::get_if<Faults>(&added)) {
    const json problem = {{"error", "the item is not valid"}, {"fields", *faults}};
    co_return co_await answer(send, 422, problem);
  }
  const json made = std::get<Item>(added);
  co_await answer(send, 201, made);
}

// How many primes there are up to `limit`: slow on purpose, and interesting to nobody else.
std::int64_t count_primes(std::int64_t limit) {
  std::vector<bool> composite(static_cast<std::size_t>(limit) + 1);
  std::int64_t count = 0;
  for (std::int64_t n = 2; n <= limit; ++n) {
    if (composite[static_cast<std::size_t>(n)]) continue;
    ++count;
    for (std::int64_t m = n * n; m <= limit; m += n) composite[static_cast<std::size_t>(m)] = true;
  }
  return count;
}

Task<> primes(std::string_view text, Send send) {
  const auto limit = number(text);
  if (!limit || *limit < 0 || *limit > kLargestPrimes) {
    co_return co_await fail(send, 422, "expected /primes/N with N from 0 to 100000000");
  }
  const std::int64_t count = co_await offload(count_primes, *limit);
  const json found = {{"up_to", *limit}, {"primes", count}};
  co_await answer(send, 200, found);
}

// `count` events (without it as many as the client waits for), `interval` milliseconds apart.
Task<> events(const Scope& scope, Send send) {
  const auto count = number(parameter(scope.query_string(), "count"));
  const auto wanted = number(parameter(scope.query_string(), "interval")).value_or(1000);
  const std::chrono::milliseconds interval(std::clamp<std::int64_t>(wanted, 10, 60'000));
  co_await send(
      ResponseStart{200, {{"content-type", "text/event-stream"}, {"cache-control", "no-store"}}});
  for (std::int64_t id = 1; !count || id <= *count; ++id) {
    const json tick = {{"tick", id}};
    const std::string event = "id: " + std::to_string(id) + "\ndata: " + tick.dump() + "\n\n";
    co_await send(ResponseBody{event, true});
    co_await sleep(interval);
  }
  co_await send(ResponseBody{});
}

Task<> route(const Scope& scope, Receive receive, Send send) {
  Items& items = scope.state<Items>();
  const std::string_view path = scope.path();
  const bool get = scope.method() == "GET" || scope.method() == "HEAD";
  if (path == "/items") {
    if (get) return answer(send, 200, items.all());
    if (scope.method() == "POST") return add_item(items, scope, receive, send);
    return fail(send, 405, "allowed: GET, POST");
  }
  if (!get) return fail(send, 405, "allowed: GET");
  if (path.starts_with("/items/")) {
    const auto id = number(path.substr(7));
    const Item* item = id ? items.find(*id) : nullptr;
    return item ? answer(send, 200, *item) : fail(send, 404, "no such item");
  }
  if (path.starts_with("/primes/")) return primes(path.substr(8), send);
  if (path == "/events") return events(scope, send);
  return fail(send, 404, "no such resource");
}

Task<> lifespan(const Scope& scope, Receive receive, Send send) {
  co_await receive();
  scope.make_state<Items>();
  co_await send(StartupComplete{});
  co_await receive();
  co_await send(ShutdownComplete{});
}

Task<> json_api(const Scope& scope, Receive receive, Send send) {
  if (scope.type() == ScopeType::lifespan) return lifespan(scope, receive, send);
  return route(scope, receive, send);
}

}  // namespace

MGR_APPLICATION(json_api);
