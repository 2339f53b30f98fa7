#include "duet/train/image_png_stored.h"

#include <zlib.h>

#include <cstring>

#include "duet/tests/train/test_image_files.h"
#include "duet/train/image_decoder.h"

namespace duet::train {
namespace {

constexpr int64_t many_pixels = 1'000'000'000;

File opened(const std::string& bytes) {
  return File(::fmemopen(const_cast<char*>(bytes.data()), bytes.size(), "rb"));
}

bool is_stored(const std::string& bytes, int64_t max_pixels = many_pixels) {
  return store_png(opened(bytes).get(), max_pixels).bytes != nullptr;
}

// Every row, or the error.
std::string outcome(const std::string& bytes, Wanted wanted) {
  try {
    const auto decoder = open_png(opened(bytes), "a.png", {}, wanted);
    std::vector<uint8_t> row(static_cast<size_t>(decoder->width()) * 3);
    std::string all = text(decoder->width(), " x ", decoder->height(), ", ", decoder->orientation(), ": ");
    for (int y = 0; y < decoder->height(); ++y) {
      decoder->read_row(row.data());
      all.append(row.begin(), row.end());
    }
    decoder->finish();
    return all;
  } catch (const Error& e) {
    return e.what();
  }
}

// The file must come out the same whether its image data are inflated ahead or not.
std::string same_outcome(const std::string& bytes, const std::string& what) {
  const std::string plain = outcome(bytes, Wanted::size), ahead = outcome(bytes, Wanted::rows);
  EXPECT_TRUE(plain == ahead) << what << "\n" << plain.substr(0, 200) << "\n" << ahead.substr(0, 200);
  return ahead;
}

void append32(std::string& bytes, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (24 - 8 * i));
}

std::string chunk(const std::string& type, const std::string& data) {
  std::string bytes;
  append32(bytes, static_cast<uint32_t>(data.size()));
  const std::string body = type + data;
  append32(bytes += body, static_cast<uint32_t>(
                              ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
  return bytes;
}

std::string zlib_stream(const std::string& data, int level = Z_DEFAULT_COMPRESSION) {
  uLongf size = ::compressBound(data.size());
  std::string out(size, '\0');
  ::compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(data.data()), data.size(),
              level);
  out.resize(size);
  return out;
}

// 40 x 30 pixels, RGB, in chunks.
struct Parts {
  static constexpr int width = 40, height = 30;

  Parts() {
    append32(header, width);
    append32(header, height);
    header += std::string("\x08\x02\0\0\0", 5);
    for (int y = 0; y < height; ++y) {
      rows += static_cast<char>(y % 5);  // the filter
      for (int x = 0; x < width * 3; ++x) rows += static_cast<char>(x * y / 7);
    }
    stream = zlib_stream(rows);
  }
  std::string file(const std::string& image_chunks) const {
    return "\x89PNG\r\n\x1A\n" + chunk("IHDR", header) + image_chunks + chunk("IEND", "");
  }
  std::string of_stream(const std::string& data) const { return file(chunk("IDAT", data)); }

  std::string header, rows, stream;
};

using StoredPngTest = ImageFiles;

TEST_F(StoredPngTest, EveryKindHasTheSamePixels) {
  int stored = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fixture(""))) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".png")) continue;
    const std::string bytes = read_file(entry.path());
    const bool interlaced = name.find("adam7") != name.npos;
    EXPECT_EQ(is_stored(bytes), !interlaced) << name;
    stored += !interlaced;
    same_outcome(bytes, name);
  }
  EXPECT_EQ(stored, 27);
}

TEST_F(StoredPngTest, BlocksOfAnyNumber) {
  // 1456 x 15 pixels fill a block of 65,535 bytes to the last, twice as many rows two of them.
  for (const auto& [width, height] : {std::pair{1, 1}, {1456, 15}, {1456, 30}, {1456, 31}, {300, 400}}) {
    const std::string bytes = encode_png(test_pattern(width, height));
    EXPECT_TRUE(is_stored(bytes));
    same_outcome(bytes, text(width, " x ", height));
    EXPECT_EQ(decode_image(bytes, "a.png").rgb, test_pattern(width, height).rgb);
  }
}

// The contents of later chunks are moved over their heads.
TEST_F(StoredPngTest, ImageDataThatLookLikeAChunkAreImageData) {
  Parts parts;
  parts.rows.replace(600, 4, "IEND");
  const std::string plain = zlib_stream(parts.rows, 0);
  const size_t at = plain.find("IEND");
  ASSERT_NE(at, plain.npos);
  for (size_t split = at - 30; split < at + 10; ++split) {
    const std::string bytes = parts.file(chunk("IDAT", plain.substr(0, split)) + chunk("IDAT", plain.substr(split)));
    EXPECT_TRUE(is_stored(bytes)) << split;
    EXPECT_EQ(same_outcome(bytes, text("split at ", split)), same_outcome(parts.of_stream(plain), "whole"));
  }
}

