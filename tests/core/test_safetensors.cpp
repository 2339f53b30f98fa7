#include "duet/core/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "duet/core/file.h"
#include "duet/tests/temporary_directory.h"
#include "duet/tests/train/expect.h"

namespace duet {
namespace {

using testing::TemporaryDirectory;
using train::message_of;

std::string little_endian(uint64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return bytes;
}

std::string file_of(const std::string& header, const std::string& data = "") {
  return little_endian(header.size()) + header + data;
}

std::string error_of(const std::string& bytes) {
  return message_of([&] { SafetensorsFile::parse(bytes, "model.safetensors"); });
}

Tensor half_one() {
  const std::string header = R"({"h":{"dtype":"F16","shape":[5],"data_offsets":[0,10]}})";
  const uint16_t halves[] = {0x3C00, 0xC000, 0x0001, 0x7C00, 0x7E00};
  return SafetensorsFile::parse(file_of(header, {reinterpret_cast<const char*>(halves), 10}), "half").load("h");
}

TEST(Safetensors, WritesTheReferenceBytes) {
  const TemporaryDirectory directory;
  const std::string path = directory / "golden.safetensors";
  // F16 cannot be written, so a bf16 tensor stands in its place; everything else is the reference's golden file.
  save_safetensors(path, {{"a", Tensor::full({1}, DType::bf16, 1)}, {"b", Tensor::from<float>({2}, {1, 2})}});
  std::string expected = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                         R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]}})";
  expected.resize(144, ' ');
  expected = little_endian(144) + expected + std::string("\0\0\x80\x3f\0\0\0\x40\x80\x3f", 10);
  EXPECT_EQ(expected.size(), 162u);
  EXPECT_EQ(read_file(path), expected);
}

TEST(Safetensors, ReadsTheReferenceFile) {
  std::string header = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("a":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}})";
  EXPECT_EQ(header.size(), 139u);
  header.resize(144, ' ');
  const auto file = SafetensorsFile::parse(file_of(header, std::string("\0\0\x80\x3f\0\0\0\x40\0\x3c", 10)), "golden");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.load("b").at(1), 2);
  EXPECT_EQ(file.load("a").dtype(), DType::f32);
  EXPECT_EQ(file.load("a").item(), 1);
}

TEST(Safetensors, RoundTripsEveryDtypeAndShape) {
  const TemporaryDirectory directory;
  const std::string path = directory / "all.safetensors";
  const std::vector<std::pair<std::string, Tensor>> tensors{
      {"f64", Tensor::from<double>({2, 1}, {1.5, -0.0})}, {"f32", Tensor::from<float>({}, {3})},
      {"bf16", Tensor::full({3}, DType::bf16, 0.5)},      {"i64", Tensor::from<int64_t>({1, 1, 2}, {-1, 1})},
      {"i32", Tensor::from<int32_t>({2}, {7, 8})},        {"u8", Tensor::from<uint8_t>({3}, {0, 1, 255})},
      {"none", Tensor::empty({0, 4}, DType::f32)}};
  save_safetensors(path, tensors);
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor back = file.load(name);
    EXPECT_EQ(back.shape(), tensor.shape()) << name;
    EXPECT_EQ(back.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(file.bytes(name), std::string_view(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes())) << name;
  }
}

TEST(Safetensors, ReadsDataAtAnyAlignment) {
  for (int pad = 0; pad < 8; ++pad) {
    const std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(pad, ' ');
    const float values[] = {1.25f, -8};
    const auto file = SafetensorsFile::parse(file_of(header, {reinterpret_cast<const char*>(values), 8}), "x");
    EXPECT_EQ(file.load("x").at(0), 1.25);
    EXPECT_EQ(file.load("x").at(1), -8);
  }
}

TEST(Safetensors, WidensHalfPrecision) {
  const Tensor half = half_one();
  EXPECT_EQ(half.at(0), 1);
  EXPECT_EQ(half.at(1), -2);
  EXPECT_EQ(half.at(2), 0x1p-24);
  EXPECT_TRUE(std::isinf(half.at(3)));
  EXPECT_TRUE(std::isnan(half.at(4)));
}

TEST(Safetensors, LoadsIntoMemoryOfAnotherDtype) {
  const TemporaryDirectory directory;
  const std::string path = directory / "x.safetensors";
  save_safetensors(path,
                   {{"f32", Tensor::from<float>({2}, {0.1f, -3})}, {"bf16", Tensor::full({2}, DType::bf16, 1.5)}});
  const SafetensorsFile file = SafetensorsFile::open(path);
  const Tensor wide = Tensor::zeros({2}, DType::f64), narrow = Tensor::zeros({2}, DType::f32);
  file.load_into("f32", wide);
  EXPECT_EQ(wide.at(0), static_cast<double>(0.1f));
  file.load_into("bf16", narrow);
  EXPECT_EQ(narrow.at(1), 1.5);
  EXPECT_CONTAINS(message_of([&] { file.load_into("f32", Tensor::zeros({1, 2}, DType::f32)); }), "f32 is (2)");
}

TEST(Safetensors, StaysReadableWhileTheFileIsReplaced) {
  const TemporaryDirectory directory;
  const std::string path = directory / "x.safetensors";
  save_safetensors(path, {{"x", Tensor::full({4}, DType::f32, 1)}});
  const SafetensorsFile before = SafetensorsFile::open(path);
  save_safetensors(path, {{"y", Tensor::full({1}, DType::f32, 2)}});
  EXPECT_EQ(before.load("x").at(3), 1);
  EXPECT_EQ(SafetensorsFile::open(path).load("y").item(), 2);
}

