#include "manager/supervisor/admin.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/net/tcp_socket.h"
#include "manager/supervisor/text_writer.h"

namespace mgr::manager {
namespace {

using std::chrono::milliseconds;

constexpr int kBacklog = 128;
constexpr std::string_view kText = "text/plain; charset=utf-8";

server::ServerOptions options() {
  server::ServerOptions options;
  options.header_timeout = milliseconds(5'000);
  options.body_timeout = milliseconds(5'000);
  options.write_timeout = milliseconds(10'000);
  options.keep_alive = milliseconds(5'000);
  options.limit_request_line = 2048;
  options.limit_headers = 64;
  options.limit_header_size = 16 * 1024;
  options.limit_body = 4096;
  options.limit_connections = Admin::kMostConnections;
  return options;
}

void refuse_method(server::Exchange& exchange) {
  const std::array<server::HeaderField, 2> fields{
      {{"Content-Type", kText}, {"Allow", "GET, HEAD"}}};
  exchange.send_head(405, fields);
  exchange.send_body("only GET and HEAD are known here\n", false);
}

Result<void> listen_on(const std::string& text, std::vector<UniqueFd>& sockets) {
  const auto address = net::parse_bind_address(text);
  if (!address) return address.error();
  auto bound = net::bind_tcp(*address);
  if (!bound) return std::move(bound).error();
  for (auto& fd : *bound) {
    if (!net::listen(fd.get(), kBacklog)) return Error(std::strerror(errno), errno);
    sockets.push_back(std::move(fd));
  }
  return {};
}

}  // namespace

Admin::Admin(EventLoop& loop, Answers answers, const Log& log)
    : answers_(std::move(answers)), log_(log), server_(loop, options(), *this, counters_, log) {}

Result<void> Admin::adopt(std::vector<UniqueFd> sockets) {
  for (auto& socket : sockets) {
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
      return Error("admin: the inherited descriptor is no stream socket");
    }
    ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
    if (!net::listen(socket.get(), kBacklog)) return Error::from_errno("admin");
    const auto bound = net::bound_to(socket.get());
    const std::string text = bound ? net::format_address(*bound) : "inherited";
    log_.info("admin listener {}", text);
    listen(std::move(socket), text);
  }
  return {};
}

Result<void> Admin::open(const std::string& address) {
  std::vector<UniqueFd> sockets;
  if (auto listening = listen_on(address, sockets); !listening) {
    return std::move(listening).error().with("admin " + address);
  }
  for (auto& socket : sockets) {
    const auto bound = net::bound_to(socket.get());
    const std::string text = bound ? net::format_address(*bound) : address;
    listen(std::move(socket), text);
    log_.info("admin listener {}", text);
  }
  return {};
}

void Admin::listen(UniqueFd socket, const std::string& address) {
  UniqueFd copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 3));
  server_.add_listener(sockets_.size(), std::move(copy), address, server::Server::Sharing::own);
  sockets_.emplace_back(address, std::move(socket));
}

void Admin::on_request(server::Exchange& exchange) noexcept {
  answer(exchange);
  exchange.release();
}

void Admin::answer(server::Exchange& exchange) const {
  const server::Request& request = exchange.request();
  const std::string_view path = request.raw_path;
  if (path != "/metrics" && path != "/livez" && path != "/readyz") {
    return exchange.respond(404, kText, "here are /metrics, /livez and /readyz\n");
  }
  if (request.method != "GET" && request.method != "HEAD") return refuse_method(exchange);
  if (path == "/metrics") {
    return exchange.respond(200, TextWriter::kContentType, answers_.metrics());
  }
  if (path == "/livez") return exchange.respond(200, kText, "ok\n");
  const std::string reason = answers_.not_ready_reason();
  const bool ready = reason.empty();
  exchange.respond(ready ? 200 : 503, kText, (ready ? answers_.ready_text() : reason) + "\n");
}

}  // namespace mgr::manager
