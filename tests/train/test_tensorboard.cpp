#include "duet/train/tensorboard.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <map>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(c));
    out += two;
  }
  return out;
}

// The smallest PNG with the given header: 3 wide, 2 high, RGBA. Only the header is read here.
std::string png_of(uint8_t colour_type) {
  std::string png("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\3\0\0\0\2\x08", 25);
  png += static_cast<char>(colour_type);
  png.append("\0\0\0CRC!", 7);
  return png;
}

// A decoder of its own: field number -> values, where a varint or fixed value is kept as its bits.
struct Fields {
  std::multimap<uint64_t, std::string> text;
  std::multimap<uint64_t, uint64_t> number;

  explicit Fields(std::string_view bytes) {
    size_t at = 0;
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0;; shift += 7) {
        const auto byte = static_cast<unsigned char>(bytes.at(at++));
        value |= static_cast<uint64_t>(byte & 127) << shift;
        if (byte < 128) return value;
      }
    };
    const auto fixed = [&](size_t size) {
      uint64_t value = 0;
      std::memcpy(&value, bytes.substr(at, size).data(), size);
      at += size;
      return value;
    };
    while (at < bytes.size()) {
      const uint64_t key = varint();
      switch (key & 7) {
        case 0:
          number.emplace(key >> 3, varint());
          break;
        case 1:
          number.emplace(key >> 3, fixed(8));
          break;
        case 2: {
          const uint64_t size = varint();
          text.emplace(key >> 3, bytes.substr(at, size));
          at += size;
          break;
        }
        case 5:
          number.emplace(key >> 3, fixed(4));
          break;
        default:
          ADD_FAILURE() << "wire type " << (key & 7);
          return;
      }
    }
  }
  std::string only(uint64_t field) const {
    EXPECT_EQ(text.count(field), 1u) << "field " << field;
    return text.find(field)->second;
  }
  Fields sub(uint64_t field) const { return Fields(only(field)); }
  uint64_t integer(uint64_t field) const { return number.count(field) ? number.find(field)->second : 0; }
};

// Payloads of a file's records, their checksums verified.
std::vector<std::string> read_records(const std::string& path) {
  const std::string bytes = read_file(path);
  const auto masked = [](std::string_view part) {
    const uint32_t crc = crc32c({reinterpret_cast<const unsigned char*>(part.data()), part.size()});
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
  };
  std::vector<std::string> records;
  for (size_t at = 0; at < bytes.size();) {
    uint64_t length = 0;
    uint32_t crc = 0;
    std::memcpy(&length, &bytes.at(at), 8);
    std::memcpy(&crc, &bytes.at(at + 8), 4);
    EXPECT_EQ(crc, masked(std::string_view(bytes).substr(at, 8)));
    records.push_back(bytes.substr(at + 12, length));
    std::memcpy(&crc, &bytes.at(at + 12 + length), 4);
    EXPECT_EQ(crc, masked(records.back()));
    at += 16 + length;
  }
  return records;
}

TEST(TensorBoard, GoldenVersionRecord) {
  const std::string payload = tensorboard::version_event(1.0);
  EXPECT_EQ(hex(payload), "09000000000000f03f1a0d627261696e2e4576656e743a32");
  EXPECT_EQ(hex(tensorboard::record(payload)), "1800000000000000a37f4b22" + hex(payload) + "86bf577a");
}

TEST(TensorBoard, GoldenScalarRecord) {
  const std::string payload = tensorboard::scalar_event(1.0, 7, "loss", 0.5);
  EXPECT_EQ(hex(payload), "09000000000000f03f10072a0d0a0b0a046c6f7373150000003f");
  EXPECT_EQ(hex(tensorboard::record(payload)), "1a00000000000000129bd82d" + hex(payload) + "862c9a2f");
}

TEST(TensorBoard, GoldenText) {
  EXPECT_EQ(hex(tensorboard::text_event(1.0, 7, "note", "hello")),
            "09000000000000f03f10072a300a2e0a116e6f74652f746578745f73756d6d617279420f0807120412020801420568656c6c6f4a08"
            "0a060a0474657874");
}

TEST(TensorBoard, GoldenSessionStart) {
  EXPECT_EQ(hex(tensorboard::hparams_start_event(1.0, {{"lr", 0.1}})),
            "09000000000000f03f2a420a400a1c5f68706172616d735f2f73657373696f6e5f73746172745f696e666f4a200a1e0a0768706172"
            "616d7312131a110a0f0a026c721209119a9999999999b93f");
}

TEST(TensorBoard, FramesLongPayloads) {
  const std::string card(300, 'x');
  const Fields tensor = Fields(tensorboard::text_event(1.0, 1'000'000, "card", card)).sub(5).sub(1).sub(8);
  EXPECT_EQ(tensor.only(8), card);
  EXPECT_EQ(Fields(tensorboard::scalar_event(1.0, 1'000'000, "loss", 1)).integer(2), 1'000'000u);
}

