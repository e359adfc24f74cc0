#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

// What a scale survives, what ends it, and what `workers: auto` leaves room for.
class Scaling : public LifecycleTest {
 protected:
  void scale_to(int workers) {
    life_->scale(Lifecycle::ScaleTo{workers}, noting(others_));
    run_on();
    ASSERT_TRUE(others_.back().ok) << others_.back().message;
    ASSERT_TRUE(life_->scaled());
  }
  // A reload, whose settings bring this number of workers, or none.
  void reload_with(std::optional<int> workers) {
    new_workers_ = workers;
    reload();
    load_mold();
    run_on();
    boot_all();
    ASSERT_TRUE(reloads_.back().ok);
  }
};

TEST_F(Scaling, HoldsAcrossReloadsRestartsAndDeaths) {
  start_ready(1);
  EXPECT_FALSE(life_->scaled());
  scale_to(3);
  reload_with(std::nullopt);
  life_->restart({}, noting(others_));
  run_on();
  dies(current(2).id, kSegfault);
  boot_all();
  mold_dies(newest_mold(), kKilled);
  pass(Millis(200));
  load_mold();
  EXPECT_EQ(life_->target(), 3);
  EXPECT_TRUE(life_->scaled());
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2}));
}

TEST_F(Scaling, IsEndedByAReloadWhoseSettingsBringAnotherNumber) {
  start_ready(1);
  scale_to(3);
  reload_with(2);
  EXPECT_EQ(life_->target(), 2);
  EXPECT_FALSE(life_->scaled());
}

TEST_F(Scaling, IsEndedByANumberThatHappensToBeTheSame) {
  start_ready(1);
  scale_to(3);
  reload_with(3);
  EXPECT_EQ(life_->target(), 3);
  EXPECT_FALSE(life_->scaled());
}

TEST_F(Scaling, IsNotEndedByAReloadThatIsRolledBack) {
  start_ready(1);
  scale_to(3);
  new_workers_ = 2;
  reload();
  fail_mold();
  run_on();
  ASSERT_FALSE(reloads_.back().ok);
  EXPECT_EQ(life_->target(), 3);
  EXPECT_TRUE(life_->scaled());
}

TEST_F(Scaling, ThatWasAskedForDuringAReloadComesAfterTheNumberThatTheReloadBrings) {
  start_ready(1);
  new_workers_ = 2;
  reload();
  life_->scale(Lifecycle::ScaleTo{4}, noting(others_));
  load_mold();
  for (int i = 0; i < 5; ++i) run_on();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_TRUE(others_[0].ok);
  EXPECT_EQ(life_->target(), 4);
  EXPECT_TRUE(life_->scaled());
}

TEST_F(Scaling, ByOneIsAScaleLikeAnyOther) {
  start_ready(2);
  life_->scale(Lifecycle::ScaleBy{1}, noting(others_));
  run_on();
  EXPECT_TRUE(life_->scaled());
  reload_with(std::nullopt);
  EXPECT_EQ(life_->target(), 3);
}

TEST_F(Scaling, ThatIsRefusedHoldsNothing) {
  start_ready(2);
  life_->scale(Lifecycle::ScaleTo{513}, noting(others_));
  world_->fail_slots = true;
  life_->scale(Lifecycle::ScaleTo{5}, noting(others_));
  EXPECT_FALSE(life_->scaled());
}

TEST_F(Scaling, AutomaticIsCutToWhatFitsBesideTheMold) {
  start(6);
  world_->fit = 2;
  load_mold();
  boot_all();
  EXPECT_EQ(life_->target(), 2);
  EXPECT_EQ(life_->phase(), Phase::running);
  EXPECT_EQ(count_serving(), 2);
  EXPECT_FALSE(life_->scaled());
  expect_all_sockets_served();
}

TEST_F(Scaling, AutomaticIsCutByTheMoldThatHadTheApplicationThoughItIsGivenUp) {
  start(6);
  world_->fit = 2;
  load_mold({"thread 'reporter'"});
  world_->fit = 5;  // a mold without the application
  load_mold();
  boot_all();
  EXPECT_EQ(life_->target(), 2);
}

TEST_F(Scaling, AutomaticIsCutAgainByTheNewMoldOfAReload) {
  start_ready(4);
  world_->fit = 3;
  reload_with(4);
  EXPECT_EQ(life_->target(), 3);
  world_->fit = 512;
  reload_with(4);
  EXPECT_EQ(life_->target(), 4);
}

TEST_F(Scaling, ANumberIsNotCut) {
  settings_.workers = 4;
  start(4);
  world_->fit = 1;
  load_mold();
  boot_all();
  EXPECT_EQ(life_->target(), 4);
  reload_with(5);
  EXPECT_EQ(life_->target(), 5);
}

TEST_F(Scaling, AScaleIsNotCut) {
  start_ready(2);
  world_->fit = 1;
  scale_to(4);
  reload_with(std::nullopt);
  EXPECT_EQ(life_->target(), 4);
}

TEST_F(Scaling, AutomaticIsNotCutByALaterMoldOfTheSameGeneration) {
  start_ready(3);
  world_->fit = 1;
  mold_dies(newest_mold(), kKilled);
  pass(Millis(200));
  load_mold();
  EXPECT_EQ(life_->target(), 3);
  EXPECT_EQ(count_serving(), 3);
}

}  // namespace
}  // namespace mgr::manager
