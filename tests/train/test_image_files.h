#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "duet/core/error.h"
#include "duet/core/file.h"
#include "duet/train/image_steps.h"

namespace duet::train {

// A fresh directory per test, and the committed images.
class ImageFiles : public ::testing::Test {
 protected:
  ImageFiles() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ = std::filesystem::temp_directory_path() / ("duet_" + std::string(test->test_suite_name()) + "_" +
                                                           test->name() + "_" + std::to_string(::getpid()));
    std::filesystem::remove_all(directory_);
    make_directories(directory_.string());
  }
  ~ImageFiles() override { std::filesystem::remove_all(directory_); }

  static std::string fixture(const std::string& name) { return DUET_SOURCE_DIR "/tests/train/fixtures/images/" + name; }
  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream out(path(name), std::ios::binary | std::ios::trunc);
    out << bytes;
    EXPECT_TRUE(out.flush()) << name;
    return path(name);
  }

  // The action must throw an Error of one line that holds both parts, and print nothing.
  template <class Action>
  static void expect_error(Action action, const std::string& part1, const std::string& part2) {
    ::testing::internal::CaptureStderr();
    std::string message = "no error";
    try {
      action();
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
    EXPECT_NE(message.find(part1), message.npos) << message << "\nlacks: " << part1;
    EXPECT_NE(message.find(part2), message.npos) << message << "\nlacks: " << part2;
    EXPECT_EQ(message.find('\n'), message.npos) << message;
  }

  std::filesystem::path directory_;
};

// Numbers that jump about, the same as in make_image_fixtures.py.
inline Image test_pattern(int width, int height) {
  Image image{width, height, {}};
  const uint64_t bytes = static_cast<uint64_t>(width) * static_cast<uint64_t>(height) * 3;
  for (uint64_t i = 0; i < bytes; ++i) image.rgb.push_back(static_cast<uint8_t>((i * i * 31 + i * 7) >> 3));
  return image;
}

}  // namespace duet::train