TEST(TensorBoard, HparamsKeepTheirTypes) {
  const Json options{{"lr", 0.25}, {"shuffle", true}, {"schedule", "linear"}, {"freeze", {"a.*", "b"}}, {"steps", 7}};
  const Fields info =
      Fields(Fields(tensorboard::hparams_start_event(1.0, options)).sub(5).sub(1).sub(9).sub(1).only(2)).sub(3);
  std::map<std::string, Fields> values;
  for (const auto& [field, entry] : info.text) values.emplace(Fields(entry).only(1), Fields(entry).sub(2));
  ASSERT_EQ(values.size(), 5u);
  const uint64_t quarter = 0x3FD0000000000000, seven = 0x401C000000000000;
  EXPECT_EQ(values.at("lr").integer(2), quarter);
  EXPECT_EQ(values.at("steps").integer(2), seven);
  EXPECT_EQ(values.at("shuffle").integer(4), 1u);
  EXPECT_EQ(values.at("schedule").only(3), "linear");
  EXPECT_EQ(values.at("freeze").only(3), "[\"a.*\",\"b\"]");

  const Fields experiment = Fields(Fields(tensorboard::hparams_experiment_event(1.0, options, {"train/loss"}))
                                       .sub(5)
                                       .sub(1)
                                       .sub(9)
                                       .sub(1)
                                       .only(2))
                                .sub(2);
  EXPECT_EQ(experiment.text.count(4), 5u);
  EXPECT_EQ(experiment.sub(5).sub(1).only(2), "train/loss");
}

TEST(TensorBoard, ImageSizeComesFromThePng) {
  const int channels[] = {1, 0, 3, 3, 2, 0, 4};
  for (const uint8_t colour_type : {0, 2, 3, 4, 6}) {
    const std::string png = png_of(colour_type);
    const Fields image = Fields(tensorboard::image_event(1.0, 0, "example", png)).sub(5).sub(1).sub(4);
    EXPECT_EQ(image.integer(1), 2u);
    EXPECT_EQ(image.integer(2), 3u);
    EXPECT_EQ(image.integer(3), static_cast<uint64_t>(channels[colour_type]));
    EXPECT_EQ(image.only(4), png);
  }
  EXPECT_CONTAINS(message_of([] { tensorboard::image_event(1.0, 0, "example", "JPEG"); }), "example is no PNG");
}

TEST(TensorBoard, WritesAFileThatReadsBack) {
  const TemporaryDirectory directory;
  std::string path;
  {
    TensorBoardWriter writer(directory / "logs/deep");
    path = writer.path();
    writer.session_start(41);
    writer.scalar("train/loss", 42, -2);
    writer.image("example", 0, png_of(2));
    writer.text("config", 0, "**bold**");
    writer.hparams_start({{"lr", 1}}, {"train/loss"});
    writer.hparams_end(false);
    EXPECT_EQ(read_records(path).size(), 8u);  // already on the disk while the writer is open
  }
  EXPECT_TRUE(fs::path(path).filename().string().starts_with("events.out.tfevents."));
  const std::vector<std::string> records = read_records(path);
  ASSERT_EQ(records.size(), 8u);
  EXPECT_EQ(Fields(records[0]).only(3), "brain.Event:2");
  EXPECT_EQ(Fields(records[1]).integer(2), 41u);
  EXPECT_EQ(Fields(records[1]).sub(7).integer(1), 1u);  // START
  const Fields scalar = Fields(records[2]).sub(5).sub(1);
  EXPECT_EQ(scalar.only(1), "train/loss");
  EXPECT_EQ(scalar.integer(2), 0xC0000000u);  // -2 as a float
  const Fields end = Fields(Fields(records[7]).sub(5).sub(1).sub(9).sub(1).only(2)).sub(4);
  EXPECT_EQ(end.integer(1), 2u);  // failure
}

TEST(TensorBoard, EachWriterOpensItsOwnFile) {
  const TemporaryDirectory directory;
  const TensorBoardWriter first(directory.path()), second(directory.path());
  EXPECT_NE(first.path(), second.path());
  EXPECT_EQ(read_records(first.path()).size(), 1u);
  EXPECT_EQ(read_records(second.path()).size(), 1u);
}

TEST(TensorBoard, WriteErrorsNameTheFile) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "file", "");
  EXPECT_CONTAINS(message_of([&] { TensorBoardWriter writer(directory / "file"); }), directory / "file");

  TensorBoardWriter writer(directory.path());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 100;  // stands in for a full disk
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of([&] { writer.text("card", 0, std::string(1000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_CONTAINS(message, "cannot write " + writer.path() + ": File too large");
}

}  // namespace
}  // namespace duet::train