TEST(Safetensors, NamesTheBrokenRule) {
  const std::string nine = "123456789";
  const auto entry = [](const std::string& fields) { return file_of("{\"x\":{" + fields + "}}", "12345678"); };
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "HeaderTooSmall"},
      {"1234567", "HeaderTooSmall"},
      {little_endian(100'000'001), "HeaderTooLarge"},
      {little_endian(~uint64_t{0}), "HeaderTooLarge"},
      {little_endian(3) + "{}", "InvalidHeaderLength"},
      {file_of("{\"\xFF\":1}"), "InvalidHeaderDeserialization"},
      {file_of(""), "InvalidHeaderDeserialization"},
      {file_of("{} {}"), "InvalidHeaderDeserialization"},
      {file_of(std::string("{}\0", 3)), "InvalidHeaderDeserialization"},
      {file_of("\xEF\xBB\xBF{}"), "byte-order mark"},
      {file_of("[]"), "no object"},
      {file_of(std::string(200, '[') + std::string(200, ']')), "nested deeper"},
      {file_of(R"({"x":1})"), "has no dtype"},
      {file_of(R"({"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"x":{}})"), "occurs twice"},
      {file_of(R"({"__metadata__":{"a":1}})"), "is no string"},
      {file_of(R"({"__metadata__":[]})"), "is no object"},
      {file_of(R"({"__metadata__":{"a":"","a":""}})"), "occurs twice"},
      {entry(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])"), "has dtype"},
      {entry(R"("shape":[2],"data_offsets":[0,8])"), "has no dtype"},
      {entry(R"("dtype":"F32","data_offsets":[0,8])"), "has no shape"},
      {entry(R"("dtype":"F32","shape":[2])"), "has no data_offsets"},
      {entry(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "non-negative integers"},
      {entry(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "non-negative integers"},
      {entry(R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])"), "non-negative integers"},
      {entry(R"("dtype":"F32","shape":[1e1],"data_offsets":[0,8])"), "non-negative integers"},
      {entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), "two data_offsets"},
      {entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"dtype":"F32")"), "occurs twice"},
      {entry(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), "InvalidOffset"},
      {entry(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "InvalidOffset"},
      {entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "TensorInvalidInfo"},
      {entry(R"("dtype":"F4","shape":[15],"data_offsets":[0,8])"), "MisalignedSlice"},
      {entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])"), "ValidationOverflow"},
      {entry(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])"), "ValidationOverflow"},
      {entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), "MetadataIncompleteBuffer"},
      {file_of(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234567"), "MetadataIncompleteBuffer"},
      {file_of(R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],)"
               R"("data_offsets":[2,6]}})",
               "123456"),
       "InvalidOffset"},
      {file_of("{}", nine), "MetadataIncompleteBuffer"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 440449768\n", "git lfs pull"},
  };
  for (const auto& [bytes, expected] : cases) EXPECT_CONTAINS(error_of(bytes), expected);
}

TEST(Safetensors, AllowsWhatTheFormatAllows) {
  // White space around the object, unknown fields, no tensors, zero-size tensors, dtypes that cannot be computed with.
  EXPECT_TRUE(SafetensorsFile::parse(file_of(" \t\r\n{} \n"), "empty").names().empty());
  const auto file =
      SafetensorsFile::parse(file_of(R"({"x":{"dtype":"F4","shape":[2,0],"data_offsets":[0,0],"more":[1]},)"
                                     R"("y":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})",
                                     "ab"),
                             "odd");
  EXPECT_EQ(file.bytes("y"), "ab");
  EXPECT_CONTAINS(message_of([&] { file.load("y"); }), "F8_E4M3");
  EXPECT_CONTAINS(message_of([&] { file.load("z"); }), "no tensor z");
}

TEST(Safetensors, OpensAHeaderOfVeryManyTensorsInLinearTime) {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(SafetensorsFile::parse(file_of(header + "}"), "many").names().size(), 100'000u);
}

TEST(Safetensors, NeedsAFile) {
  const TemporaryDirectory directory;
  EXPECT_CONTAINS(message_of([&] { SafetensorsFile::open(directory / "none"); }), "No such file");
  EXPECT_CONTAINS(message_of([&] { SafetensorsFile::open(directory.path()); }), "is a directory");
  EXPECT_CONTAINS(message_of([&] { SafetensorsFile::open("/dev/zero"); }), "no regular file");
}

TEST(AtomicFile, ReplacesFilesOnly) {
  const TemporaryDirectory directory;
  const std::string target = directory / "target", link = directory / "link", pipe = directory / "pipe";
  write_file_atomically(target, "old");
  std::filesystem::create_symlink("target", link);
  write_file_atomically(link, "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_file(target), "new");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_CONTAINS(message_of([&] { AtomicFile file(pipe); }), "it is no regular file");
  EXPECT_CONTAINS(message_of([&] { AtomicFile file("/dev/null"); }), "it is no regular file");
  EXPECT_CONTAINS(message_of([&] { AtomicFile file(directory.path()); }), "it is a directory");
  EXPECT_CONTAINS(message_of([&] { MappedFile file(pipe); }), "no regular file");  // and does not wait for a writer
}

TEST(AtomicFile, LeavesTheTargetAloneUnlessCommitted) {
  const TemporaryDirectory directory;
  const std::string path = directory / "f";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(read_file(path), "old");
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory.path())) ++entries;
  EXPECT_EQ(entries, 1u);
  AtomicFile file(path);
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(path), "new");
}

}  // namespace
}  // namespace duet
