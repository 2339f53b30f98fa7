#include "duet/train/fashion_mnist.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <map>

#include "duet/core/file.h"
#include "duet/tests/real_data.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

void write_gzip(const std::string& path, const std::string& bytes) {
  gzFile file = ::gzopen(path.c_str(), "wb1");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(::gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
  ASSERT_EQ(::gzclose(file), Z_OK);
}

std::string number(size_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}

// `count` labels 0, 1, ..., 9, 0, ... and as many images of one pixel.
void write_part(const TemporaryDirectory& root, const std::string& part, size_t count) {
  std::string labels = number(0x801) + number(count);
  for (size_t i = 0; i < count; ++i) labels += static_cast<char>(i % 10);
  write_gzip(root / (part + "-labels-idx1-ubyte.gz"), labels);
  write_gzip(root / (part + "-images-idx3-ubyte.gz"),
             number(0x803) + number(count) + number(1) + number(1) + std::string(count, 'x'));
}

TEST(FashionMnist, MakesRowsOfTheIdxFiles) {
  const TemporaryDirectory root;
  write_part(root, "train", 5012);
  write_part(root, "t10k", 3);
  const auto rows = read_fashion_mnist(root.path());
  ASSERT_EQ(rows.size(), 5015u);
  EXPECT_EQ(rows[11].id, "train-00011");
  EXPECT_EQ(rows[11].image, "train-images-idx3-ubyte.gz#11");
  EXPECT_EQ(rows[11].label, "Trouser");
  EXPECT_EQ(rows[11].split, "train");
  EXPECT_FALSE(rows[11].has_text);
  EXPECT_EQ(rows[12].split, "val");  // the last 5,000
  EXPECT_EQ(rows[5011].split, "val");
  EXPECT_EQ(rows[5014].id, "test-00002");
  EXPECT_EQ(rows[5014].image, "t10k-images-idx3-ubyte.gz#2");
  EXPECT_EQ(rows[5014].label, "Pullover");
  EXPECT_EQ(rows[5014].split, "test");
}

TEST(FashionMnist, RefusesDamage) {
  const TemporaryDirectory root;
  const std::string labels = root / "t10k-labels-idx1-ubyte.gz", images = root / "t10k-images-idx3-ubyte.gz";
  const auto message = [&] { return message_of([&] { read_fashion_mnist(root.path()); }); };
  write_part(root, "train", 20);
  EXPECT_CONTAINS(message(), "apt install dataset-fashion-mnist");
  EXPECT_CONTAINS(message(), labels);

  write_part(root, "t10k", 3);
  write_gzip(labels, number(0x801) + number(4) + std::string(3, '\0'));
  EXPECT_CONTAINS(message(), labels + " announces 4 labels and holds 3");
  write_gzip(labels, number(0x803) + number(3) + std::string(3, '\0'));
  EXPECT_CONTAINS(message(), labels + " is no IDX file");
  write_gzip(labels, number(0x801) + number(3) + std::string(3, '\12'));
  EXPECT_CONTAINS(message(), "label 0 is 10");
  write_gzip(labels, number(0x801) + number(2) + std::string(2, '\0'));
  EXPECT_CONTAINS(message(), images + " holds 3 images");

  write_part(root, "t10k", 5000);
  const std::string bytes = read_file(labels);
  write_file_atomically(labels, bytes.substr(0, bytes.size() / 2));
  EXPECT_CONTAINS(message(), labels + " is damaged");
}

TEST(FashionMnistPackage, GivesTheKnownRows) {
  if (!testing::has_real_data({"/usr/share/datasets/fashion-mnist"})) return;
  const auto rows = read_fashion_mnist();
  std::map<std::string, int> splits, labels;
  for (const SourceRow& r : rows) ++splits[r.split], ++labels[r.label];
  EXPECT_EQ(splits, (std::map<std::string, int>{{"train", 55000}, {"val", 5000}, {"test", 10000}}));
  for (const std::string& label : fashion_mnist_labels()) EXPECT_EQ(labels[label], 7000) << label;
  EXPECT_EQ(rows[0].label, "Ankle boot");  // the two first of the published file
  EXPECT_EQ(rows[1].label, "T-shirt/top");
}

}  // namespace
}  // namespace duet::train
