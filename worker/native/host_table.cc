#include "worker/native/host_table.h"

#include "worker/native/call.h"
#include "worker/native/dispatcher.h"

namespace mgr::native {
namespace {

Dispatcher& dispatcher(void* worker) {
  return *static_cast<Dispatcher*>(worker);
}

const mgr_field* headers(mgr_call* call, std::size_t* count) noexcept {
  return Call::of(call).headers(*count);
}
int receive(mgr_call* call, mgr_message* message) noexcept {
  return Call::of(call).receive(*message) ? 1 : 0;
}
int send_head(mgr_call* call, int status, const mgr_field* fields, std::size_t count) noexcept {
  return Call::of(call).send_head(status, fields, count);
}
int send_body(mgr_call* call, mgr_text body, int more_body) noexcept {
  return Call::of(call).send_body(view_of(body), more_body != 0);
}
int send_lifespan(mgr_call* call, int message, mgr_text text) noexcept {
  return Call::of(call).send_lifespan(message, view_of(text));
}
int flow(mgr_call* call) noexcept {
  return Call::of(call).flow();
}
void finished(mgr_call* call, int outcome, mgr_text type, mgr_text what) noexcept {
  Call::of(call).finished(outcome, view_of(type), view_of(what));
}

void set_timer(void* worker, std::int64_t nanoseconds) noexcept {
  dispatcher(worker).set_timer(nanoseconds);
}
void submit(void* worker, mgr_job* job) noexcept {
  dispatcher(worker).pool().submit(*job);
}
int withdraw(void* worker, mgr_job* job) noexcept {
  return dispatcher(worker).pool().withdraw(*job) ? 1 : 0;
}

constexpr mgr_host_table kTable = {MGR_ABI_VERSION, sizeof(mgr_host_table),
                                   headers,         receive,
                                   send_head,       send_body,
                                   send_lifespan,   flow,
                                   finished,        set_timer,
                                   submit,          withdraw};

}  // namespace

const mgr_host_table& host_table() {
  return kTable;
}

}  // namespace mgr::native
