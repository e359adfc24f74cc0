// An upgrade among the changes of the life cycle: its turn, and who may interrupt it.

#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

class UpgradeChangeTest : public LifecycleTest {
 protected:
  void upgrade() {
    life_->upgrade([this] { ++begun_; }, noting(upgrades_));
  }

  int begun_ = 0;
  std::vector<Outcome> upgrades_;
};

TEST_F(UpgradeChangeTest, begins_once_the_first_start_is_over) {
  start(2);
  upgrade();
  EXPECT_EQ(begun_, 0);
  load_mold();
  boot_all();
  EXPECT_EQ(begun_, 1);
  EXPECT_TRUE(life_->upgrade_may_go_on());
}

TEST_F(UpgradeChangeTest, waits_for_a_reload) {
  start_ready(2);
  reload();
  upgrade();
  EXPECT_EQ(begun_, 0);
  load_mold();
  run_on();
  EXPECT_EQ(begun_, 1);
  EXPECT_TRUE(reloads_.at(0).ok);
}

TEST_F(UpgradeChangeTest, lets_what_came_meanwhile_go_first_and_begins_again) {
  start_ready(2);
  upgrade();
  life_->scale(Lifecycle::ScaleTo{3}, noting(others_));
  EXPECT_EQ(life_->target(), 2);
  EXPECT_FALSE(life_->upgrade_may_go_on());
  EXPECT_EQ(life_->target(), 3);
  EXPECT_EQ(begun_, 1);
  boot_all();
  EXPECT_TRUE(others_.at(0).ok);
  EXPECT_EQ(begun_, 2);
  EXPECT_TRUE(life_->upgrade_may_go_on());
}

TEST_F(UpgradeChangeTest, that_fails_lets_the_next_change_begin) {
  start_ready(2);
  upgrade();
  life_->scale(Lifecycle::ScaleTo{3}, noting(others_));
  life_->upgrade_failed({.ok = false, .message = "no program"});
  ASSERT_EQ(upgrades_.size(), 1u);
  EXPECT_EQ(upgrades_[0].message, "no program");
  boot_all();
  EXPECT_TRUE(others_.at(0).ok);
  EXPECT_FALSE(life_->upgrade_may_go_on());
}

TEST_F(UpgradeChangeTest, that_fails_at_once_is_over) {
  start_ready(2);
  life_->upgrade([this] { life_->upgrade_failed({.ok = false, .message = "at once"}); },
                 noting(upgrades_));
  ASSERT_EQ(upgrades_.size(), 1u);
  EXPECT_EQ(upgrades_[0].message, "at once");
  upgrade();
  EXPECT_EQ(begun_, 1);
}

TEST_F(UpgradeChangeTest, is_refused_while_another_is_under_way) {
  start_ready(2);
  upgrade();
  upgrade();
  ASSERT_EQ(upgrades_.size(), 1u);
  EXPECT_TRUE(upgrades_[0].conflict);
  EXPECT_TRUE(life_->upgrade_may_go_on());
}

TEST_F(UpgradeChangeTest, is_interrupted_by_a_stop) {
  start_ready(2);
  upgrade();
  life_->stop(Lifecycle::Stop::graceful);
  ASSERT_EQ(upgrades_.size(), 1u);
  EXPECT_EQ(upgrades_[0].message, "interrupted: the supervisor is stopping");
  EXPECT_FALSE(life_->upgrade_may_go_on());
  life_->upgrade_failed({.ok = false});
  EXPECT_EQ(upgrades_.size(), 1u);
  upgrade();
  EXPECT_EQ(upgrades_.at(1).message, "refused: the supervisor is stopping");
}

}  // namespace
}  // namespace mgr::manager
