#include "duet/train/idx.h"

#include <zlib.h>

#include <atomic>
#include <thread>

#include "duet/tests/real_data.h"
#include "duet/tests/train/test_image_files.h"

namespace duet::train {
namespace {

std::string idx_bytes(uint32_t magic, uint32_t count, uint32_t height, uint32_t width, const std::string& pixels) {
  std::string bytes;
  for (const uint32_t v : {magic, count, height, width})
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(v >> shift);
  return bytes + pixels;
}

// Three images of 3 x 2, the pixels numbered through.
std::string three_images() {
  std::string pixels;
  for (int i = 0; i < 18; ++i) pixels += static_cast<char>(i * 10);
  return idx_bytes(0x803, 3, 2, 3, pixels);
}

std::string gzipped(const std::string& bytes, const std::string& scratch) {
  gzFile file = gzopen(scratch.c_str(), "wb1");
  EXPECT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
  gzclose(file);
  return read_file(scratch);
}

class IdxTest : public ImageFiles {
 protected:
  void expect_bad(const std::string& reference, const std::string& reason) {
    const std::string file = reference.substr(0, reference.rfind('#'));
    expect_error([&] { load_image_reference(reference); }, "[idx] " + file + ": ", reason);
  }
  std::string gz(const std::string& bytes) const { return gzipped(bytes, path("scratch.gz")); }
};

TEST_F(IdxTest, ReadsPlainAndCompressedFiles) {
  for (const std::string& file :
       {write("a.idx", three_images()), write("a.idx.gz", gz(three_images())), write("odd#name.idx", three_images())}) {
    for (int i = 0; i < 3; ++i) {
      const Image image = load_image_reference(file + "#" + std::to_string(i));
      EXPECT_EQ(image.width, 3);
      EXPECT_EQ(image.height, 2);
      ASSERT_EQ(image.rgb.size(), 18u);
      for (size_t k = 0; k < 18; ++k) EXPECT_EQ(image.rgb[k], (static_cast<size_t>(i) * 6 + k / 3) * 10);
    }
  }
  const std::string reference = path("a.idx#1");
  EXPECT_EQ(load_fitted_reference(reference, {.fit = Fit::pad, .resample = Resample::bilinear}, 5).rgb,
            fit_image(load_image_reference(reference), {.fit = Fit::pad, .resample = Resample::bilinear}, 5).rgb);
}

TEST_F(IdxTest, OrdinaryFilesAreNotReferences) {
  const Image image = test_pattern(9, 4);
  for (const char* name : {"a.png", "picture#7", "b.idx#0", "c#x"}) {
    const std::string file = write(name, encode_png(image));
    EXPECT_EQ(load_image_reference(file).rgb, image.rgb) << name;
    EXPECT_EQ(load_fitted_reference(file, {.fit = Fit::pad, .resample = Resample::bilinear}, 5).rgb,
              fit_image(image, {.fit = Fit::pad, .resample = Resample::bilinear}, 5).rgb);
  }
  write("b.idx", three_images());
  EXPECT_EQ(load_image_reference(path("b.idx#0")).width, 9);  // the file of that very name
  EXPECT_EQ(load_image_reference(path("b.idx#1")).width, 3);
  for (const char* name : {"#", "#1x", "#-1", "#1234567890"})
    expect_error([&] { load_image_reference(path("b.idx") + name); }, "[image] " + path("b.idx") + name, "cannot open");
}

TEST_F(IdxTest, BadFilesAreNamed) {
  const std::string good = three_images();
  expect_bad(write("a.idx", good) + "#3", "has no image 3, only 3 (0 to 2)");
  expect_bad(path("missing.idx#0"), "No such file");
  expect_bad(directory_.string() + "#0", "is a directory");
  expect_bad(write("empty.idx", "") + "#0", "the file is empty");
  expect_bad(write("labels.idx", idx_bytes(0x801, 3, 2, 3, "x")) + "#0", "holds labels, not images");
  expect_bad(write("float.idx", idx_bytes(0xD03, 3, 2, 3, "x")) + "#0", "starts 0xd03");
  expect_bad(write("text.idx.gz", "just text") + "#0", "not gzip-compressed either");
  expect_bad(write("two", "ab") + "#0", "is not an IDX file");
  expect_bad(write("header.idx", good.substr(0, 10)) + "#0", "truncated in the header");
  expect_bad(write("short.idx", good.substr(0, good.size() - 7)) + "#0",
             "truncated: the header promises 3 images of 3 x 2, the data ends in image 1");
  expect_bad(write("long.idx", good + "x") + "#0", "more data than its header promises");
  expect_bad(write("flat.idx", idx_bytes(0x803, 3, 0, 3, "")) + "#0", "are empty");
  expect_bad(write("huge.idx", idx_bytes(0x803, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, "")) + "#0", "limit of 1024 MiB");
  expect_bad(write("none.idx", idx_bytes(0x803, 0, 2, 3, "")) + "#0", "has no image 0, only 0");
}

TEST_F(IdxTest, DamagedGzipIsRefused) {
  const std::string good = gz(three_images());
  for (const size_t size : {size_t{12}, good.size() - 9, good.size() - 4})
    expect_bad(write("cut" + std::to_string(size), good.substr(0, size)) + "#0", "the gzip data is truncated");
  std::string bad = good;
  bad[bad.size() - 6] = static_cast<char>(bad[bad.size() - 6] ^ 1);  // the checksum
  expect_bad(write("crc", bad) + "#0", "the gzip data is damaged");
}

TEST_F(IdxTest, LimitsPixels) {
  const std::string reference = write("a.idx", three_images()) + "#0";
  EXPECT_EQ(load_image_reference(reference, {.max_pixels = 6}).width, 3);
  expect_error([&] { load_image_reference(reference, {.max_pixels = 5}); }, path("a.idx"),
               "3 x 2 pixels are more than the limit of 5");
}

TEST_F(IdxTest, RewrittenFilesAreReadAnew) {
  const std::string file = write("a.idx", idx_bytes(0x803, 1, 1, 1, "A"));
  EXPECT_EQ(load_image_reference(file + "#0").rgb, (std::vector<uint8_t>{'A', 'A', 'A'}));
  write_file_atomically(file, idx_bytes(0x803, 1, 1, 1, "B"));  // a file of the same size in its place
  EXPECT_EQ(load_image_reference(file + "#0").rgb, (std::vector<uint8_t>{'B', 'B', 'B'}));
}

TEST_F(IdxTest, TheCacheIsBounded) {
  constexpr int64_t size = 100'000'000;
  const std::string compressed = gz(idx_bytes(0x803, 10'000, 100, 100, std::string(size, '\7')));
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(
        load_fitted_reference(write(name, compressed) + "#0", {.fit = Fit::pad, .resample = Resample::bilinear}, 4).rgb,
        std::vector<uint8_t>(48, 7));
    EXPECT_LE(idx_cached_bytes(), idx_cache_bytes);
    EXPECT_GE(idx_cached_bytes(), size);
  }
}

TEST_F(IdxTest, ThreadsShareFiles) {
  std::vector<std::string> files;
  for (int i = 0; i < 4; ++i)
    files.push_back(
        write("f" + std::to_string(i), gz(idx_bytes(0x803, 2, 1, 1, std::string(2, static_cast<char>(i))))));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 200; ++i)
        if (load_image_reference(files[(i + t) % 4] + "#1").rgb !=
            std::vector<uint8_t>(3, static_cast<uint8_t>((i + t) % 4)))
          ++wrong;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(IdxTest, ReadsFashionMnist) {
  const std::string file = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
  if (!testing::has_real_data({file})) return;
  const Image image = load_image_reference(file + "#9999");
  EXPECT_EQ(image.width, 28);
  EXPECT_EQ(image.height, 28);
  expect_bad(file + "#10000", "has no image 10000, only 10000 (0 to 9999)");
}

}  // namespace
}  // namespace duet::train
