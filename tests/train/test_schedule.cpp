#include "duet/train/schedule.h"

#include <gtest/gtest.h>

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

using Kind = Schedule::Kind;

TEST(Schedule, Golden) {
  EXPECT_DOUBLE_EQ((Schedule{Kind::linear, 10, 100}.at(55)), 0.5);
  EXPECT_NEAR((Schedule{Kind::cosine, 10, 100}.at(55)), 0.5, 1e-15);
  EXPECT_NEAR((Schedule{Kind::cosine, 10, 100}.at(99)), 0.000304586, 1e-9);
  EXPECT_NEAR((Schedule{Kind::linear, 10, 100}.at(99)), 1.0 / 90, 1e-15);
  EXPECT_EQ((Schedule{Kind::constant, 10, 100}.at(99)), 1);
}

TEST(Schedule, WarmsUpFromZero) {
  for (const Kind kind : {Kind::constant, Kind::linear, Kind::cosine}) {
    const Schedule schedule{kind, 10, 100};
    EXPECT_EQ(schedule.at(0), 0);
    EXPECT_DOUBLE_EQ(schedule.at(5), 0.5);
    EXPECT_DOUBLE_EQ(schedule.at(10), 1);
    EXPECT_EQ((Schedule{kind, 0, 100}.at(0)), 1);  // without warm-up the first step counts in full
  }
}

TEST(Schedule, StaysAtItsEndAfterTheLastStep) {
  for (const int64_t step : {100, 101, 190, 1000}) {
    EXPECT_EQ((Schedule{Kind::linear, 10, 100}.at(step)), 0);
    EXPECT_NEAR((Schedule{Kind::cosine, 10, 100}.at(step)), 0, 1e-15);
    EXPECT_EQ((Schedule{Kind::constant, 10, 100}.at(step)), 1);
  }
}

TEST(Schedule, AllWarmup) {
  const Schedule schedule{Kind::linear, 4, 4};
  EXPECT_DOUBLE_EQ(schedule.at(3), 0.75);
  EXPECT_DOUBLE_EQ(schedule.at(4), 1);
  EXPECT_DOUBLE_EQ((Schedule{Kind::linear, 8, 4}.at(3)), 0.375);  // a warm-up longer than the run
}

TEST(Schedule, Names) {
  EXPECT_EQ(parse_schedule("constant"), Kind::constant);
  EXPECT_EQ(parse_schedule("linear"), Kind::linear);
  EXPECT_EQ(parse_schedule("cosine"), Kind::cosine);
  EXPECT_CONTAINS(message_of([] { parse_schedule("Linear"); }), "\"Linear\"; use constant, linear or cosine");
}

}  // namespace
}  // namespace duet::train