TEST_F(StoredPngTest, ImageDataInSeveralChunks) {
  const Parts parts;
  const std::string whole = same_outcome(parts.of_stream(parts.stream), "one chunk");
  EXPECT_EQ(whole.substr(0, 9), "40 x 30, ");
  for (const size_t step : {size_t{1}, size_t{7}, size_t{100}}) {
    std::string chunks;
    for (size_t i = 0; i < parts.stream.size(); i += step) chunks += chunk("IDAT", parts.stream.substr(i, step));
    for (const std::string& empty : {std::string(), chunk("IDAT", "")}) {
      const std::string bytes = parts.file(empty + chunks + empty);
      EXPECT_TRUE(is_stored(bytes));
      EXPECT_EQ(same_outcome(bytes, text("chunks of ", step)), whole);
    }
  }
  const std::string note = chunk("tEXt", std::string("a\0b", 3));
  const std::string first = chunk("IDAT", parts.stream.substr(0, 50)), second = chunk("IDAT", parts.stream.substr(50));
  EXPECT_TRUE(is_stored(parts.file(note + first + second + note)));
  EXPECT_EQ(same_outcome(parts.file(note + first + second + note), "text around"), whole);
  EXPECT_FALSE(is_stored(parts.file(first + note + second)));
  same_outcome(parts.file(first + note + second), "text between");
  same_outcome(parts.file(first + second + chunk("IHDR", parts.header)), "two headers");
  same_outcome(parts.file(note), "no image data");
  EXPECT_EQ(same_outcome(parts.of_stream(parts.stream) + "more", "more behind the end"), whole);
}

TEST_F(StoredPngTest, UnusualStreamsAreLeftToLibpng) {
  const Parts parts;
  const std::string whole = outcome(parts.of_stream(parts.stream), Wanted::size);
  const auto expect_left = [&](const std::string& stream, const std::string& what) {
    EXPECT_FALSE(is_stored(parts.of_stream(stream))) << what;
    return same_outcome(parts.of_stream(stream), what);
  };
  EXPECT_EQ(expect_left(parts.stream + "more", "more behind the stream"), whole);
  EXPECT_EQ(expect_left(zlib_stream(parts.rows + "more"), "more than all rows"), whole);
  expect_left(zlib_stream(parts.rows.substr(0, parts.rows.size() - 1)), "less than all rows");
  expect_left(parts.stream.substr(0, parts.stream.size() / 2), "half a stream");
  expect_left(parts.stream.substr(0, parts.stream.size() - 4), "no checksum");
  expect_left("", "no stream");
  std::string bad = parts.stream;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  EXPECT_EQ(expect_left(bad, "another checksum"), whole);
  // Rows that repeat what lies farther back than the window announced.
  std::string narrow = parts.stream;
  narrow.replace(0, 2, "\x08\x1D");
  expect_left(narrow, "a small window");
  for (const int head : {0x7800, 0x785F, 0x88DC, 0x7720, 0x78BB}) {
    std::string other = parts.stream;
    other[0] = static_cast<char>(head >> 8);
    other[1] = static_cast<char>(head);
    expect_left(other, text("head ", head));
  }
}

TEST_F(StoredPngTest, DamageAnywhereEndsInTheSameError) {
  const std::string good = read_file(fixture("c3_d8_trns.png"));
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    EXPECT_FALSE(is_stored(bad)) << at;
    same_outcome(bad, text("byte ", at));
    same_outcome(good.substr(0, at + 1), text(at + 1, " bytes"));
  }
  // Under a sound checksum of the chunk.
  const Parts parts;
  for (size_t at = 0; at < parts.stream.size(); ++at) {
    std::string bad = parts.stream;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    same_outcome(parts.of_stream(bad), text("byte ", at, " of the stream"));
  }
}

TEST_F(StoredPngTest, NothingIsInflatedBeforeItsSizeIsAccepted) {
  const Parts parts;
  const std::string file = parts.of_stream(parts.stream);
  EXPECT_TRUE(is_stored(file, Parts::width * Parts::height));
  EXPECT_FALSE(is_stored(file, Parts::width * Parts::height - 1));
  // The rows are there, but are too many bytes to be held at once.
  const auto zeros = [](uint32_t side) {
    Parts large;
    large.header.clear();
    append32(large.header, side);
    append32(large.header, side);
    large.header += std::string("\x08\0\0\0\0", 5);
    return large.of_stream(zlib_stream(std::string(size_t{side} * (side + 1), '\0')));
  };
  static_assert(4095 * 4096 <= stored_png_limit_bytes && 4096 * 4097 > stored_png_limit_bytes);
  EXPECT_TRUE(is_stored(zeros(4095)));
  EXPECT_FALSE(is_stored(zeros(4096)));
  same_outcome(zeros(4095), "small enough");
}

}  // namespace
}  // namespace duet::train
