#include "duet/train/progress.h"

#include <gtest/gtest.h>

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

TEST(Progress, FormatsDurations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(125), "2:05");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-5), "0:00");
}

// Without a terminal there are no control characters, and few lines: here only the note and the last step.
TEST(Progress, PrintsPlainLinesToAPipe) {
  ::testing::internal::CaptureStderr();
  {
    Progress progress("fine-tune", 0, 3);
    progress.update(1, 32, 1.5, 1e-3);
    progress.note("a note");
    progress.update(2, 32, 1.25, 1e-3);
    progress.update(3, 32, 0.5, 2e-3);
    EXPECT_GT(progress.samples_per_second(), 0);
  }
  const std::string out = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(out.starts_with("a note\nfine-tune  step 3/3  loss 0.5000  lr 2.00e-03  ")) << out;
  EXPECT_TRUE(out.ends_with("0:00 left\n")) << out;
}

}  // namespace
}  // namespace duet::train
