#include "manager/supervisor/saved_state.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "common/ipc/channel.h"
#include "common/ipc/messages.h"
#include "manager/supervisor/listeners.h"
#include "manager/supervisor/notify.h"
#include "manager/supervisor/process_world.h"
#include "manager/supervisor/totals.h"
#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

StateReader read_back(StateWriter& writer) {
  auto memfd = writer.finish();
  CHECK(memfd);
  auto reader = StateReader::read(memfd->get());
  CHECK(reader);
  return std::move(*reader);
}

// What read() says of a document like that of finish(), but for `changes`.
std::string error_for(const json& changes) {
  StateWriter writer;
  auto memfd = writer.finish();
  json document = json::parse(ipc::read_all(memfd->get()).value());
  document.update(changes);
  auto other = ipc::sealed_memfd("state", document.dump());
  auto reader = StateReader::read(other->get());
  return reader ? "" : reader.error().message();
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(SavedStateTest, gives_copies_of_descriptors_and_leaves_the_originals_until_they_are_let_go) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  StateWriter writer;
  writer.document["pipe"] = writer.keep(ends[0]);
  writer.document["none"] = writer.keep(-1);
  EXPECT_EQ(writer.descriptors(), std::vector{ends[0]});
  StateReader reader = read_back(writer);
  EXPECT_FALSE(reader.take(reader.document()["none"]));
  const UniqueFd copy = reader.take(reader.document()["pipe"]);
  EXPECT_NE(copy.get(), ends[0]);
  EXPECT_EQ(::fcntl(copy.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(is_open(ends[0]));
  reader.close_originals();
  EXPECT_FALSE(is_open(ends[0]));
  ASSERT_EQ(::write(ends[1], "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(copy.get(), &byte, 1), 1);
  ::close(ends[1]);
}

TEST(SavedStateTest, of_another_format_or_protocol_is_refused_by_name) {
  EXPECT_EQ(error_for(json::object()), "");
  EXPECT_EQ(error_for({{"format", 77}}),
            "the running program's format of the saved state is 77, this program's is 1: mgr has "
            "to be stopped and started");
  EXPECT_NE(error_for({{"protocol", 77}}).find("protocol with its workers is 77"),
            std::string::npos);
  EXPECT_NE(error_for({{"scoreboard_version", 77}}).find("layout of the scoreboard is 77"),
            std::string::npos);
  EXPECT_EQ(error_for({{"format", "new"}}),
            "the saved state does not say its format of the saved state");
}

TEST(SavedStateTest, that_names_descriptors_which_are_not_open_is_refused) {
  EXPECT_EQ(error_for({{"descriptors", {999'999}}}),
            "the saved state: descriptors: 999999 is not open");
}

TEST(SavedStateTest, that_is_none_is_refused) {
  const UniqueFd empty(::memfd_create("empty", MFD_CLOEXEC));
  EXPECT_EQ(StateReader::read(empty.get()).error().message(), "the saved state is no JSON object");
  EXPECT_FALSE(StateReader::read(-1).ok());
}

// ---- the book

class SavedLifecycleTest : public LifecycleTest {
 protected:
  // Another supervisor takes the place of this one, in the same world.
  void exchange() {
    saved_ = life_->save();
    const json wire = json::parse(saved_.dump());
    life_ = std::make_unique<Lifecycle>(*world_, log_);
    const auto restored = life_->restore(wire);
    ASSERT_TRUE(restored.ok()) << restored.error().message();
    EXPECT_EQ(life_->save(), saved_);
    const auto sent = world_->sent;
    const auto molds = world_->mold_history;
    life_->go_on();
    EXPECT_EQ(world_->mold_history, molds);
  }

  json saved_;
};

TEST_F(SavedLifecycleTest, is_the_same_again_and_does_nothing_by_itself) {
  start_ready(4);
  const auto sent = world_->sent;
  const auto kills = world_->kills;
  exchange();
  EXPECT_EQ(world_->sent, sent);
  EXPECT_EQ(world_->kills, kills);
  EXPECT_EQ(life_->phase(), Phase::running);
  EXPECT_EQ(life_->count_serving(), 4);
  expect_all_sockets_served();
}

TEST_F(SavedLifecycleTest, knows_every_worker_by_its_pid_and_replaces_one_that_dies) {
  start_ready(2);
  exchange();
  const WorkerId before = current(1).id;
  dies(before, kKilled);
  boot_all();
  EXPECT_NE(current(1).id, before);
  EXPECT_EQ(life_->slots()[1].restarts, 1);
  expect_all_sockets_served();
}

TEST_F(SavedLifecycleTest, steers_away_from_a_stopped_worker_still) {
  start_ready(2);
  ASSERT_TRUE(life_->on_stopped(current(0).pid, true));
  exchange();
  life_->on_look();
  EXPECT_EQ(world_->active.back(), std::vector{1});
  EXPECT_EQ(life_->state_of(life_->slots()[0]), SlotState::hung);
  ASSERT_TRUE(life_->on_stopped(current(0).pid, false));
  EXPECT_EQ(world_->active.back(), (std::vector{0, 1}));
}

TEST_F(SavedLifecycleTest, keeps_a_scale_and_what_was_counted) {
  start_ready(2);
  life_->scale(Lifecycle::ScaleTo{5}, noting(others_));
  boot_all();
  dies(current(0).id, kKilled);
  boot_all();
  reload();
  load_mold();
  run_on();
  bad_configuration_ = true;
  reload();
  exchange();
  EXPECT_EQ(life_->target(), 5);
  EXPECT_EQ(life_->reloads(), 1);
  EXPECT_EQ(life_->reloads_refused(), 1);
  EXPECT_EQ(life_->restarts()[static_cast<std::size_t>(RestartReason::killed)], 1u);
  ASSERT_TRUE(life_->last_reload());
  EXPECT_EQ(life_->last_reload()->failure->stage, "configuration");
  EXPECT_EQ(life_->generation()->number, 2);
}

TEST_F(SavedLifecycleTest, goes_on_with_workers_between_fork_and_ready) {
  start_ready(3);
  for (int slot = 0; slot < 3; ++slot) dies(current(slot).id, kKilled);
  const WorkerId booting = fork_one();
  const auto asked = world_->forks.front();  // says that it is ready before its mold tells its pid
  life_->on_worker_message(asked.order.worker, ipc::Ready{"asgi"}, "");
  exchange();
  ready(booting);
  boot_all();
  EXPECT_EQ(life_->count_serving(), 3);
}

TEST_F(SavedLifecycleTest, keeps_the_deadline_of_one_that_leaves) {
  start_ready(2);
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  exchange();
  pass(Millis(32'000));
  EXPECT_EQ(world_->kills.size(), 1u);
}

TEST_F(SavedLifecycleTest, keeps_the_pause_of_a_crash_loop) {
  settings_.crash_backoff = {Millis(4000), Millis(60'000)};
  start_ready(2);
  for (int i = 0; i < 3; ++i) {
    dies(current(0).id, kSegfault);
    pass(Millis(8000));
    boot_all();
  }
  dies(current(0).id, kSegfault);
  EXPECT_TRUE(life_->degraded());
  exchange();
  EXPECT_TRUE(life_->degraded());
  EXPECT_TRUE(world_->forks.empty());
  pass(Millis(60'000));
  EXPECT_FALSE(world_->forks.empty());
}

TEST_F(SavedLifecycleTest, is_rolled_to_new_programs_by_a_reload) {
  start_ready(4);
  exchange();
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(generations(), (std::vector{2, 2, 2, 2}));
  EXPECT_TRUE(reloads_.at(0).ok);
}

TEST_F(SavedLifecycleTest, that_lacks_something_is_refused) {
  start_ready(2);
  const json good = life_->save();
  for (const auto& [name, value] : good.items()) {
    json broken = good;
    broken.erase(name);
    Lifecycle other(*world_, log_);
    EXPECT_FALSE(other.restore(broken).ok()) << name;
  }
  json unknown = good;
  unknown["workers"][0]["state"] = "levitating";
  Lifecycle other(*world_, log_);
  EXPECT_EQ(other.restore(unknown).error().message(),
            "the saved state: lifecycle: 'levitating' is not known");
  json alien = good;
  alien["generations"][0]["settings"]["of_the_future"] = 1;
  Lifecycle third(*world_, log_);
  EXPECT_NE(third.restore(alien).error().message().find("of_the_future: unknown setting"),
            std::string::npos);
}

// ---- sockets, channels, counters

class SavedPartsTest : public testing::Test {
 protected:
  SavedPartsTest()
      : null_(::open("/dev/null", O_WRONLY)),
        log_(null_.get(), LogFormat::text, LogLevel::info, "test") {}

  static UniqueFd connect_to(int port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<std::uint16_t>(port));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&in), sizeof in) != 0) fd.reset();
    return fd;
  }

  UniqueFd null_;
  Log log_;
  EventLoop loop_;
};

TEST_F(SavedPartsTest, listeners_are_the_same_sockets_in_the_same_order) {
  const auto tcp = net::parse_bind_address("127.0.0.1:0");
  const auto name = "unix:@mgr-saved-" + std::to_string(::getpid());
  const auto abstract = net::parse_bind_address(name);
  auto before = std::make_unique<Listeners>(Listeners::Options{}, log_);
  ASSERT_TRUE(before->open({*tcp, *abstract}, {}, 3).ok());
  ASSERT_TRUE(before->start().ok());
  before->set_active({1});
  const std::string address = before->states().at(0).address;
  const UniqueFd waiting = connect_to(std::stoi(address.substr(address.rfind(':') + 1)));
  StateWriter writer;
  writer.document["listeners"] = before->save(writer);
  EXPECT_EQ(writer.descriptors().size(), 4u);
  StateReader reader = read_back(writer);
  Listeners after({}, log_);
  ASSERT_TRUE(after.restore(reader.document()["listeners"], reader).ok());
  // The originals are closed as by an exec, not as by an end.
  ASSERT_EQ(after.sockets().size(), before->sockets().size());
  for (std::size_t i = 0; i < after.sockets().size(); ++i) {
    EXPECT_EQ(after.sockets()[i].id, before->sockets()[i].id);
    EXPECT_EQ(after.sockets()[i].slot, before->sockets()[i].slot);
    const SocketId id = after.sockets()[i].id;
    EXPECT_EQ(after.address(id), before->address(id));
    EXPECT_EQ(after.shared(id), before->shared(id));
  }
  EXPECT_EQ(after.states().at(0).queued, 1);
  // The steering holds, and more slots get sockets of their own in the order of before.
  ASSERT_TRUE(after.ensure_slots(4).ok());
  const auto fourth = std::find_if(after.sockets().begin(), after.sockets().end(),
                                   [](const SocketInfo& socket) { return socket.slot == 3; });
  ASSERT_NE(fourth, after.sockets().end());
  after.set_active({3});
  const UniqueFd more = connect_to(std::stoi(address.substr(address.rfind(':') + 1)));
  const UniqueFd accepted(::accept4(after.fd(fourth->id), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(accepted);
}

TEST_F(SavedPartsTest, an_address_that_leaves_goes_on_leaving) {
  const auto first = net::parse_bind_address("127.0.0.1:0");
  const auto second = net::parse_bind_address("unix:@mgr-left-" + std::to_string(::getpid()));
  Listeners before({}, log_);
  ASSERT_TRUE(before.open({*first}, {}, 1).ok());
  ASSERT_TRUE(before.start().ok());
  ASSERT_TRUE(before.prepare({*second}).ok());
  before.commit(std::chrono::milliseconds(5000));
  StateWriter writer;
  writer.document["listeners"] = before.save(writer);
  StateReader reader = read_back(writer);
  Listeners after({}, log_);
  ASSERT_TRUE(after.restore(reader.document()["listeners"], reader).ok());
  EXPECT_TRUE(after.leaving());
  EXPECT_TRUE(after.close_left(std::chrono::milliseconds(7900)));
  EXPECT_FALSE(after.close_left(std::chrono::milliseconds(8100)));
  EXPECT_EQ(after.sockets().size(), 1u);
  // What is kept is the same address for a reload that names it.
  ASSERT_TRUE(after.prepare({*second}).ok());
  after.commit(std::chrono::milliseconds(9000));
  EXPECT_FALSE(after.leaving());
}

TEST_F(SavedPartsTest, a_descriptor_that_does_not_listen_is_no_listener) {
  StateWriter writer;
  writer.document["listeners"] = {
      {"next_id", 2},
      {"slots", 1},
      {"active", {0}},
      {"addresses",
       {{{"text", "127.0.0.1:1"},
         {"unix_path", ""},
         {"family", AF_INET},
         {"shared", false},
         {"wanted", "127.0.0.1:1"},
         {"inherited", false},
         {"included", false},
         {"leaving", false},
         {"left_at", 0},
         {"stored_as", ""},
         {"group", 0},
         {"stored", false},
         {"sockets", {{{"id", 1}, {"slot", 0}, {"fd", writer.keep(null_.get())}}}}}}}};
  StateReader reader = read_back(writer);
  Listeners after({}, log_);
  const auto restored = after.restore(reader.document()["listeners"], reader);
  ASSERT_FALSE(restored.ok());
  EXPECT_NE(restored.error().message().find("is no listening socket"), std::string::npos);
  EXPECT_TRUE(after.sockets().empty());
}

TEST_F(SavedPartsTest, channels_speak_on_and_what_waited_is_sent) {
  auto mold = ipc::Channel::pair();
  auto worker = ipc::Channel::pair();
  ASSERT_TRUE(mold.ok() && worker.ok());
  const UniqueFd words(::memfd_create("words", MFD_CLOEXEC));
  ASSERT_EQ(::write(words.get(), "Fatal\n", 6), 6);
  const UniqueFd pipe(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  StateWriter writer;
  const json waits{{"text", ipc::encode(ipc::WorkerCommand{ipc::Hold{}})},
                   {"descriptors", {writer.keep(null_.get())}}};
  const json world{
      {"stopped", 5000},
      {"molds",
       {{{"id", 1}, {"channel", writer.keep(mold->first.fd())}, {"waiting", json::array()}}}},
      {"workers",
       {{{"id", 2}, {"channel", writer.keep(worker->first.fd())}, {"waiting", {waits}}}}},
      {"mold_words", json::array()},
      {"worker_words", {{{"id", 2}, {"fd", writer.keep(words.get())}}}},
      {"free_records", {5, 4, 3}},
      {"stacks", {{"next_question", 7}, {"pipes", {{{"id", 2}, {"fd", writer.keep(pipe.get())}}}}}},
      {"totals", {{"gone", json::object()}, {"live", json::array()}}}};
  json with_totals = world;
  auto board = ipc::Scoreboard::create();
  ASSERT_TRUE(board.ok());
  with_totals["totals"] = Totals(*board).save();
  writer.document["world"] = with_totals;
  StateReader reader = read_back(writer);

  Listeners listeners({}, log_);
  ProcessWorld after(loop_, log_, listeners, std::move(*board), {});
  std::vector<std::uint64_t> ready;
  std::vector<std::uint64_t> forked;
  after.set_events({.mold_message = [&](MoldId id, const ipc::MoldMessage&,
                                        std::string) { forked.push_back(id); },
                    .worker_message = [&](WorkerId id, const ipc::WorkerMessage&,
                                          std::string) { ready.push_back(id); },
                    .worker_channel_closed = [](WorkerId) {},
                    .log_files_taken = [](std::uint64_t, std::uint64_t) {},
                    .time = [] {},
                    .look = [] {},
                    .leave = [](int) {}});
  const auto restored = after.restore(reader.document()["world"], reader);
  ASSERT_TRUE(restored.ok()) << restored.error().message();
  EXPECT_EQ(after.last_words_of_worker(2), "Fatal");
  EXPECT_EQ(after.take_record(), 3);
  const auto raw = std::chrono::milliseconds(ipc::monotonic_ns() / 1'000'000);
  EXPECT_LE(after.now(), raw - std::chrono::milliseconds(4000));

  StateWriter again;
  const json saved = after.save(again);
  EXPECT_EQ(again.descriptors().size(), writer.descriptors().size());
  EXPECT_EQ(saved["workers"][0]["waiting"][0]["text"], waits["text"]);
  EXPECT_EQ(saved["stacks"]["next_question"], 7);
  EXPECT_EQ(saved["stopped"], 5000);

  (void)mold->second.send(ipc::encode(ipc::MoldMessage{ipc::Forked{2, 99}}));
  (void)worker->second.send(ipc::encode(ipc::WorkerMessage{ipc::Ready{"asgi"}}));
  for (int i = 0; i < 20 && (ready.empty() || forked.empty()); ++i) loop_.run_nowait();
  EXPECT_EQ(ready, std::vector<std::uint64_t>{2});
  EXPECT_EQ(forked, std::vector<std::uint64_t>{1});
  ipc::Record record;
  ASSERT_EQ(worker->second.receive(record), ipc::Channel::ReceiveResult::received);
  EXPECT_EQ(record.text, waits["text"]);
  EXPECT_EQ(record.descriptors.size(), 1u);
}

TEST_F(SavedPartsTest, totals_do_not_fall) {
  auto board = ipc::Scoreboard::create();
  ASSERT_TRUE(board.ok());
  Totals before(*board);
  for (const int record : {0, 1}) {
    board->clear(record);
    before.open(record);
    ipc::bump(board->record(record).requests[2], 10);
    ipc::count_duration(board->record(record), 2'000'000);
  }
  before.close(0, 1'000'000'000);
  const Counters sum = before.sum(1'000'000'000);
  Totals after(*board);
  after.restore(json::parse(before.save().dump()));
  EXPECT_EQ(after.sum(1'000'000'000), sum);
  ipc::bump(board->record(1).requests[2], 5);
  EXPECT_EQ(after.sum(1'000'000'000).requests[2], 25u);
  after.close(1, 1'000'000'000);
  EXPECT_EQ(after.sum(1'000'000'000).requests[2], 25u);
}

TEST_F(SavedPartsTest, a_notifier_does_not_say_again_what_was_said) {
  const std::string address = "@mgr-saved-notify-" + std::to_string(::getpid());
  const UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto target = net::make_unix_address(address).value();
  ASSERT_EQ(::bind(manager.get(), target.get(), target.length), 0);
  const auto next = [&] {
    char text[512];
    const ssize_t n = ::recv(manager.get(), text, sizeof text, 0);
    return std::string(text, n > 0 ? static_cast<std::size_t>(n) : 0);
  };
  Notifier before(loop_, {.socket = address, .watchdog = std::chrono::seconds(7)}, log_);
  before.tell({ServiceReport::State::ready, "2 workers"});
  EXPECT_NE(next(), "");
  const json saved = json::parse(before.save().dump());
  const NotifyOptions options = Notifier::options_from(saved);
  EXPECT_EQ(options.socket, address);
  EXPECT_EQ(options.watchdog, std::chrono::seconds(7));
  Notifier after(loop_, options, log_);
  after.restore(saved);
  after.tell({ServiceReport::State::ready, "2 workers"});
  EXPECT_EQ(next(), "");
  after.tell({ServiceReport::State::ready, "3 workers"});
  EXPECT_EQ(next(), "STATUS=3 workers");
}

}  // namespace
}  // namespace mgr::manager
